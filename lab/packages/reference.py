"""docs/configuration.md, the configuration reference, generated from the models and their JSON schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hawkwing.config import ENVIRONMENT
from hawkwing.config_models import (
    Application,
    CandidatePath,
    Config,
    CsidBlock,
    Decap,
    Hawkeye,
    HmacKey,
    IntentEntry,
    Probes,
    Service,
    Tls,
)
from hawkwing.config_schema import properties
from hawkwing.room import MOST
from lab.packages.manual import EXAMPLE, WITH_CONTROLLER

FILE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
TITLES: Mapping[type[BaseModel], str] = {
    Config: "Top level",
    Hawkeye: "hawkeye",
    Tls: "hawkeye.tls",
    Service: "services.NAME",
    Application: "services.NAME.applications",
    CandidatePath: "services.NAME.applications.paths",
    IntentEntry: "services.NAME.applications.intents",
    CsidBlock: "csid",
    HmacKey: "hmac",
    Probes: "probes",
    Decap: "decap",
}
#: An example of each key.
EXAMPLES: Mapping[type[BaseModel], Mapping[str, str]] = {
    Config: {
        "client_ipv6_address": "fcbb:cc00:1::a",
        "hawkeye": '{enabled: true, address: "fcbb:cc00:5::f", port: 5001}',
        "services": "{web: {domain_name: wb.hawk.net, applications: [{port: 80, sid: [fcbb:bb00:1::2]}]}}",
        "sr_domain": "[fcbb::/16]",
        "csid": "{block: fcbb:bb00::/32}",
        "hmac": "{key_id: 7, secret_file: hmac-7}",
        "probes": "{interval: 50}",
        "stamp_port": "862",
        "labels": '{fcbb:bb00:1::2: r1, "fcbb:bb00:3::": r3}',
        "decap": '{ipv6: "fcbb:cc00:2::d6", ipv4: "fcbb:cc00:2::d4"}',
    },
    CsidBlock: {"block": "fcbb:bb00::/32", "length": "16", "local": "57344"},
    HmacKey: {"key_id": "7", "secret_file": "hmac-7"},
    Probes: {"interval": "50", "stamp_port": "862"},
    Decap: {"ipv6": "fcbb:cc00:2::d6", "ipv4": "fcbb:cc00:2::d4"},
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
        "ipv4_addresses": "[192.0.2.10]",
        "mode": "encap",
        "decap_sid": "fcbb:bb00:6::d6",
        "applications": "[{port: 80, sid: [fcbb:bb00:1::2]}]",
    },
    Application: {
        "port": "80",
        "sid": "[fcbb:bb00:1::2, fcbb:bb00:6::2]",
        "paths": "[{sid: [fcbb:bb00:1::2], weight: 2}, {sid: [fcbb:bb00:6::2]}]",
        "return_sid": "[fcbb:bb00:5::2, fcbb:bb00:3::2]",
        "return_intents": "[{intent: high-bandwidth}]",
        "mode": "encap",
        "decap_sid": "fcbb:bb00:6::d6",
        "intents": "[{intent: low-latency}]",
    },
    CandidatePath: {
        "name": "upper",
        "sid": "[fcbb:bb00:1::2, fcbb:bb00:6::2]",
        "return_sid": "[fcbb:bb00:5::2, fcbb:bb00:3::2]",
        "preference": "200",
        "weight": "3",
    },
    IntentEntry: {
        "intent": "low-latency",
        "functions": "[firewall, ids]",
        "flex_algo_number": "128",
        "min_value": "10000",
        "max_value": "20000",
    },
}
#: Rules between the keys of a mapping; a file that breaks one is refused.
RULES: Mapping[type[BaseModel], tuple[str, ...]] = {
    Config: (
        "A client needs at least one service. A server needs no key, and uses only `sr_domain`, `csid`, "
        "`hmac`, `labels`, `stamp_port` and `decap`.",
        "`decap` needs `sr_domain` in the file. Its SIDs are inside one of the prefixes.",
        "Two services with the same address or name can't have the same port.",
        "With `hmac` a list has at most 12 SIDs in the packet: with `decap_sid`, and compressed SIDs in "
        "containers.",
        "A SID has one label; several SIDs can have the same label. A container of several SIDs has none.",
    ),
    Probes: (),
    Decap: (
        "`decap` needs `ipv6` or `ipv4`.",
        "The two SIDs differ. Neither is an address of this host: a server reports that, `hawkwing check` "
        "does not.",
    ),
    HmacKey: ("No two keys have the same `key_id`. There are eight at most.",),
    CsidBlock: (
        "Blocks don't overlap. There are four at most. With `sr_domain`, each is inside one of its prefixes.",
    ),
    Hawkeye: ("`enabled: true` needs `address` and `port`.",),
    Tls: ("`certificate` and `key` require each other.",),
    Service: (
        "A service needs `domain_name`, `ipv6_addresses` or `ipv4_addresses`.",
        "`ipv4_addresses` need `mode: encap` in all applications.",
        "A service needs at least one application.",
        "Each port is used once in a service.",
    ),
    Application: (
        "An application needs `sid`, `paths` or `intents`.",
        "`sid` and `paths` exclude each other.",
        "`decap_sid` needs `mode: encap`.",
        "`return_sid` and `return_intents` are valid with `mode: insert` only.",
        "`return_intents` need `intents`.",
        "With `mode: encap` a list has at most 14 SIDs, with `decap_sid`. If only the controller has lists, "
        "`decap_sid` is needed.",
        "`sfc` is the first intent. `flex-algo` is the first, or the second after `sfc`.",
    ),
    CandidatePath: ("No two paths of an application have the same name or segment list.",),
    IntentEntry: (
        "`sfc` needs `functions`; other intents don't take them.",
        "`flex-algo` needs `flex_algo_number`; other intents don't take it.",
        "`sfc` and `flex-algo` don't take `min_value` and `max_value`.",
        "`min_value` is not above `max_value`.",
    ),
}
_DEFAULT = " Default: "


def text() -> str:
    """The whole file."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield (
        "<!-- Made by `python -m lab.packages.texts`. -->\n"
        "# Configuration\n\n"
        "The file is YAML. The default is `/etc/hawkwing/config.yaml`; `--config` sets another file.\n"
        "`hawkwing check` reports all errors with line and key. `hawkwing reload` applies the changes in a\n"
        "file, or nothing if the file has an error. Editors can check the file with\n"
        "[hawkwing.schema.json](hawkwing.schema.json).\n\n"
        "A key without a value is ignored. Keys that begin with `x-` are ignored, too: use them for anchors\n"
        "and notes. All other unknown keys are errors.\n\n"
        "Write IPv6 addresses without prefix length, brackets or zone ID. Link-local, multicast,\n"
        "unspecified, loopback and IPv4-mapped addresses are errors.\n\n"
        "```yaml\n# without a controller\n" + EXAMPLE + "```\n\n"
        "```yaml\n# with a controller\n" + WITH_CONTROLLER + "```\n"
    )
    for model, title in TITLES.items():
        yield f"\n## {title}\n\n"
        yield "| key | type and limits | default | example | meaning |\n|---|---|---|---|---|\n"
        for name, property_ in properties(model).items():
            yield _row(model, name, property_)
        yield "\n" + "".join(f"- {rule}\n" for rule in RULES[model])
    yield (
        "\n## Environment\n\n"
        "Variables override the file. An empty variable is ignored.\n\n| variable | key |\n|---|---|\n"
    )
    for variable, place in ENVIRONMENT.items():
        yield f"| `{variable}` | `{'.'.join(map(str, place))}` |\n"
    yield (
        "\n## Size\n\n| in one file | at most |\n|---|---:|\n"
        f"| addresses in `ipv6_addresses` | {MOST.addresses:,} |\n"
        f"| names in `domain_name` | {MOST.names:,} |\n"
        f"| applications, each counted once per address of its service, and once for its name "
        f"| {MOST.applications:,} |\n"
        f"| different segment lists in `sid` and `paths` | {MOST.lists:,} |\n"
        f"| different sets of `paths` | {MOST.selections:,} |\n"
        "\nAt its start the agent sizes its tables for twice the content of the file. It rejects a `reload`\n"
        "that needs more; a restart allocates larger tables.\n"
    )


