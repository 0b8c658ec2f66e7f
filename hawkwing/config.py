"""The configuration: its models and rules, reading it from YAML, and environment variables over it.

Rules within one value are functions that return the value or raise ValueError with a sentence. Rules between
values are the `rules` of each model: they run on what was written, even where parts of it are wrong, so that
one run names every fault.
"""

from __future__ import annotations

import difflib
import gc
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hawkwing.errors import ConfigError
from hawkwing.intents import Intent, IntentType, hawkeye_refusals, order_problem
from hawkwing.sids import MAX_SIDS
from hawkwing.yaml_lines import Fault, Place, dotted, problem_lines, read_yaml_file

MAX_VALUE = 2**31 - 1  # int32 in the controller's protocol
ENVIRONMENT: Mapping[str, Place] = MappingProxyType(
    {
        "HAWKWING_CLIENT_IPV6_ADDRESS": ("client_ipv6_address",),
        "HAWKWING_HAWKEYE_ENABLED": ("hawkeye", "enabled"),
        "HAWKWING_HAWKEYE_ADDRESS": ("hawkeye", "address"),
        "HAWKWING_HAWKEYE_PORT": ("hawkeye", "port"),
    }
)
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
_T = TypeVar("_T")


# --- single values ---------------------------------------------------------------------------------


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    text = text if text.isprintable() and text.strip() else ascii(text)
    return text if len(text) <= 80 else text[:77] + "..."


