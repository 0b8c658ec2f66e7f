"""The models of a configuration and the rules between their values.

Rules within one value are the functions of `config_values`. Rules between values are the `rules` of each
model: they run on what was written, even where parts of it are wrong, so that one run reports all errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hawkwing.config_values import (
    as_list,
    close_match,
    forget_values,
    read_client_address,
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
    read_service_address,
    read_sid,
    read_text,
    shown,
)
from hawkwing.intents import Intent, IntentType, order_problem
from hawkwing.sids import MAX_PREFIXES, MAX_SIDS
from hawkwing.yaml_lines import Place
from hawkwing.yaml_mistakes import space_missing

_T = TypeVar("_T")


def _read_limit(value: object, info: ValidationInfo) -> int:
    return read_intent_value(value, info.data.get("intent"))


Sid = Annotated[IPv6Address, PlainValidator(read_sid)]
AddressSet = Annotated[
    tuple[Annotated[IPv6Address, PlainValidator(read_service_address)], ...],
    AfterValidator(lambda listed: tuple(dict.fromkeys(listed))),
]
Limit = Annotated[int, PlainValidator(_read_limit)]


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


def _faults_in(
    error: ValidationError, cls: type[_Model], written: Mapping[str, str]
) -> list[tuple[Place, str]]:
    """Places and sentences, and nothing else: exceptions know the frames that hold the whole file."""
    return [
        (details["loc"], _sentence(details, cls))
        for details in error.errors(include_url=False)
        if details["type"] != "missing" or str(details["loc"][-1]) not in written
    ]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    title: ClassVar[str]  # as in "belongs to a service"
    shape: ClassVar[str]  # what a mapping of this kind has in it

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
        written: dict[str, str] = {}  # what stands for a key that was meant
        model: Self | None = None
        if isinstance(raw, dict):
            known = cls.__pydantic_fields__
            if None in raw.values():
                raw = {key: value for key, value in raw.items() if value is not None or key not in known}
            if not raw.keys() <= known.keys():
                raw, written, faults = _known_keys(cls, raw)
            faults.extend(cls.rules(raw))
        try:
            model = handler(raw)
        except ValidationError as error:
            faults.extend(_faults_in(error, cls, written))
        if model is not None and not faults:
            return model
        raise ValidationError.from_exception_data(
            cls.__name__,
            [
                InitErrorDetails(
                    type=PydanticCustomError("fault", "{text}", {"text": text}),
                    loc=(written.get(str(place[0]), place[0]), *place[1:]) if place else place,
                    input=None,
                )
                for place, text in faults
            ],
        )


def _known_keys(
    model: type[_Model], raw: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str], list[tuple[Place, str]]]:
    """`raw` with the keys that were meant and without those that begin with x-, and what is wrong with them.

    A mistyped key counts as the one that was meant: else that one would be reported as missing.
    """
    kept, written = {}, {}
    faults: list[tuple[Place, str]] = []
    for key, value in raw.items():
        if key in model.model_fields:
            kept[key] = value
        elif not key.startswith("x-"):
            meant = _meant(key, model)
            faults.append(((key,), _unknown(key, value, meant, model)))
            if meant and meant not in raw and meant not in written:
                written[meant] = key
                if value is not None:
                    kept[meant] = value
    return kept, written, faults


def _meant(key: str, model: type[_Model]) -> str | None:
    """The key of this model that was probably meant by another one."""
    word = key.lstrip("-").partition(":")[0]
    if word != key and word in model.model_fields:
        return word
    for other in _SYNONYMS.get(word.lower(), ()):
        if other in model.model_fields:
            return other
    if _homes(word) and word + "s" not in model.model_fields:
        return None
    return close_match(word, list(model.model_fields))


def _unknown(key: str, value: object, meant: str | None, model: type[_Model]) -> str:
    if meant and (found := space_missing(key)):
        return found
    if meant:
        return f"is not a known key, did you mean {meant}?"
    if homes := _homes(key):
        return f"belongs to {' or '.join(homes)}, check the indentation"
    if model is Config and isinstance(value, dict) and value.keys() & Service.model_fields.keys():
        return "is not a known key; services are indented below services"
    known = f"is not a known key, use one of {', '.join(model.model_fields)}"
    return (
        f"{known}; keys for anchors begin with x-"
        if model is Config and re.match(r"x?[._]|x$", key)
        else known
    )


def _homes(key: str) -> list[str]:
    """Where in a file a key belongs."""
    models = (Hawkeye, Tls, Service, Application, _IntentEntry)
    return [model.title for model in models if key in model.model_fields]


#: What people write, and what they may mean by it.
_SYNONYMS = {
    "address": ("ipv6_addresses",),
    "addresses": ("ipv6_addresses",),
    "algo": ("flex_algo_number",),
    "ca_cert": ("ca",),
    "cert": ("certificate",),
    "controller": ("hawkeye",),
    "domain": ("domain_name",),
    "fqdn": ("domain_name",),
    "host": ("address", "domain_name"),
    "hostname": ("domain_name",),
    "max": ("max_value",),
    "min": ("min_value",),
    "name": ("intent", "domain_name"),
    "path": ("sid",),
    "ports": ("port",),
    "private_key": ("key",),
    "segments": ("sid",),
    "source_address": ("client_ipv6_address",),
    "type": ("intent",),
}


def _sentence(details: ErrorDetails, model: type[_Model]) -> str:
    kind, value, place = details["type"], details["input"], details["loc"]
    if kind == "fault":
        return str(details["ctx"]["text"])
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind == "tuple_type":
        return as_list(value, _ENTRIES[str(place[-1])])
    if kind == "dict_type":
        return "must be a mapping, each service begins with its name, for example `web:`"
    if kind == "model_type":
        return _no_mapping(value, model)
    return f"{shown(value)} can't be used here"


def _no_mapping(value: object, model: type[_Model]) -> str:
    if value is None:
        return f"is empty, it must be a mapping, {model.shape}"
    if isinstance(value, str):
        word = value.split()[0] if value.split() else ""
        if found := space_missing(value):
            return found
        if word in model.model_fields and word != value:
            return f"{word} has no colon"
    return f"must be a mapping, {model.shape}"


#: An entry of each list.
_ENTRIES = {
    "applications": "port: 80",
    "intents": "intent: low-latency",
    "sid": "fcbb:bb00:1::2",
    "ipv6_addresses": "fcbb:cc00:2::a",
    "sr_domain": "fcbb::/16",
    "functions": "fw",
}


def forget_what_was_read() -> None:
    """Lets go of what is remembered while a file is read, because it may stand there more than once."""
    forget_values()
    _intents_read.clear()


class _IntentEntry(_Model):
    title = "an intent"
    shape = "for example `- intent: low-latency`"

    intent: Annotated[IntentType, PlainValidator(read_intent_type)]
    functions: tuple[Annotated[str, PlainValidator(read_text)], ...] = ()
    flex_algo_number: Annotated[int, PlainValidator(read_flex_algo)] | None = None
    min_value: Limit | None = None
    max_value: Limit | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        kind = _try(read_intent_type, raw.get("intent"))
        for key, owner in (("functions", IntentType.SFC), ("flex_algo_number", IntentType.FLEX_ALGO)):
            if kind is owner and _absent(raw, key):
                yield (key,), f"is missing, {owner.value} needs it"
            elif kind not in (owner, None) and not _absent(raw, key):
                yield (key,), f"is valid with {owner.value} only"
        if kind in (IntentType.SFC, IntentType.FLEX_ALGO):
            for key in ("min_value", "max_value"):
                if key in raw:
                    yield (key,), f"is not valid with {kind.value}"
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

    title = "an application"
    shape = "for example `- port: 80`"

    port: Annotated[int, PlainValidator(read_port)]
    sid: tuple[Sid, ...] = ()
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

    title = "a service"
    shape = "with domain_name or ipv6_addresses, and applications"

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

    title = "hawkeye.tls"
    shape = "with the keys ca, certificate and key"

    ca: Annotated[Path, PlainValidator(read_file_name)] | None = None
    certificate: Annotated[Path, PlainValidator(read_file_name)] | None = None
    key: Annotated[Path, PlainValidator(read_file_name)] | None = None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if not _absent(raw, one) and _absent(raw, other):
                yield (other,), f"is missing, {one} requires {other} as well"

    def beside(self, folder: Path) -> Tls:
        """The same with paths that hold from anywhere."""
        paths = {name: folder / path for name, path in self if path is not None}
        return self.model_copy(update=paths)


class Hawkeye(_Model):
    """The controller; `port` is a TCP port. With `tls`, even an empty one, the connection is encrypted."""

    title = "hawkeye"
    shape = "with the keys enabled, address and port"

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

    title = "the top level"
    shape = "with the key services"

    client_ipv6_address: Annotated[IPv6Address, PlainValidator(read_client_address)] | None = None
    hawkeye: Hawkeye = Hawkeye()
    services: dict[str, Service] = {}
    sr_domain: tuple[Annotated[IPv6Network, PlainValidator(read_prefix)], ...] = ()

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if (count := len(_list(raw, "sr_domain"))) > MAX_PREFIXES:
            yield ("sr_domain",), f"has {count} prefixes, at most {MAX_PREFIXES} are possible"
        taken: dict[tuple[object, int], str] = {}
        services = raw.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if not str(name).strip():
                yield ("services", name), "has an empty name"
            places: list[tuple[Place, object]] = [
                (("ipv6_addresses", index), _try(read_service_address, address))
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
