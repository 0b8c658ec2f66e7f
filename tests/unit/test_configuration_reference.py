"""The configuration reference: current, complete, and right about what is accepted and refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from hawkwing.config import load_config
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
from hawkwing.errors import ConfigError
from lab.packages import reference

Keys = dict[str, Any]
PATH: Keys = {"port": 80, "sid": ["fcbb:bb00:1::2"]}
WEB: Keys = {"domain_name": "wb.hawk.net", "applications": [PATH]}
CONTROLLER: Keys = {"enabled": True, "address": "fcbb:cc00:5::f", "port": 5001}
#: The rest of a valid mapping.
BESIDE: dict[type[BaseModel], Keys] = {
    Config: {},
    Hawkeye: CONTROLLER,
    Tls: {"certificate": "c.pem", "key": "k.pem"},
    Service: WEB,
    Application: PATH,
    IntentEntry: {"intent": "low-latency"},
    CsidBlock: {"block": "fcbb:bb00::/32"},
    HmacKey: {"key_id": 7, "secret_file": "hmac-7"},
    Probes: {},
    Decap: {},
    CandidatePath: {"sid": ["fcbb:bb00:1::2"]},
}
INTENTS = {"functions": "sfc", "flex_algo_number": "flex-algo"}
#: Breaks a rule: the mapping of its section.
BROKEN: dict[str, tuple[type[BaseModel], Keys]] = {
    "A client needs at least one service. A server needs no key, and uses only `sr_domain`, `csid`, "
    "`hmac`, `labels`, `stamp_port` and `decap`.": (Config, {}),
    "`decap` needs `sr_domain` in the file. Its SIDs are inside one of the prefixes.": (
        Config,
        {"services": {"web": WEB}, "sr_domain": ["fcbb::/16"], "decap": {"ipv6": "fd00::d6"}},
    ),
    "`decap` needs `ipv6` or `ipv4`.": (Decap, {"x-note": "later"}),
    "The two SIDs differ. Neither is an address of this host: a server reports that, `hawkwing check` "
    "does not.": (Decap, {"ipv6": "fcbb::d6", "ipv4": "fcbb::d6"}),
    "No two keys have the same `key_id`. There are eight at most.": (
        HmacKey,
        {"key_id": 1, "secret_file": "hmac-7"},
    ),
    "With `hmac` a list has at most 12 SIDs in the packet: with `decap_sid`, and compressed SIDs in "
    "containers.": (
        Config,
        {
            "hmac": {"key_id": 1, "secret_file": "hmac-7"},
            "services": {"web": {**WEB, "applications": [{"port": 80, "sid": ["fcbb:bb00:1::2"] * 13}]}},
        },
    ),
    "A SID has one label; several SIDs can have the same label. A container of several SIDs has none.": (
        Config,
        {"services": {"web": WEB}, "csid": {"block": "fcbb:bb00::/32"}, "labels": {"fcbb:bb00:1:2::": "r1"}},
    ),
    "Two services with the same address or name can't have the same port.": (
        Config,
        {"services": {"a": WEB, "b": WEB}},
    ),
    "Blocks don't overlap. There are four at most. With `sr_domain`, each is inside one of its prefixes.": (
        CsidBlock,
        {"block": "5f00::/16"},
    ),
    "`enabled: true` needs `address` and `port`.": (Hawkeye, {"enabled": True, "port": 5001}),
    "`certificate` and `key` require each other.": (Tls, {"key": "k.pem"}),
    "A service needs `domain_name`, `ipv6_addresses` or `ipv4_addresses`.": (
        Service,
        {"applications": [PATH]},
    ),
    "`ipv4_addresses` need `mode: encap` in all applications.": (
        Service,
        {"ipv4_addresses": ["192.0.2.10"], "applications": [{**PATH, "mode": "encap"}, {**PATH, "port": 81}]},
    ),
    "A service needs at least one application.": (Service, {"domain_name": "wb.hawk.net"}),
    "Each port is used once in a service.": (Service, {**WEB, "applications": [PATH, PATH]}),
    "An application needs `sid`, `paths` or `intents`.": (Application, {"port": 80}),
    "`decap_sid` needs `mode: encap`.": (Application, {**PATH, "decap_sid": "fcbb:bb00:6::d6"}),
    "`return_sid` and `return_intents` are valid with `mode: insert` only.": (
        Application,
        {**PATH, "mode": "encap", "return_sid": ["fcbb:bb00:6::2"]},
    ),
    "`return_intents` need `intents`.": (
        Application,
        {**PATH, "return_intents": [{"intent": "low-latency"}]},
    ),
    "With `mode: encap` a list has at most 14 SIDs, with `decap_sid`. If only the controller has lists, "
    "`decap_sid` is needed.": (
        Application,
        {"port": 80, "mode": "encap", "intents": [{"intent": "low-latency"}]},
    ),
    "`sid` and `paths` exclude each other.": (Application, {**PATH, "paths": [{"sid": ["fcbb:bb00:2::2"]}]}),
    "No two paths of an application have the same name or segment list.": (
        CandidatePath,
        {"sid": ["fcbb:bb00:9:0::2"]},
    ),
    "`sfc` is the first intent. `flex-algo` is the first, or the second after `sfc`.": (
        Application,
        {
            "port": 80,
            "intents": [{"intent": "low-jitter"}, {"intent": "flex-algo", "flex_algo_number": 128}],
        },
    ),
    "`sfc` needs `functions`; other intents don't take them.": (IntentEntry, {"intent": "sfc"}),
    "`flex-algo` needs `flex_algo_number`; other intents don't take it.": (
        IntentEntry,
        {"intent": "low-jitter", "flex_algo_number": 128},
    ),
    "`sfc` and `flex-algo` don't take `min_value` and `max_value`.": (
        IntentEntry,
        {"intent": "sfc", "functions": ["a"], "max_value": 1},
    ),
    "`min_value` is not above `max_value`.": (
        IntentEntry,
        {"intent": "low-jitter", "min_value": 2, "max_value": 1},
    ),
}
ROWS = [(model, key) for model in reference.TITLES for key in model.model_fields]
NO_ADDRESS = ["fe80::1", "ff02::1", "::", "::ffff:10.0.0.1", "::1", "fcbb::1/64", "[fcbb::1]", "fcbb::1%eth0"]


def whole(model: type[BaseModel], keys: Keys) -> Keys:
    """A configuration with this mapping in its place."""
    around: dict[type[BaseModel], Keys] = {
        Hawkeye: {"hawkeye": keys},
        Tls: {"hawkeye": {**CONTROLLER, "tls": keys}},
        Service: {"services": {"web": keys}},
        Application: {"services": {"web": {**WEB, "applications": [keys]}}},
        CsidBlock: {"sr_domain": ["fcbb::/16"], "csid": keys},
        Probes: {"probes": keys},
        Decap: {"sr_domain": ["fcbb::/16"], "decap": keys},
        HmacKey: {"hmac": [{"key_id": 1, "secret_file": "hmac-7"}, keys]},
        IntentEntry: {"services": {"web": {**WEB, "applications": [{"port": 80, "intents": [keys]}]}}},
        CandidatePath: {
            "services": {
                "web": {
                    **WEB,
                    "applications": [{"port": 80, "paths": [{"sid": ["fcbb:bb00:9::2"]}, keys]}],
                }
            }
        },
    }
    return around.get(model, keys)


def load(folder: Path, model: type[BaseModel], keys: Keys, require_services: bool = False) -> Config:
    file = folder / "hawkwing.yaml"
    (folder / "hmac-7").write_text("secret")
    file.write_text(yaml.safe_dump(whole(model, keys)))
    return load_config(file, require_services=require_services)


def test_the_file_is_current() -> None:
    assert reference.FILE.read_text() == reference.text(), "run python -m lab.packages.texts"


def test_it_is_complete() -> None:
    assert set(reference.TITLES) == set(reference.RULES) == set(reference.EXAMPLES)
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", reference.text(), re.MULTILINE)
    assert rows == [key for _model, key in ROWS]
    for model in reference.TITLES:
        assert reference.EXAMPLES[model].keys() == model.model_fields.keys()


@pytest.mark.parametrize(("model", "key"), ROWS, ids=lambda one: one if isinstance(one, str) else "")
def test_examples_are_accepted(tmp_path: Path, model: type[BaseModel], key: str) -> None:
    example = yaml.safe_load(reference.EXAMPLES[model][key])
    beside = {**BESIDE[model], **({"intent": INTENTS[key]} if key in INTENTS else {})}
    if key == "paths":
        del beside["sid"]
    if key in ("ipv4_addresses", "decap_sid"):
        beside["mode"] = "encap"
    if key == "return_intents":
        beside["intents"] = [{"intent": "low-latency"}]
    if key == "decap":
        beside["sr_domain"] = ["fcbb::/16"]
    load(tmp_path, model, {**beside, key: example})


def test_whole_examples_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", reference.text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "hawkwing.yaml").write_text(block)
        load_config(tmp_path / "hawkwing.yaml")


@pytest.mark.parametrize(
    ("model", "rule"), [(m, rule) for m, rules in reference.RULES.items() for rule in rules]
)
def test_rules_are_kept(tmp_path: Path, model: type[BaseModel], rule: str) -> None:
    of, keys = BROKEN[rule]
    assert of is model
    with pytest.raises(ConfigError):
        load(tmp_path, model, keys, require_services=model is Config)


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_these_addresses_are_refused(tmp_path: Path, address: str) -> None:
    for model, key, value in (
        (Config, "client_ipv6_address", address),
        (Service, "ipv6_addresses", [address]),
        (Application, "sid", [address]),
    ):
        with pytest.raises(ConfigError):
            load(tmp_path, model, {**BESIDE[model], key: value})
    if address != "::1":
        with pytest.raises(ConfigError):
            load(tmp_path, Hawkeye, {**CONTROLLER, "address": address})
    else:
        load(tmp_path, Hawkeye, {**CONTROLLER, "address": address})


@pytest.mark.parametrize(("model", "key"), [(Config, "sr_domain"), (Application, "sid")])
def test_the_number_of_entries_is_limited(tmp_path: Path, model: type[BaseModel], key: str) -> None:
    row, *_others = re.findall(rf"^\| `{key}` \|.*?; (\d+) at most \|", reference.text(), re.MULTILINE)
    end = "/64" if key == "sr_domain" else "1"
    listed = [f"fcbb:{number:x}::{end}" for number in range(int(row) + 1)]
    load(tmp_path, model, {**BESIDE[model], key: listed[1:]})
    with pytest.raises(ConfigError):
        load(tmp_path, model, {**BESIDE[model], key: listed})


def test_links_lead_to_sections() -> None:
    text = reference.text()
    heads = {
        re.sub("[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
        for head in re.findall("^## (.*)$", text, re.M)
    }
    assert heads >= set(re.findall(r"\]\(#([^)]*)\)", text))