def _row(model: type[BaseModel], name: str, property_: Mapping[str, Any]) -> str:
    meaning, _, default = property_["description"].partition(_DEFAULT)
    if model.model_fields[name].is_required():
        default = "required"
    default, _, rest = default.partition(". ")
    default = default.removesuffix(".") or "none"
    meaning = f"{meaning} {rest}".strip()
    form = _form(property_)
    return f"| `{name}` | {form} | {default} | `{name}: {EXAMPLES[model][name]}` | {meaning} |\n"


def _form(schema: Mapping[str, Any]) -> str:
    """A description of a value with this schema."""
    if "anyOf" in schema:
        return _form(schema["anyOf"][0])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        title = next(title for model, title in TITLES.items() if model.__name__ == name)
        return f"mapping, see [{title}](#{_anchor(title)})"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if "items" in schema:
        most = f"; {schema['maxItems']} at most" if "maxItems" in schema else ""
        return f"list, each: {_form(schema['items'])}{most}"
    if "additionalProperties" in schema:
        key = schema.get("propertyNames", {}).get("title")
        most = f"; {schema['maxProperties']:,} at most" if "maxProperties" in schema else ""
        under = f"an {key}" if key else "a name"
        return f"mapping, each under {under}: {_form(schema['additionalProperties'])}{most}"
    form: str = schema["title"]
    return f"{form}, {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else form


def _anchor(title: str) -> str:
    """The anchor of a title on GitHub."""
    return re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
