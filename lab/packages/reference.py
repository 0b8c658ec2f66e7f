"""docs/configuration.md, the configuration reference, made from the models and their JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, PlainValidator

from hawkwing import config_values as values
from hawkwing.config import ENVIRONMENT
from hawkwing.config_models import Application, Config, Hawkeye, Service, Tls, _IntentEntry, _read_intent
from hawkwing.config_models import _read_limit as read_limit
from hawkwing.config_schema import MEANINGS, NAMES, schema
from hawkwing.room import MOST
from hawkwing.sids import MAX_PREFIXES, MAX_SIDS
from lab.packages.manual import EXAMPLE, WITH_CONTROLLER

FILE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
TITLES: Mapping[type[BaseModel], str] = {
    Config: "Top level",
    Hawkeye: "hawkeye",
    Tls: "hawkeye.tls",
    Service: "services.NAME",
    Application: "services.NAME.applications",
    _IntentEntry: "services.NAME.applications.intents",
}
#: A value of each key, as a file has it.
EXAMPLES: Mapping[type[BaseModel], Mapping[str, str]] = {
    Config: {
        "client_ipv6_address": "fcbb:cc00:1::a",
        "hawkeye": '{enabled: true, address: "fcbb:cc00:5::f", port: 5001}',
        "services": "{web: {domain_name: wb.hawk.net, applications: [{port: 80, sid: [fcbb:bb00:1::2]}]}}",
        "sr_domain": "[fcbb::/16]",
    },
    Hawkeye: {
        "enabled": "true",
        "address": "fcbb:cc00:5::f",
        "port": "5001",
        "tls": "{ca: ca.pem}",
    },
    Tls: {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"},
    Service: {
        "domain_name": "wb.hawk.net",
        "ipv6_addresses": "[fcbb:cc00:2::a, fcbb:cc00:2::b]",
        "applications": "[{port: 80, sid: [fcbb:bb00:1::2]}]",
    },
    Application: {
        "port": "80",
        "sid": "[fcbb:bb00:1::2, fcbb:bb00:6::2]",
        "intents": "[{intent: low-latency}]",
    },
    _IntentEntry: {
        "intent": "low-latency",
        "functions": "[firewall, ids]",
        "flex_algo_number": "128",
        "min_value": "10000",
        "max_value": "20000",
    },
}
#: What a value is, by the function that reads it; a number's limits are those of the schema.
_FORMS: Mapping[Callable[..., object], str] = {
    values.read_client_address: "IPv6 address",
    values.read_controller_address: "IPv6 address, also ::1",
    values.read_controller_port: "TCP port",
    values.read_domain: "DNS name, 253 characters at most, 63 in each part; no wildcard, port or URL",
    values.read_file_name: "file name",
    values.read_flag: "`true` or `false`",
    values.read_flex_algo: "number",
    values.read_intent_type: "",
    read_limit: "whole number, no unit",
    values.read_port: "port",
    values.read_prefix: "IPv6 prefix with length",
    values.read_service_address: "IPv6 address",
    values.read_sid: "IPv6 address",
    values.read_text: "text, not empty",
}
#: Rules between the keys of a mapping; what breaks them is refused.
RULES: Mapping[type[BaseModel], tuple[str, ...]] = {
    Config: (
        "A client needs at least one service. A server needs nothing, and uses `sr_domain` only.",
        "Two services with the same address or name can't have the same port.",
    ),
    Hawkeye: ("`enabled: true` needs `address` and `port`.",),
    Tls: ("`certificate` and `key` need each other.",),
    Service: (
        "A service needs `domain_name`, `ipv6_addresses`, or both.",
        "A service needs at least one application.",
        "Each port is used once in a service.",
    ),
    Application: (
        "An application needs `sid`, `intents`, or both.",
        "`sfc` is the first intent. `flex-algo` is the first, or the second after `sfc`.",
    ),
    _IntentEntry: (
        "`sfc` needs `functions`; other intents don't take them.",
        "`flex-algo` needs `flex_algo_number`; other intents don't take it.",
        "`sfc` and `flex-algo` don't take `min_value` and `max_value`.",
        "`min_value` is not above `max_value`.",
    ),
}
_MOST_ITEMS = {(Config, "sr_domain"): MAX_PREFIXES, (Application, "sid"): MAX_SIDS}
_DEFAULT = " Default: "


def text() -> str:
    """The whole file."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield (
        "<!-- Made by `python -m lab.packages.texts`. -->\n"
        "# Configuration\n\n"
        "The file is YAML, `/etc/hawkwing/config.yaml` unless `--config` names another one.\n"
        "`hawkwing check` reports all errors with line and key. `hawkwing reload` applies a changed file:\n"
        "only differences, and nothing if the file has an error. Editors check it with\n"
        "[hawkwing.schema.json](hawkwing.schema.json).\n\n"
        "A key without a value counts as absent. Keys that begin with `x-` are ignored, for anchors and\n"
        "notes. All other unknown keys are errors.\n\n"
        "An IPv6 address has no prefix length, brackets or zone ID. Link-local, multicast, unspecified,\n"
        "loopback and IPv4-mapped addresses are errors.\n\n"
        "```yaml\n# without a controller\n" + EXAMPLE + "```\n\n"
        "```yaml\n# with a controller\n" + WITH_CONTROLLER + "```\n"
    )
    for model, title in TITLES.items():
        yield f"\n## {title}\n\n"
        yield "| key | type and limits | default | example | meaning |\n|---|---|---|---|---|\n"
        for name in model.model_fields:
            yield _row(model, name)
        yield "\n" + "".join(f"- {rule}\n" for rule in RULES[model])
    yield (
        "\n## Environment\n\n"
        "Variables override the file. An empty variable counts as absent.\n\n| variable | key |\n|---|---|\n"
    )
    for variable, place in ENVIRONMENT.items():
        yield f"| `{variable}` | `{'.'.join(map(str, place))}` |\n"
    yield (
        "\n## Size\n\n| in one file | at most |\n|---|---:|\n"
        f"| addresses in `ipv6_addresses` | {MOST.addresses:,} |\n"
        f"| names in `domain_name` | {MOST.names:,} |\n"
        f"| applications, each counted once per address of its service, and once for its name "
        f"| {MOST.applications:,} |\n"
        f"| different segment lists in `sid` | {MOST.lists:,} |\n"
        "\nThe agent makes its tables for twice what the file has at the start. A `reload` that needs more\n"
        "is refused as a whole; a restart makes room.\n"
    )


