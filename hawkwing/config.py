"""The configuration: its models and rules, reading it from YAML, and environment variables over it.

Rules within one value are the functions of `config_values`. Rules between values are the `rules` of each
model: they run on what was written, even where parts of it are wrong, so that one run names every fault.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hawkwing.config_values import (
    did_you_mean,
    forget_what_was_read,
    read_address,
    read_controller_address,
    read_controller_port,
    read_domain,
    read_file_name,
    read_flag,
    read_flex_algo,
    read_intent_type,
    read_intent_value,
    read_port,
    read_prefix,
    read_text,
    shown,
)
from hawkwing.errors import ConfigError
from hawkwing.intents import Intent, IntentType, hawkeye_refusals, order_problem
from hawkwing.sids import MAX_SIDS
from hawkwing.yaml_lines import Fault, Place, dotted, problem_lines, read_yaml_file

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


Address = Annotated[IPv6Address, PlainValidator(read_address)]
AddressSet = Annotated[tuple[Address, ...], AfterValidator(lambda listed: tuple(dict.fromkeys(listed)))]
Value = Annotated[int, PlainValidator(read_intent_value)]


# --- models ----------------------------------------------------------------------------------------


def _try(parse: Callable[[object], _T], value: object) -> _T | None:
    try:
        return parse(value)
    except ValueError:
        return None


def _get(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else getattr(item, key, None)


def _list(item: object, key: str) -> Sequence[Any]:
    value = _get(item, key)
    return value if isinstance(value, (list, tuple)) else ()


def _absent(item: object, key: str) -> bool:
    value = _get(item, key)
    return value is None or (isinstance(value, (list, tuple, dict)) and not value)


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
        if isinstance(raw, dict):
            if None in raw.values():
                known = cls.model_fields
                raw = {key: value for key, value in raw.items() if value is not None or key not in known}
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
        return f"is not a known key{did_you_mean(str(details['loc'][-1]), keys)}"
    if kind == "tuple_type":
        return f"must be a list, but here is {shown(value)}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must have keys and values of its own, but here is {shown(value)}"
    return f"{shown(value)} can't be used here"


class _IntentEntry(_Model):
    intent: Annotated[IntentType, PlainValidator(read_intent_type)]
    functions: tuple[Annotated[str, PlainValidator(read_text)], ...] = ()
    flex_algo_number: Annotated[int, PlainValidator(read_flex_algo)] | None = None
    min_value: Value | None = None
    max_value: Value | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        kind = _try(read_intent_type, raw.get("intent"))
        for key, owner in (("functions", IntentType.SFC), ("flex_algo_number", IntentType.FLEX_ALGO)):
            if kind is owner and _absent(raw, key):
                yield (key,), f"is missing, {owner.value} needs it"
            elif kind not in (owner, None) and not _absent(raw, key):
                yield (key,), f"belongs to {owner.value} only, not to {kind.value if kind else ''}"
        if kind in (IntentType.SFC, IntentType.FLEX_ALGO):
            for key in ("min_value", "max_value"):
                if key in raw:
                    yield (key,), f"can't be given with {kind.value}"
        low, high = (
            _try(read_intent_value, raw.get("min_value")),
            _try(read_intent_value, raw.get("max_value")),
        )
        if low is not None and high is not None and low > high:
            yield ("min_value",), f"{low} is above the max_value {high}"


_intents_read: dict[str, Intent] = {}  # by what was written: a large file has few different ones


def _read_intent(raw: object) -> Intent:
    if isinstance(raw, Intent):
        return raw
    written = repr(raw)
    intent = _intents_read.get(written)
    if intent is None:
        entry = _IntentEntry.model_validate(raw)
        intent = _intents_read[written] = Intent(
            entry.intent, entry.min_value, entry.max_value, entry.functions, entry.flex_algo_number
        )
    return intent


def _type_of(raw: object) -> IntentType | None:
    return raw.type if isinstance(raw, Intent) else _try(read_intent_type, _get(raw, "intent"))


class Application(_Model):
    """What is sent to one port of a service: over which SIDs, in travel order, or by which intents."""

    port: Annotated[int, PlainValidator(read_port)]
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

    domain_name: Annotated[str, PlainValidator(read_domain)] | None = None
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
            port = _try(read_port, _get(application, "port"))
            if port is not None and first.setdefault(port, index) != index:
                yield (
                    ("applications", index, "port"),
                    f"{port} is already the port of applications[{first[port]}]",
                )


class Tls(_Model):
    """TLS towards the controller: PEM files, relative ones beside the configuration file."""

    ca: Annotated[Path, PlainValidator(read_file_name)] | None = None
    certificate: Annotated[Path, PlainValidator(read_file_name)] | None = None
    key: Annotated[Path, PlainValidator(read_file_name)] | None = None

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

    enabled: Annotated[bool, PlainValidator(read_flag)] = False
    address: Annotated[IPv6Address, PlainValidator(read_controller_address)] | None = None
    port: Annotated[int, PlainValidator(read_controller_port)] | None = None
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
    sr_domain: tuple[Annotated[IPv6Network, PlainValidator(read_prefix)], ...] = ()

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        taken: dict[tuple[object, int], str] = {}
        services = raw.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if not str(name).strip():
                yield ("services", name), "has an empty name"
            places: list[tuple[Place, object]] = [
                (("ipv6_addresses", index), _try(read_address, address))
                for index, address in enumerate(_list(service, "ipv6_addresses"))
            ]
            places.append((("domain_name",), _try(read_domain, _get(service, "domain_name"))))
            parsed = (_try(read_port, _get(item, "port")) for item in _list(service, "applications"))
            ports = dict.fromkeys(port for port in parsed if port is not None)
            for place, target in places:
                for port in ports if target is not None else ():
                    other = taken.setdefault((target, port), name)
                    if other != name:
                        text = f"{target} with port {port} is already in the service {shown(other)}"
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
        forget_what_was_read()
        _intents_read.clear()
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
    return shown(value) if isinstance(value, (list, dict)) else "a single value"


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
