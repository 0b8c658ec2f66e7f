"""The types of a configuration's values: how they are read, and their JSON schemas.

`title` is a short description of the type, for the reference. Numbers, flags and words use pydantic's types,
after a check for common mistakes. Functions read addresses, prefixes and names.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from hawkwing import config_values as values
from hawkwing.config_labels import LONGEST, MOST_LABELS, NAME, read_labels
from hawkwing.csid import LENGTH
from hawkwing.intents import IntentType

_NOT_ROUTED = "(?![Ff][Ee][89ABab][0-9A-Fa-f]:)(?![Ff]{2}[0-9A-Fa-f]{2}:)(?!::[Ff]{4}:)(?!::$)"
_NOT_LOOPBACK = "(?!::1$)"
_LABEL = r"[A-Za-z0-9_\-\u0080-\u1fff\u2c00-\uffff]{1,63}"


def _ipv6() -> str:
    """A pattern for an IPv6 address in any of its forms."""
    group, dotted = "[0-9A-Fa-f]{1,4}", r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
    forms = [f"(?:{group}:){{7}}{group}", f"(?:{group}:){{1,7}}:", f":(?::{group}){{1,7}}", "::"]
    forms += [f"(?:{group}:){{1,{7 - n}}}(?::{group}){{1,{n}}}" for n in range(1, 7)]
    forms += [f"(?:{group}:){{6}}{dotted}", f"::(?:{group}:){{0,5}}{dotted}"]
    forms += [f"(?:{group}:){{{n}}}:(?:{group}:){{0,{5 - n}}}{dotted}" for n in range(1, 6)]
    return f"(?:{'|'.join(forms)})"


def _text(title: str, pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"title": title, "type": "string", "pattern": pattern})


@dataclass(frozen=True)
class Number:
    """Limits of a whole number, and its name in error messages."""

    what: str
    low: int
    high: int

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            core_schema.int_schema(strict=True, ge=self.low, le=self.high),
            custom_error_type="number",
            custom_error_message="is not {what}, use {low} to {high}",
            custom_error_context={"what": self.what, "low": self.low, "high": self.high},
        )


def _no_unit(value: object, info: ValidationInfo) -> object:
    return values.no_unit(value, (info.data or {}).get("intent"))


_ADDRESS = _text("IPv6 address", f"^{_NOT_ROUTED}{_NOT_LOOPBACK}{_ipv6()}$")
Sid = Annotated[IPv6Address, PlainValidator(values.read_sid), _ADDRESS]
ServiceAddress = Annotated[IPv6Address, PlainValidator(values.read_service_address), _ADDRESS]
ServiceAddress4 = Annotated[
    IPv4Address,
    PlainValidator(values.read_ipv4_address),
    _text("IPv4 address", r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$"),
]
Mode = Annotated[
    Literal["insert", "encap"],
    BeforeValidator(values.one_mode),
    WithJsonSchema({"enum": ["insert", "encap"]}),
]
ClientAddress = Annotated[IPv6Address, PlainValidator(values.read_client_address), _ADDRESS]
ControllerAddress = Annotated[
    IPv6Address,
    PlainValidator(values.read_controller_address),
    _text("IPv6 address, also ::1", f"^{_NOT_ROUTED}{_ipv6()}$"),
]
Prefix = Annotated[
    IPv6Network,
    PlainValidator(values.read_prefix),
    _text("IPv6 prefix with length", f"^{_ipv6()}/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])$"),
]
NodeLabels = Annotated[
    dict[IPv6Address, str],
    PlainValidator(read_labels),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"title": "IPv6 address", "pattern": f"^{_NOT_ROUTED}{_NOT_LOOPBACK}{_ipv6()}$"},
            "additionalProperties": {
                "title": f"name of 1 to {LONGEST} letters (a to z), digits, `.`, `-` and `_`",
                "type": "string",
                "pattern": NAME,
            },
            "maxProperties": MOST_LABELS,
        }
    ),
]
Text = Annotated[str, AfterValidator(values.printable), _text("text, not empty", r"\S")]
DomainName = Annotated[
    str,
    BeforeValidator(values.one_name),
    AfterValidator(values.printable),
    AfterValidator(values.read_domain),
    _text(
        "DNS name, 253 characters at most, 63 in each part; no wildcard, port or URL",
        rf"^(?=.{{1,254}}$)(?![0-9.]+$){_LABEL}(?:\.{_LABEL})*\.?$",
    ),
]
FileName = Annotated[Path, BeforeValidator(values.file_name), _text("file name", r"\S")]
Flag = Annotated[bool, Strict(), Field(title="`true` or `false`")]
Port = Annotated[int, Number("a port", 1, 65535), BeforeValidator(values.one_port), Field(title="port")]
ControllerPort = Annotated[
    int, Number("a port", 1, 65535), BeforeValidator(values.not_port_0), Field(title="TCP port")
]
SecretFile = Annotated[Path, BeforeValidator(values.secret_file_name), _text("file name", r"\S")]
KeyId = Annotated[int, Number("a key_id", 1, 2**32 - 1), Field(title="number")]
CsidLength = Annotated[int, Number("a known length of C-SIDs", LENGTH, LENGTH), Field(title="bits")]
LocalCsid = Annotated[int, Number("a first C-SID of links", 0x8000, 0xFFFF), Field(title="number")]
Preference = Annotated[int, Number("a preference", 0, 2**32 - 1), Field(title="number")]
Weight = Annotated[int, Number("a weight", 1, 2**32 - 1), Field(title="number")]
ProbeInterval = Annotated[
    int,
    Number("an interval in milliseconds", 10, 60_000),
    Field(title="milliseconds"),
]
FlexAlgo = Annotated[int, Number("a Flex-Algorithm", 1, 255), Field(title="number")]
Limit = Annotated[
    int,
    Number("a value for an intent", 0, values.MAX_VALUE),
    BeforeValidator(_no_unit),
    Field(title="whole number, no unit"),
]
Kind = Annotated[IntentType, WithJsonSchema({"enum": [kind.value for kind in IntentType]})]