def _row(model: type[BaseModel], name: str) -> str:
    meaning, _, default = MEANINGS[model][name].partition(_DEFAULT)
    field = model.model_fields[name]
    if field.is_required():
        default = "required"
    default, _, rest = default.partition(". ")
    default = default.removesuffix(".") or "none"
    meaning = f"{meaning} {rest}".strip()
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    form = _form(kind, _properties(model)[name])
    if most := _MOST_ITEMS.get((model, name)):
        form += f"; {most} at most"
    return f"| `{name}` | {form} | {default} | `{name}: {EXAMPLES[model][name]}` | {meaning} |\n"


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    described: dict[str, Any] = schema()
    if model is not Config:
        described = described["definitions"][NAMES[model]]
    properties: dict[str, Any] = described["properties"]
    return properties


def _form(kind: Any, property_: Mapping[str, Any]) -> str:
    """What a value of this type is, in words."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        for each in inside[1:]:
            if isinstance(each, PlainValidator):
                if each.func is _read_intent:
                    return _form(_IntentEntry, property_)
                return _limited(_FORMS[each.func], property_)
        return _form(inside[0], property_)
    if origin is tuple:
        return f"list, each: {_form(inside[0], property_.get('items', {}))}"
    if origin is dict:
        return f"mapping, each under a name: {_form(inside[1], {})}"
    given = [one for one in inside if one is not type(None)]
    if given:
        return _form(given[0], property_)
    return f"mapping, see [{TITLES[kind]}](#{_anchor(TITLES[kind])})"


def _anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _limited(form: str, property_: Mapping[str, Any]) -> str:
    if "enum" in property_:
        return "one of " + ", ".join(f"`{value}`" for value in property_["enum"] if value is not None)
    if "minimum" in property_:
        return f"{form}, {property_['minimum']} to {property_['maximum']}"
    return form
