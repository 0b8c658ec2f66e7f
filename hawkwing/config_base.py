"""Base of all mappings of a configuration: it reports all errors at once, each in one sentence.

Pydantic checks rules between fields only if all fields are valid. The `rules` of a model check the text as
written, so one run reports all errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hawkwing import config_values as values
from hawkwing.config_values import shown
from hawkwing.yaml_lines import Place
from hawkwing.yaml_mistakes import space_missing

Rules = Iterator[tuple[Place, str]]


class Mapped(BaseModel):
    """A mapping of a configuration, and the rules between its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: ClassVar[str]  # as in "belongs to a service"
    shape: ClassVar[str]  # what a mapping of this kind has in it

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        """Errors between the values of `raw`, each with its place in it."""
        yield from ()

    @classmethod
    def misplaced(cls, key: str, value: object) -> str | None:
        """A specific sentence for an unknown key, if there is one."""
        return None

    @model_validator(mode="wrap")
    @classmethod
    def _every_fault(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(raw, cls):
            return raw
        faults: list[tuple[Place, str]] = []
        written: dict[str, str] = {}  # other spellings of a key
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
    model: type[Mapped], raw: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str], list[tuple[Place, str]]]:
    """`raw` with corrected keys and without those that begin with x-, and the errors of the keys.

    A mistyped key counts as the correct one, which would otherwise be reported as missing, too.
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


def _meant(key: str, model: type[Mapped]) -> str | None:
    """The key of this model that was probably meant."""
    word = key.lstrip("-").partition(":")[0]
    if word != key and word in model.model_fields:
        return word
    for other in _SYNONYMS.get(word.lower(), ()):
        if other in model.model_fields:
            return other
    if _homes(word) and word + "s" not in model.model_fields:
        return None
    return values.close_match(word, list(model.model_fields))


def _unknown(key: str, value: object, meant: str | None, model: type[Mapped]) -> str:
    if meant:
        return space_missing(key) or f"is not a known key, did you mean {meant}?"
    if homes := _homes(key):
        return f"belongs to {' or '.join(homes)}, check the indentation"
    known = f"is not a known key, use one of {', '.join(model.model_fields)}"
    return model.misplaced(key, value) or known


def _homes(key: str) -> list[str]:
    """The mappings that a key belongs to."""
    return [model.title for model in reversed(Mapped.__subclasses__()) if key in model.model_fields]


#: Other words for keys, and the keys that they may mean.
_SYNONYMS = {
    "address": ("ipv6_addresses",),
    "addresses": ("ipv6_addresses",),
    "algo": ("flex_algo_number",),
    "ca_cert": ("ca",),
    "cert": ("certificate",),
    "controller": ("hawkeye",),
    "domain": ("domain_name",),
    "file": ("secret_file",),
    "fqdn": ("domain_name",),
    "host": ("address", "domain_name"),
    "hostname": ("domain_name",),
    "id": ("key_id",),
    # A number or a secret: the sentence about a number would show the secret.
    "key": ("secret_file",),
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


def _faults_in(
    error: ValidationError, cls: type[Mapped], written: Mapping[str, str]
) -> list[tuple[Place, str]]:
    """Only places and sentences: exceptions refer to frames that hold the whole file."""
    return [
        (details["loc"], _sentence(details, cls))
        for details in error.errors()
        if details["type"] != "missing" or str(details["loc"][-1]) not in written
    ]


def _sentence(details: ErrorDetails, model: type[Mapped]) -> str:
    """The sentence for an error of pydantic or of our own types."""
    value, context = details["input"], details.get("ctx", {})
    key = str(details["loc"][-1]) if details["loc"] else ""
    match details["type"]:
        case "fault":
            return str(context["text"])
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is missing"
        case "number":
            return values.no_number(value, **context)
        case "bool_type":
            return values.no_flag(value)
        case "string_type":
            return values.no_text(value)
        case "enum":
            return values.no_intent(value)
        case "tuple_type":
            return values.as_list(value, _ENTRIES[key])
        case "too_long":
            return f"has {context['actual_length']} {_TOO_MANY[key].format(context['max_length'])}"
        case "dict_type":
            return "must be a mapping, each service begins with its name, for example `web:`"
        case "model_type":
            return _no_mapping(value, model)
    return f"{shown(value)} can't be used here"


def _no_mapping(value: object, model: type[Mapped]) -> str:
    if value is None:
        return f"is empty, it must be a mapping, {model.shape}"
    if isinstance(value, str):
        word = value.split()[0] if value.split() else ""
        if found := space_missing(value):
            return found
        if word in model.model_fields and word != value:
            return f"{word} has no colon"
    return f"must be a mapping, {model.shape}"


#: An example entry of each list.
_ENTRIES = {
    "applications": "port: 80",
    "intents": "intent: low-latency",
    "return_intents": "intent: low-latency",
    "paths": "sid: [fcbb:bb00:1::2]",
    "sid": "fcbb:bb00:1::2",
    "return_sid": "fcbb:bb00:6::2",
    "ipv6_addresses": "fcbb:cc00:2::a",
    "ipv4_addresses": "192.0.2.10",
    "sr_domain": "fcbb::/16",
    "functions": "fw",
    "csid": "block: fcbb:bb00::/32",
    "hmac": "{key_id: 7, secret_file: hmac-7}",
}
#: Sentences for lists with too many entries.
_TOO_MANY = {
    "sid": "SIDs, at most {} fit in a packet's segment list",
    "return_sid": "SIDs, at most {} fit in what packets tell of the way back",
    "paths": "paths, at most {} are possible",
    "sr_domain": "prefixes, at most {} are possible",
    "csid": "blocks, at most {} are possible",
    "hmac": "keys, at most {} are possible",
}