def _whole(what: str, low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            raise ValueError(f'"{value}" is read as text, write {int(value)} without quotes')
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{_shown(value)} is not {what}, use {low} to {high}")
        return value

    return parse


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def _text(value: object) -> str:
    if isinstance(value, (bool, int)):
        raise ValueError(f"{_shown(value)} is not read as text, put it in quotes")
    if not isinstance(value, str):
        raise ValueError(f"must be text, but here is {_shown(value)}")
    if not value.strip():
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError(f"{_shown(value)} has characters that can't be printed")
    return value


def _ipv6(value: object, loopback: bool = False) -> IPv6Address:
    if isinstance(value, Mapping) and len(value) == 1 and str(next(iter(value))).endswith(":"):
        raise ValueError("an address that ends in :: must be in quotes, YAML takes it for a key")
    text = _shown(value)
    if "%" in text:
        raise ValueError(f"{text} has a zone (the part from %), write the address without it")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        hint = ", write the address without a prefix length" if "/" in text else ""
        raise ValueError(f"{text} is not an IPv6 address{hint}") from None
    if not isinstance(address, IPv6Address):
        raise ValueError(f"{text} is an IPv4 address, only IPv6 can be used")
    for wrong, kind in (
        (address.ipv4_mapped is not None, "an IPv4 address in IPv6 form"),
        (address.is_multicast, "a multicast address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback and not loopback, "the loopback address"),
    ):
        if wrong:
            raise ValueError(f"{text} is {kind}, which can't be used here")
    return address


def _controller_ipv6(value: object) -> IPv6Address:
    return _ipv6(value, loopback=True)  # a controller may well run on this host


def _file(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{_shown(value)} is not the name of a file")
    return Path(value)


def _prefix(value: object) -> IPv6Network:
    text = _shown(value)
    if isinstance(value, IPv6Network):
        return value
    try:
        network = ipaddress.ip_network(text, strict=False)
        if not isinstance(value, str) or "%" in text:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text} is not an IPv6 prefix such as fcbb:bb00::/32") from None
    if not isinstance(network, IPv6Network):
        raise ValueError(f"{text} is an IPv4 prefix, only IPv6 can be used")
    if IPv6Address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text} has bits set beyond its length, the prefix is {network}")
    return network


def _domain(value: object) -> str:
    """The name as it is on the wire: lower case, no dot at the end, non-ASCII letters as xn--."""
    text = _text(value)
    try:
        ipaddress.ip_address(text.removesuffix("."))
    except ValueError:
        pass
    else:
        raise ValueError(f"{text} is an address and not a name, put IPv6 addresses under ipv6_addresses")
    name = text
    if not text.isascii():
        # The standard library knows the older IDNA only, which reads these four differently.
        if len(text) > 253 or re.search("[ßς\u200c\u200d]", text):
            raise ValueError(f"{_shown(text)} can't be turned into a DNS name, write its xn-- form")
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{_shown(text)} can't be turned into a DNS name") from None
    name = name.lower().removesuffix(".")
    if len(name) > 253:
        raise ValueError(f"{_shown(text)} is {len(name)} characters long, a DNS name has at most 253")
    for label in name.split("."):
        if not label:
            raise ValueError(
                f"{_shown(text)} is not a DNS name, it has nothing between two dots or at an end"
            )
        if len(label) > 63:
            raise ValueError(
                f"{_shown(label)} is {len(label)} characters long, a part of a name has at most 63"
            )
        if wrong := re.search(r"[^a-z0-9_-]", label):
            raise ValueError(f"{_shown(text)} is not a DNS name, it has the character {wrong[0]!r} in it")
    return name


def _intent_type(value: object) -> IntentType:
    if isinstance(value, IntentType):
        return value
    names = [kind.value for kind in IntentType]
    if value not in names:
        raise ValueError(f"{_shown(value)} is not an intent{_did_you_mean(str(value), names)}")
    return IntentType(value)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f", did you mean {close[0]}?" if close else f", use one of {', '.join(known)}"


_port = _whole("a port", 0, 65535)
_value = _whole("a value for an intent", 0, MAX_VALUE)
Address = Annotated[IPv6Address, BeforeValidator(_ipv6)]
AddressSet = Annotated[tuple[Address, ...], AfterValidator(lambda listed: tuple(dict.fromkeys(listed)))]
Value = Annotated[int, BeforeValidator(_value)]


# --- models ----------------------------------------------------------------------------------------


def _try(parse: Callable[[object], _T], value: object) -> _T | None:
    try:
        return parse(value)
    except ValueError:
        return None


def _get(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)


def _list(item: object, key: str) -> Sequence[Any]:
    value = _get(item, key)
    return value if isinstance(value, (list, tuple)) else ()


def _absent(item: object, key: str) -> bool:
    return _get(item, key) in (None, [], (), {})


Rules = Iterator[tuple[Place, str]]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        """Faults between the values of `raw`, each at a place within it."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _every_fault(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(raw, cls):
            return raw
        faults: list[tuple[Place, str]] = []
        model: Self | None = None
        if isinstance(raw, Mapping):
            raw = {
                key: value for key, value in raw.items() if value is not None or key not in cls.model_fields
            }
            faults.extend(cls.rules(raw))
        try:
            model = handler(raw)
        except ValidationError as error:
            found = error.errors(include_url=False)
            faults.extend((details["loc"], _sentence(details, list(cls.model_fields))) for details in found)
        if model is not None and not faults:
            return model
        raise ValidationError.from_exception_data(
            cls.__name__,
            [
                InitErrorDetails(
                    type=PydanticCustomError("fault", "{text}", {"text": text}), loc=place, input=None
                )
                for place, text in faults
            ],
        )


def _sentence(details: ErrorDetails, keys: Sequence[str]) -> str:
    kind, value = details["type"], details["input"]
    if kind == "fault":
        return str(details["ctx"]["text"])
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"is not a known key{_did_you_mean(str(details['loc'][-1]), keys)}"
    if kind == "tuple_type":
        return f"must be a list, but here is {_shown(value)}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must have keys and values of its own, but here is {_shown(value)}"
    return f"{_shown(value)} can't be used here"


class _IntentEntry(_Model):
    intent: Annotated[IntentType, BeforeValidator(_intent_type)]
    functions: tuple[Annotated[str, BeforeValidator(_text)], ...] = ()
    flex_algo_number: Annotated[int, BeforeValidator(_whole("a Flex-Algorithm", 1, 255))] | None = None
    min_value: Value | None = None
    max_value: Value | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        kind = _try(_intent_type, raw.get("intent"))
        for key, owner in (("functions", IntentType.SFC), ("flex_algo_number", IntentType.FLEX_ALGO)):
            if kind is owner and _absent(raw, key):
                yield (key,), f"is missing, {owner.value} needs it"
            elif kind not in (owner, None) and not _absent(raw, key):
                yield (key,), f"belongs to {owner.value} only, not to {kind.value if kind else ''}"
        if kind in (IntentType.SFC, IntentType.FLEX_ALGO):
            for key in ("min_value", "max_value"):
                if key in raw:
                    yield (key,), f"can't be given with {kind.value}"
        low, high = _try(_value, raw.get("min_value")), _try(_value, raw.get("max_value"))
        if low is not None and high is not None and low > high:
            yield ("min_value",), f"{low} is above the max_value {high}"


def _read_intent(raw: object) -> Intent:
    if isinstance(raw, Intent):
        return raw
    entry = _IntentEntry.model_validate(raw)
    return Intent(entry.intent, entry.min_value, entry.max_value, entry.functions, entry.flex_algo_number)


def _type_of(raw: object) -> IntentType | None:
    return raw.type if isinstance(raw, Intent) else _try(_intent_type, _get(raw, "intent"))


class Application(_Model):
    """What is sent to one port of a service: over which SIDs, in travel order, or by which intents."""

    port: Annotated[int, BeforeValidator(_port)]
    sid: tuple[Address, ...] = ()
    intents: tuple[Annotated[Intent, PlainValidator(_read_intent)], ...] = ()

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if _absent(raw, "sid") and _absent(raw, "intents"):
            yield (), "needs sid or intents"
        if (count := len(_list(raw, "sid"))) > MAX_SIDS:
            yield ("sid",), f"has {count} SIDs, at most {MAX_SIDS} fit in a packet's segment list"
        types = [_type_of(intent) for intent in _list(raw, "intents")]
        if problem := order_problem(types):
            culprit = next(index for index in range(len(types)) if order_problem(types[: index + 1]))
            yield ("intents", culprit), problem


class Service(_Model):
    """A destination, by name or by addresses, and its applications; `domain_name` is in lower case."""

    domain_name: Annotated[str, BeforeValidator(_domain)] | None = None
    ipv6_addresses: AddressSet = ()
    applications: tuple[Application, ...] = ()

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if _absent(raw, "domain_name") and _absent(raw, "ipv6_addresses"):
            yield (), "needs domain_name or ipv6_addresses"
        if _absent(raw, "applications"):
            yield (("applications",) if "applications" in raw else ()), "needs at least one application"
        first: dict[int, int] = {}
        for index, application in enumerate(_list(raw, "applications")):
            port = _try(_port, _get(application, "port"))
            if port is not None and first.setdefault(port, index) != index:
                yield (
                    ("applications", index, "port"),
                    f"{port} is already the port of applications[{first[port]}]",
                )


class Tls(_Model):
    """TLS towards the controller: PEM files, relative ones beside the configuration file."""

    ca: Annotated[Path, BeforeValidator(_file)] | None = None
    certificate: Annotated[Path, BeforeValidator(_file)] | None = None
    key: Annotated[Path, BeforeValidator(_file)] | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if not _absent(raw, one) and _absent(raw, other):
                yield (other,), f"is missing, {one} is of no use without it"

    def beside(self, folder: Path) -> Tls:
        """The same with paths that hold from anywhere."""
        paths = {name: folder / path for name, path in self if path is not None}
        return self.model_copy(update=paths)


class Hawkeye(_Model):
    """The controller; `port` is a TCP port. With `tls`, even an empty one, the connection is encrypted."""

    enabled: Annotated[bool, BeforeValidator(_flag)] = False
    address: Annotated[IPv6Address, BeforeValidator(_controller_ipv6)] | None = None
    port: Annotated[int, BeforeValidator(_whole("a port of a controller", 1, 65535))] | None = None
    tls: Tls | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        for key in ("address", "port"):
            if raw.get("enabled") is True and _absent(raw, key):
                yield (key,), "is missing, it is needed when hawkeye.enabled is true"


class Config(_Model):
    """A whole configuration; `sr_domain` are the prefixes whose segment lists a server trusts."""

    client_ipv6_address: Address | None = None
    hawkeye: Hawkeye = Hawkeye()
    services: dict[str, Service] = {}
    sr_domain: tuple[Annotated[IPv6Network, BeforeValidator(_prefix)], ...] = ()

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        taken: dict[tuple[object, int], str] = {}
        services = raw.get("services")
        for name, service in services.items() if isinstance(services, Mapping) else ():
            if not str(name).strip():
                yield ("services", name), "has an empty name"
            places: list[tuple[Place, object]] = [
                (("ipv6_addresses", index), _try(_ipv6, address))
                for index, address in enumerate(_list(service, "ipv6_addresses"))
            ]
            places.append((("domain_name",), _try(_domain, _get(service, "domain_name"))))
            parsed = (_try(_port, _get(item, "port")) for item in _list(service, "applications"))
            ports = dict.fromkeys(port for port in parsed if port is not None)
            for place, target in places:
                for port in ports if target is not None else ():
                    other = taken.setdefault((target, port), name)
                    if other != name:
                        text = f"{target} with port {port} is already in the service {_shown(other)}"
                        yield ("services", name, *place), text


# --- reading ---------------------------------------------------------------------------------------


def load_config(
    path: Path, environ: Mapping[str, str] = _NO_ENVIRONMENT, require_services: bool = True
) -> Config:
    """Reads a configuration file; raises ConfigError with all its problems, in the order of their lines."""
    # Nothing made here is garbage before the end: looking for some takes half of the time of a large file.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _load(path, environ, require_services)
    finally:
        if collecting:
            gc.enable()


def _load(path: Path, environ: Mapping[str, str], require_services: bool) -> Config:
    document = read_yaml_file(path)
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else f"holds {_kind(document.data)} only"
        raise ConfigError(
            [f"{path}:{document.line_of(())}: {what}, a configuration has keys such as services"]
        )

    variables = _override(document.data, environ)
    faults = list(document.faults)
    config: Config | None = None
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            place = details["loc"]
            if place not in document.unread:
                faults.append(Fault(document.line_of(place), place, _sentence(details, ())))
    top = ("services",)
    if (
        require_services
        and _absent(document.data, "services")
        and all(fault.place != top for fault in faults)
    ):
        faults.append(Fault(document.line_of(top), top, "is missing, at least one service is needed"))
    if config is not None and not faults:
        return config
    raise ConfigError(problem_lines(path, document, faults, variables))


def _kind(value: object) -> str:
    return _shown(value) if isinstance(value, (list, dict)) else "a single value"


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Place, str]:
    """Puts the environment's values over the file's; returns which variable each place comes from."""
    variables: dict[Place, str] = {}
    for name, place in ENVIRONMENT.items():
        text = environ.get(name, "").strip()
        if not text:
            continue
        value: object = text
        if place[-1] == "enabled":
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        elif place[-1] == "port" and re.fullmatch(r"[0-9]{1,18}", text):
            value = int(text)
        target = data
        if len(place) > 1:
            if data.get("hawkeye") is None:
                data["hawkeye"] = {}
                variables["hawkeye",] = name
            target = data["hawkeye"]
        if isinstance(target, dict):
            target[str(place[-1])] = value
            variables[place] = name
    return variables


# --- warnings --------------------------------------------------------------------------------------


def warnings_for(config: Config) -> list[str]:
    """What is allowed but will not do what it seems to: said once at the start, and by `hawkwing check`."""
    idle: list[str] = []
    refused: list[str] = []
    for name, service in config.services.items():
        for index, application in enumerate(service.applications):
            where = f"{dotted(('services', name, 'applications', index))} (port {application.port})"
            if not application.intents:
                continue
            if not application.sid and not config.hawkeye.enabled:
                idle.append(
                    f"{where}: has intents but no sid, and hawkeye is disabled: its packets are not steered"
                )
            refused.extend(f"{where}: {text}" for text in hawkeye_refusals(application.intents))
    if refused and not config.hawkeye.enabled:
        idle.append("hawkeye is disabled: what HawkEye would refuse matters only once it is enabled")
    return idle + refused
