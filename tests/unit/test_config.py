"""The configuration: every rule with the line it is broken on, reading, the environment, and warnings."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest
from pydantic import ValidationError

from hawkwing.config import Application, Config, Service, check_config, load_config
from hawkwing.dataplane.layout import limits
from hawkwing.errors import ConfigError
from hawkwing.intents import Intent, IntentType
from hawkwing.selections import Candidate
from hawkwing.sids import MAX_PREFIXES

EXAMPLE = Path(__file__).parents[2] / "docs" / "example.yaml"

# Line 1 is `services:`; the tests put their own lines from line 2 on.
SERVICE = "services:\n"
# The application's own lines start at 5, or right behind its port.
APPLICATION = """services:
  web:
    domain_name: web.example
    applications:
"""
# The intents' own lines start at 7.
INTENTS = APPLICATION + "      - port: 80\n        intents:\n"
LEAST = """at least this is needed:
  services:
    web:
      domain_name: wb.hawk.net
      applications: [{port: 80, sid: [fcbb:bb00:1::2]}]"""
APP = "services.web.applications[0]"
INTENT = f"{APP}.intents"
TOP_KEYS = (
    "is not a known key, use one of client_ipv6_address, hawkeye, services, sr_domain, csid, hmac, labels, "
    "probes, stamp_port, decap"
)
NOTHING: Mapping[str, str] = {}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("hawk.yaml")


def load(
    here: Path, text: str, environ: Mapping[str, str] = NOTHING, require_services: bool = True
) -> Config:
    here.write_text(text, encoding="utf-8")
    return load_config(here, environ, require_services)


def problems(
    here: Path, text: str, environ: Mapping[str, str] = NOTHING, require_services: bool = True
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(here, text, environ, require_services)
    return caught.value.problems


# --- what is good ----------------------------------------------------------------------------------


def test_the_example_loads_as_it_stands() -> None:
    config = load_config(EXAMPLE)
    assert config.hawkeye.enabled
    assert config.hawkeye.address == IPv6Address("fcbb:cc00:5::f")
    assert config.hawkeye.port == 5001
    assert config.client_ipv6_address is None
    assert list(config.services) == ["service1", "service2", "service3"]
    assert config.services["service1"].applications == (
        Application(
            port=80,
            sid=(IPv6Address("fcbb:bb00:1::2"), IPv6Address("fcbb:bb00:2::2")),
            intents=(Intent(IntentType.SFC, functions=("function1", "function2")),),
        ),
        Application(port=8080, intents=(Intent(IntentType.FLEX_ALGO, flex_algo_number=1),)),
    )
    assert config.services["service3"].domain_name is None
    assert config.services["service3"].ipv6_addresses[2] == IPv6Address("fcbb:cc00:4::c")
    assert config.services["service3"].applications[0].intents[1] == Intent(IntentType.LOW_BANDWIDTH, 1, 2)
    assert [application.port for application in config.services["service3"].applications] == [
        443,
        8080,
        18,
        19,
    ]


def test_null_counts_as_absent(here: Path) -> None:
    text = "client_ipv6_address:\nhawkeye: null\nsr_domain: ~\n" + APPLICATION.replace(
        "    applications", "    ipv6_addresses:\n    applications"
    )
    text += "      - port: 80\n        sid: [fcbb::1]\n        intents:\n"
    config = load(here, text)
    assert config.client_ipv6_address is None
    assert not config.hawkeye.enabled
    assert config.services["web"].ipv6_addresses == ()
    assert config.services["web"].applications[0].intents == ()


def test_the_limits_are_inside(here: Path) -> None:
    sids = ", ".join(f"fcbb::{n}" for n in range(1, 16))
    text = APPLICATION + f"      - port: 1\n        sid: [{sids}]\n      - port: 65535\n        intents:\n"
    text += "          - {intent: low-latency, min_value: 0, max_value: 2147483647}\n"
    first, second = load(here, text).services["web"].applications
    assert (first.port, len(first.sid), second.port) == (1, 15, 65535)
    assert second.intents == (Intent(IntentType.LOW_LATENCY, 0, 2147483647),)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("Service1.COM.", "service1.com"),
        ("web", "web"),
        ("_sip._udp.example", "_sip._udp.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a" * 63, "a" * 63),
        (".".join(["a" * 49] * 5) + ".abc.", ".".join(["a" * 49] * 5) + ".abc"),
        ('"no"', "no"),
    ],
)
def test_names_are_normalised(here: Path, written: str, stored: str) -> None:
    text = APPLICATION.replace("web.example", written) + "      - {port: 1, sid: [fcbb::1]}\n"
    assert load(here, text).services["web"].domain_name == stored


def test_an_address_of_decimal_groups_is_no_number(here: Path) -> None:
    text = APPLICATION + "      - port: 80\n        sid:\n          - 2001:1:2:3:4:5:6:7\n"
    assert load(here, text).services["web"].applications[0].sid == (IPv6Address("2001:1:2:3:4:5:6:7"),)


def test_an_address_given_twice_in_a_service_is_kept_once(here: Path) -> None:
    text = "services:\n  a:\n    ipv6_addresses: [fcbb::1, fcbb:0::1]\n"
    text += "    applications: [{port: 1, sid: [fcbb::2]}]\n"
    assert load(here, text).services["a"].ipv6_addresses == (IPv6Address("fcbb::1"),)


def test_sr_domain(here: Path) -> None:
    config = load(here, "sr_domain: [fcbb:bb00::/32, 'fc00::1/128']\n", require_services=False)
    assert config.sr_domain == (IPv6Network("fcbb:bb00::/32"), IPv6Network("fc00::1/128"))


def test_anchors_and_merge_keys(here: Path) -> None:
    text = """services:
  a:
    domain_name: a.example
    applications: &apps
      - &first {port: 80, sid: [fcbb::1]}
      - {<<: *first, port: 81}
  b: {domain_name: b.example, applications: *apps}
"""
    config = load(here, text)
    assert config.services["a"].applications == config.services["b"].applications
    assert [(app.port, len(app.sid)) for app in config.services["b"].applications] == [(80, 1), (81, 1)]


def test_a_byte_order_mark_is_fine(here: Path) -> None:
    here.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.read_bytes())
    assert load_config(here) == load_config(EXAMPLE)


def test_what_was_read_is_shared_and_then_forgotten(here: Path) -> None:
    text = APPLICATION + "".join(
        f"      - port: {port}\n        sid: [fcbb::1]\n        intents: [{{intent: low-latency}}]\n"
        for port in (80, 81)
    )
    first, second = load(here, text).services["web"].applications
    assert first.sid[0] is second.sid[0] and first.intents[0] is second.intents[0]
    (third, _) = load(here, text).services["web"].applications
    assert third == first and third.sid[0] is not first.sid[0] and third.intents[0] is not first.intents[0]


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        load_config(EXAMPLE).hawkeye.port = 1


def test_rules_hold_for_models_made_in_code() -> None:
    app = Application(port=80, sid=(IPv6Address("fcbb::1"),))
    assert Service(domain_name="A.example", applications=(app,)).domain_name == "a.example"
    with pytest.raises(ValidationError, match="already the port"):
        Service(domain_name="a.example", applications=(app, app))
    service = Service(domain_name="a.example", applications=(app,))
    with pytest.raises(ValidationError, match="already in the service x"):
        Config(services={"x": service, "y": service})


# --- one fault at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            "  web: {applications: [{port: 1, sid: [fcbb::1]}]}",
            "2: services.web: needs domain_name or ipv6_addresses",
        ),
        ("  web:\n    domain_name: a.b", "2: services.web: needs at least one application"),
        (
            "  web:\n    domain_name: a.b\n    applications: []",
            "4: services.web.applications: needs at least one application",
        ),
        (
            "  web:",
            "2: services.web: is empty, it must be a mapping, "
            "with domain_name or ipv6_addresses, and applications",
        ),
        (
            "  web:\n    domain_name: a.b\n    application: []",
            "4: services.web.application: is not a known key, did you mean applications?",
        ),
        (
            "  '': {domain_name: a.b, applications: [{port: 1, sid: [fcbb::1]}]}",
            "2: services['']: has an empty name",
        ),
        (
            "  web:\n    domain_name: a.b\n    domain_name: c.d",
            "4: services.web.domain_name: is given twice, on line 3 and on line 4",
        ),
    ],
)
def test_services(here: Path, lines: str, problem: str) -> None:
    assert f"hawk.yaml:{problem}" in problems(here, SERVICE + lines + "\n")


@pytest.mark.parametrize(
    ("port", "sentence"),
    [
        ("99999", "99999 is not a port, use 1 to 65535"),
        ("-1", "-1 is not a port, use 1 to 65535"),
        ("true", "true is not a port, use 1 to 65535"),
        ("80/tcp", "80/tcp: a port applies to TCP and UDP, write 80"),
        ("80/UDP", "80/UDP: a port applies to TCP and UDP, write 80"),
        ("'*'", "* is more than one port, write one entry per port"),
        ("any", "any is more than one port, write one entry per port"),
        ("ALL", "ALL is more than one port, write one entry per port"),
        ("http", "http is a name, write 80"),
        ("HTTPS", "HTTPS is a name, write 443"),
        ("ssh", "ssh is a name, write 22"),
        ("domain", "domain is a name, write 53"),
        ("dns", "dns is a name, write 53"),
        ("smtp", "smtp is a name, write the number of the port"),
        ("80.5", "80.5 is not a port, use 1 to 65535"),
        ("0x50", "0x50 is not decimal, write 80"),
        ('"80"', '"80" is text, write 80 without quotes'),
        ("[80]", "a list is more than one port, write one entry per port"),
        ("", "is missing"),
        ("1" + "0" * 5000, "1" + "0" * 76 + "... is not a port, use 1 to 65535"),
        ("!!float 80", "has the YAML tag !!float, which is not supported"),
    ],
)
def test_ports(here: Path, port: str, sentence: str) -> None:
    text = APPLICATION + f"      - sid: [fcbb::1]\n        port: {port}\n"
    assert problems(here, text) == [f"hawk.yaml:6: {APP}.port: {sentence}"]


def test_a_missing_key_has_the_line_of_its_parent(here: Path) -> None:
    assert problems(here, APPLICATION + "      -\n        sid: [fcbb::1]\n") == [
        f"hawk.yaml:6: {APP}.port: is missing"
    ]


def test_an_application_needs_sid_or_intents(here: Path) -> None:
    assert problems(here, APPLICATION + "      - port: 80\n        sid: []\n") == [
        f"hawk.yaml:5: {APP}: needs sid, paths or intents"
    ]


def test_a_port_twice_in_a_service(here: Path) -> None:
    text = APPLICATION + "      - {port: 80, sid: [fcbb::1]}\n      - {port: 80, sid: [fcbb::2]}\n"
    assert problems(here, text) == [
        "hawk.yaml:6: services.web.applications[1].port: 80 is already the port of applications[0]"
    ]


@pytest.mark.parametrize(
    ("sid", "sentence"),
    [
        ("10.0.0.1", "10.0.0.1 is an IPv4 address, only IPv6 can be used"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is an IPv4 address in IPv6 form, which can't be used here"),
        ("ff02::1", "ff02::1 is a multicast address, which can't be used here"),
        ("ff20::1", "ff20::1 is a multicast address, which can't be used here"),
        ("'::'", ":: is the unspecified address, which can't be used here"),
        ("::1", "::1 is the loopback address, which can't be used here"),
        ("fe80::1%eth0", "fe80::1%eth0 is link-local: no router forwards to it"),
        ("fe80::1", "fe80::1 is link-local: no router forwards to it"),
        ("fcbb::1%eth0", "fcbb::1%eth0 has a zone ID, write the address without it"),
        ("fcbb::/64", "fcbb::/64 has a prefix length, write the address without it"),
        ("fcbb::", "an address that ends in :: must be in quotes, YAML reads it as a key"),
        ("fcbb::g", "fcbb::g is not an IPv6 address"),
        ("'[fcbb::1]:80'", "write fcbb::1 without brackets and port"),
        ("5", "5 is not an IPv6 address"),
        ("", "is empty, an IPv6 address is needed"),
        ("[fcbb::1]", "write fcbb::1 without brackets"),
        ("[fcbb::1, fcbb::2]", "a list is not an IPv6 address"),
    ],
)
def test_addresses(here: Path, sid: str, sentence: str) -> None:
    text = APPLICATION + f"      - port: 80\n        sid:\n          - fcbb::1\n          - {sid}\n"
    assert problems(here, text) == [f"hawk.yaml:8: {APP}.sid[1]: {sentence}"]
    text = "services:\n  a:\n    applications: [{port: 1, sid: [fcbb::1]}]\n"
    text += f"    ipv6_addresses:\n      - {sid}\n"
    sentence = sentence.replace(
        "IPv4 address, only IPv6 can be used", "IPv4 address: write it under ipv4_addresses, with mode: encap"
    )
    assert problems(here, text) == [f"hawk.yaml:5: services.a.ipv6_addresses[0]: {sentence}"]


def test_too_many_sids(here: Path) -> None:
    sids = ", ".join(f"fcbb::{n}" for n in range(1, 17))
    assert problems(here, APPLICATION + f"      - port: 80\n        sid: [{sids}]\n") == [
        f"hawk.yaml:6: {APP}.sid: has 16 SIDs, at most 15 fit in a packet's segment list"
    ]


def paths(*entries: str) -> str:
    return (
        APPLICATION
        + "      - port: 80\n        paths:\n"
        + "".join(f"          - {one}\n" for one in entries)
    )


def test_a_path_is_probed_ten_times_a_second_unless_told_otherwise(here: Path) -> None:
    probes = load(here, paths("{sid: [fcbb::1]}", "{sid: [fcbb::2]}") + "probes: {}\n").probes
    assert probes is not None and probes.interval == 100


def test_a_limit_of_too_many_digits_is_told_its_range(here: Path) -> None:
    intents = "      - port: 80\n        intents: [{intent: low-latency, max_value: 99999999999999999999}]\n"
    assert problems(here, APPLICATION + intents) == [
        f"hawk.yaml:6: {APP}.intents[0].max_value: 99999999999999999999 is not a value for an intent, "
        "use 0 to 2147483647"
    ]


def test_several_paths(here: Path) -> None:
    text = paths("{name: upper, sid: [fcbb::1, fcbb::2], preference: 200}", "{sid: [fcbb::3], weight: 4}")
    (application,) = load(here, text).services["web"].applications
    first, second = (tuple(map(IPv6Address, sids)) for sids in (("fcbb::1", "fcbb::2"), ("fcbb::3",)))
    assert application.candidates == (Candidate(first, "upper", 200, 1), Candidate(second, "", 100, 4))


def test_sid_is_a_single_path(here: Path) -> None:
    (application,) = (
        load(here, APPLICATION + "      - {port: 80, sid: [fcbb::1]}\n").services["web"].applications
    )
    assert application.candidates == (Candidate((IPv6Address("fcbb::1"),)),)


@pytest.mark.parametrize(
    ("entries", "sentences"),
    [
        (["{sid: []}"], ["7: {}.paths[0].sid: is empty, a path needs at least one SID"]),
        (["{name: a}"], ["7: {}.paths[0].sid: is missing"]),
        (
            ["{sid: fcbb::1}", "{sid: fcbb::1}"],
            [f"{line}: {{}}.paths[{line - 7}].sid: must be a list, write [fcbb::1]" for line in (7, 8)],
        ),
        (
            ["{sid: [fcbb::1]}", "{sid: [fcbb:0::1]}"],
            ["8: {}.paths[1].sid: is already the segment list of paths[0]"],
        ),
        (
            ["{name: a, sid: [fcbb::1]}", "{name: a, sid: [fcbb::2]}"],
            ["8: {}.paths[1].name: a is already the name of paths[0]"],
        ),
        (
            ["{sid: [fcbb::3]}", "{name: a, sid: [fcbb::1]}", "{name: a, sid: [fcbb::2]}"],
            ["9: {}.paths[2].name: a is already the name of paths[1]"],
        ),
        (
            ["{sid: [fcbb::1], weight: 0}", "{sid: [fcbb::2], preference: -1}"],
            [
                "7: {}.paths[0].weight: 0 is not a weight, use 1 to 4294967295",
                "8: {}.paths[1].preference: -1 is not a preference, use 0 to 4294967295",
            ],
        ),
        (
            ["{sid: [fcbb::1], wieght: 2}"],
            ["7: {}.paths[0].wieght: is not a known key, did you mean weight?"],
        ),
        (["fcbb::1"], ["7: {}.paths[0]: must be a mapping, for example `- sid: [fcbb:bb00:1::2]`"]),
        (
            [f"{{sid: [fcbb::{number}]}}" for number in range(1, 10)],
            ["6: {}.paths: has 9 paths, at most 8 are possible"],
        ),
    ],
)
def test_mistakes_in_paths(here: Path, entries: list[str], sentences: list[str]) -> None:
    assert problems(here, paths(*entries)) == [f"hawk.yaml:{one.format(APP)}" for one in sentences]


def test_paths_beside_sid(here: Path) -> None:
    assert problems(here, paths("{sid: [fcbb::1]}") + "        sid: [fcbb::2]\n") == [
        f"hawk.yaml:6: {APP}.paths: can't be given together with sid: write sid as one of the paths"
    ]


def test_the_prefixes_are_as_many_as_the_data_plane_takes() -> None:
    assert limits()["HW_MAX_PREFIXES"] == MAX_PREFIXES


def test_one_value_where_a_list_belongs(here: Path) -> None:
    assert problems(here, APPLICATION + "      - port: 80\n        sid: fcbb::1\n") == [
        f"hawk.yaml:6: {APP}.sid: must be a list, write [fcbb::1]"
    ]


def test_an_address_and_port_in_two_services(here: Path) -> None:
    text = """services:
  a:
    ipv6_addresses: [fcbb::1]
    applications: [{port: 80, sid: [fcbb::9]}]
  b:
    ipv6_addresses:
      - fcbb::2
      - fcbb:0::1
    applications: [{port: 81, sid: [fcbb::9]}, {port: 80, sid: [fcbb::9]}]
"""
    assert problems(here, text) == [
        "hawk.yaml:8: services.b.ipv6_addresses[1]: fcbb::1 with port 80 is already in the service a"
    ]
    assert load(here, text.replace("{port: 80, sid: [fcbb::9]}]\n  b", "{port: 82, sid: [fcbb::9]}]\n  b"))


def test_a_name_and_port_in_two_services(here: Path) -> None:
    text = """services:
  a:
    domain_name: web.example
    applications: [{port: 80, sid: [fcbb::9]}]
  b:
    domain_name: WEB.Example.
    applications: [{port: 80, sid: [fcbb::9]}]
"""
    assert problems(here, text) == [
        "hawk.yaml:6: services.b.domain_name: web.example with port 80 is already in the service a"
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a..b", "a..b is not a DNS name, a part of it is empty"),
        ("'.'", ". is not a DNS name, a part of it is empty"),
        ("a b.c", "a b.c is more than one name, write one service per name"),
        ("'*.example'", "*.example has a wildcard: wildcards are not supported, write one service per name"),
        ("x" * 64, "x" * 64 + " is 64 characters long, a part of a name has at most 63"),
        ("10.0.0.1", "10.0.0.1 is an address, not a name: write IPv6 addresses under ipv6_addresses"),
        ("fcbb::1", "fcbb::1 is an address, not a name: write IPv6 addresses under ipv6_addresses"),
        ("straße.example", "straße.example can't be turned into a DNS name, write its xn-- form"),
        ("ä" * 70, "ä" * 70 + " can't be turned into a DNS name"),
        ("no", "false is not text, put it in quotes"),
        ("12", "12 is not text, put it in quotes"),
        ("[a]", "must be one name, not a list: write one service per name"),
        (
            "wb.hawk.net/index.html",
            "wb.hawk.net/index.html has a path in it, write the name only: wb.hawk.net",
        ),
        ('" "', "is empty"),
        ('"a\\nb"', "'a\\nb' has characters that can't be printed"),
    ],
)
def test_names(here: Path, name: str, sentence: str) -> None:
    text = APPLICATION.replace("web.example", name) + "      - {port: 1, sid: [fcbb::1]}\n"
    assert problems(here, text) == [f"hawk.yaml:3: services.web.domain_name: {sentence}"]


def test_a_name_too_long(here: Path) -> None:
    text = APPLICATION.replace("web.example", ".".join(["a" * 49] * 5) + ".abcd")
    (problem,) = problems(here, text + "      - {port: 1, sid: [fcbb::1]}\n")
    assert problem.startswith("hawk.yaml:3: services.web.domain_name: ")
    assert problem.endswith("... is 254 characters long, a DNS name has at most 253")
    longest = ".".join(["a" * 49] * 5) + ".abc"
    text = APPLICATION.replace("web.example", longest) + "      - {port: 1, sid: [fcbb::1]}\n"
    assert load(here, text).services["web"].domain_name == longest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client_ipv6_address: host-a", "1: client_ipv6_address: host-a is a name: write the IPv6 address"),
        (
            "hawkeye: {address: hawkeye}",
            "1: hawkeye.address: hawkeye is a name: the controller is given by its IPv6 address",
        ),
        (
            "services:\n  a:\n    ipv6_addresses: [wb.example]",
            "3: services.a.ipv6_addresses[0]: wb.example is a name: write it under domain_name",
        ),
        (
            "services:\n  a:\n    applications: [{port: 1, sid: [vpp1]}]",
            "3: services.a.applications[0].sid[0]: vpp1 is a name: a SID is an IPv6 address",
        ),
    ],
)
def test_a_name_for_an_address(here: Path, text: str, said: str) -> None:
    assert f"hawk.yaml:{said}" in problems(here, text + "\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "- intent: low-latncy",
            "7: {}[0].intent: low-latncy is not an intent, did you mean low-latency?",
        ),
        ("- {}", "7: {}[0].intent: is missing"),
        (
            "- intent: [low-latency, low-jitter]",
            "7: {}[0].intent: a list is more than one intent, write one entry per intent",
        ),
        ("- intent low-latency", "7: {}[0]: intent has no colon"),
        ("- low-latency", "7: {}[0]: must be a mapping, for example `- intent: low-latency`"),
        ("- intent: sfc", "7: {}[0].functions: is missing, sfc needs it"),
        ("- intent: sfc\n  functions: []", "8: {}[0].functions: is missing, sfc needs it"),
        ("- intent: sfc\n  functions:\n    - fw\n    - ''", "10: {}[0].functions[1]: is empty"),
        (
            "- intent: sfc\n  functions:\n    - a: b",
            "9: {}[0].functions[0]: must be text, but here is a mapping",
        ),
        (
            "- intent: low-latency\n  max value: 1",
            "8: {}[0]['max value']: is not a known key, did you mean max_value?",
        ),
        (
            "- intent: low-latency\n  x-note: 1\n  -min_value: 1",
            "9: {}[0].-min_value: a space is missing after -",
        ),
        (
            "- intent: sfc\n  functions:\n    - 1",
            "9: {}[0].functions[0]: 1 is not text, put it in quotes",
        ),
        ("- intent: sfc\n  functions: fw", "8: {}[0].functions: must be a list, write [fw]"),
        ("- intent: flex-algo", "7: {}[0].flex_algo_number: is missing, flex-algo needs it"),
        (
            "- intent: flex-algo\n  flex_algo_number: 256",
            "8: {}[0].flex_algo_number: 256 is not a Flex-Algorithm, use 1 to 255",
        ),
        (
            "- intent: flex-algo\n  flex_algo_number: 0",
            "8: {}[0].flex_algo_number: 0 is not a Flex-Algorithm, use 1 to 255",
        ),
        (
            "- intent: sfc\n  functions: [fw]\n  min_value: 1",
            "9: {}[0].min_value: is not valid with sfc",
        ),
        (
            "- intent: flex-algo\n  flex_algo_number: 128\n  max_value: 1",
            "9: {}[0].max_value: is not valid with flex-algo",
        ),
        (
            "- intent: low-latency\n  functions: [fw]",
            "8: {}[0].functions: is valid with sfc only",
        ),
        (
            "- intent: low-latency\n  flex_algo_number: 128",
            "8: {}[0].flex_algo_number: is valid with flex-algo only",
        ),
        (
            "- intent: low-latency\n  max_value: 2147483648",
            "8: {}[0].max_value: 2147483648 is not a value for an intent, use 0 to 2147483647",
        ),
        (
            "- intent: low-latency\n  min_value: -1",
            "8: {}[0].min_value: -1 is not a value for an intent, use 0 to 2147483647",
        ),
        (
            "- intent: low-latency\n  max_value: 1\n  min_value: 2",
            "9: {}[0].min_value: 2 is above the max_value 1",
        ),
        (
            "- intent: low-latency\n  max_valu: 1",
            "8: {}[0].max_valu: is not a known key, did you mean max_value?",
        ),
        (
            "- intent: low-latency\n- intent: sfc\n  functions: [fw]",
            "8: {}[1]: sfc must be the first intent of its list",
        ),
        (
            "- intent: low-latency\n- intent: flex-algo\n  flex_algo_number: 128",
            "8: {}[1]: flex-algo must be the first intent of its list, or the second after sfc",
        ),
    ],
)
def test_intents(here: Path, lines: str, expected: str) -> None:
    indented = "".join(f"          {line}\n" for line in lines.split("\n"))
    assert problems(here, INTENTS + indented) == [f"hawk.yaml:{expected.replace('{}', INTENT)}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hawkeye: {port: 1, enabled: true}", ["1: hawkeye.address: is missing, it is needed when ENABLED"]),
        (
            "hawkeye:\n  enabled: true",
            [
                "1: hawkeye.address: is missing, it is needed when ENABLED",
                "1: hawkeye.port: is missing, it is needed when ENABLED",
            ],
        ),
        ("hawkeye:\n  enabled: maybe", ["2: hawkeye.enabled: maybe is neither true nor false"]),
        ("hawkeye:\n  port: 0", ["2: hawkeye.port: 0 is not a port a packet can have, use 1 to 65535"]),
        (
            "hawkeye:\n  address: 10.0.0.1",
            ["2: hawkeye.address: 10.0.0.1 is an IPv4 address, only IPv6 can be used"],
        ),
        (
            "\nclient_ipv6_address: ff02::1",
            ["2: client_ipv6_address: ff02::1 is a multicast address, which can't be used here"],
        ),
        (
            "\n\nhawkey: {}",
            ["3: hawkey: is not a known key, did you mean hawkeye?"],
        ),
        (
            "zzz: 1",
            [f"1: zzz: {TOP_KEYS}"],
        ),
        (
            "a.b: 1",
            [f"1: ['a.b']: {TOP_KEYS}"],
        ),
        (
            "sr_domain:\n  - fcbb::1/32",
            ["2: sr_domain[0]: fcbb::1/32 has bits set beyond its length, the prefix is fcbb::/32"],
        ),
        (
            "sr_domain:\n  - 10.0.0.0/8",
            ["2: sr_domain[0]: 10.0.0.0/8 is an IPv4 prefix, only IPv6 can be used"],
        ),
        (
            "sr_domain:\n  - fcbb::/129",
            ["2: sr_domain[0]: fcbb::/129 is not an IPv6 prefix such as fcbb:bb00::/32"],
        ),
        ("sr_domain: 'fcbb::/32'", ["1: sr_domain: must be a list, write [fcbb::/32]"]),
        (
            "sr_domain:\n  - fcbb::",
            ["2: sr_domain[0]: an address that ends in :: must be in quotes, YAML reads it as a key"],
        ),
        (
            "sr_domain:\n  - fcbb::1%eth0/128",
            ["2: sr_domain[0]: fcbb::1%eth0/128 is not an IPv6 prefix such as fcbb:bb00::/32"],
        ),
        ("sr_domain:\n  - 5", ["2: sr_domain[0]: 5 is not an IPv6 prefix such as fcbb:bb00::/32"]),
        (
            "sr_domain:\n  - fcbb:bb00::1",
            ["2: sr_domain[0]: fcbb:bb00::1 has no prefix length, write fcbb:bb00::1/128"],
        ),
        (
            "sr_domain:\n  - 'fcbb:bb00::'",
            ["2: sr_domain[0]: fcbb:bb00:: has no prefix length, write fcbb:bb00::/32"],
        ),
        ("hawkeye:\n  tls: {ca: ''}", ["2: hawkeye.tls.ca: '' is not the name of a file"]),
        ("hawkeye:\n  tls: {ca: 5}", ["2: hawkeye.tls.ca: 5 is not the name of a file"]),
        (
            "services:\n  a:\n    applications: 80",
            [
                "2: services.a: needs domain_name or ipv6_addresses",
                "3: services.a.applications: must be a list, for example `- port: 80`",
            ],
        ),
        (
            "services: [a]",
            ["1: services: must be a mapping, each service begins with its name, for example `web:`"],
        ),
    ],
)
def test_the_top(here: Path, text: str, expected: list[str]) -> None:
    found = problems(here, text + "\n", require_services=False)
    assert found == [f"hawk.yaml:{one.replace('ENABLED', 'hawkeye.enabled is true')}" for one in expected]


@pytest.mark.parametrize(
    ("text", "what"),
    [("hawkeye: {enabled: no}\n", "missing"), ("services:\n", "empty"), ("services: {}\n", "empty")],
)
def test_services_are_needed_by_a_client_only(here: Path, text: str, what: str) -> None:
    assert load(here, text, require_services=False).services == {}
    assert problems(here, text) == [f"hawk.yaml:1: services: is {what}, {LEAST}"]


def test_a_loopback_controller_is_fine(here: Path) -> None:
    text = "hawkeye: {enabled: true, address: ::1, port: 5001}\n"
    assert load(here, text.replace("::1", "'::1'"), require_services=False).hawkeye.address == IPv6Address(
        "::1"
    )


def test_both_faults_of_a_key_given_twice(here: Path) -> None:
    text = APPLICATION + "      - sid: [fcbb::1]\n        port: 99999\n        port: 80\n"
    assert problems(here, text) == [
        f"hawk.yaml:6: {APP}.port: 99999 is not a port, use 1 to 65535",
        f"hawk.yaml:7: {APP}.port: is given twice, on line 6 and on line 7",
    ]


def test_what_looks_alike_to_a_dictionary_is_read_anew(here: Path) -> None:
    lines = "".join(f"          - {{intent: low-jitter, max_value: {value}}}\n" for value in (1, "true"))
    assert problems(here, INTENTS + lines) == [
        f"hawk.yaml:8: {INTENT}[1].max_value: true is not a value for an intent, use 0 to 2147483647"
    ]


# --- several at once -------------------------------------------------------------------------------


def test_all_problems_at_once_in_the_order_of_their_lines(here: Path) -> None:
    text = """hawkeye:
  enabled: true
  address: 10.0.0.1
services:
  one:
    domian_name: a.example
    ipv6_addresses: [fcbb::1]
    applications:
      - port: 99999
      - port: 80
        sid:
          - fcbb::9
          - ff02::1
        intents:
          - intent: low-latency
            min_value: 3
            max_value: 2
          - intent: sfc
      - port: 80
        intents: [{intent: low-latncy}]
  two:
    ipv6_addresses: [fcbb::1]
    applications:
      - port: 80
        sid: [fcbb::9]
        sid: [fcbb::8]
  three:
    applications: []
surprise: 1
"""
    one = "services.one.applications"
    assert problems(here, text) == [
        f"hawk.yaml:{line}"
        for line in [
            "1: hawkeye.port: is missing, it is needed when hawkeye.enabled is true",
            "3: hawkeye.address: 10.0.0.1 is an IPv4 address, only IPv6 can be used",
            "6: services.one.domian_name: is not a known key, did you mean domain_name?",
            f"9: {one}[0]: needs sid, paths or intents",
            f"9: {one}[0].port: 99999 is not a port, use 1 to 65535",
            f"13: {one}[1].sid[1]: ff02::1 is a multicast address, which can't be used here",
            f"16: {one}[1].intents[0].min_value: 3 is above the max_value 2",
            f"18: {one}[1].intents[1]: sfc must be the first intent of its list",
            f"18: {one}[1].intents[1].functions: is missing, sfc needs it",
            f"19: {one}[2].port: 80 is already the port of applications[1]",
            f"20: {one}[2].intents[0].intent: low-latncy is not an intent, did you mean low-latency?",
            "22: services.two.ipv6_addresses[0]: fcbb::1 with port 80 is already in the service one",
            "26: services.two.applications[0].sid: is given twice, on line 25 and on line 26",
            "27: services.three: needs domain_name or ipv6_addresses",
            "28: services.three.applications: needs at least one application",
            f"29: surprise: {TOP_KEYS}",
        ]
    ]


# --- files and YAML --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", f":1: is empty, {LEAST}"),
        (b"# nothing\n", f":1: is empty, {LEAST}"),
        (b"---\n...\n", f":2: is empty, {LEAST}"),
        (b"- a\n", ":1: must be a mapping with keys such as services, here is a list"),
        (b"text\n", ":1: must be a mapping with keys such as services, here is a single value"),
        (b"services:\n  a: \x00\n", ":2: has the character U+0000, which YAML forbids"),
        (b"a: 1\n---\nb: 2\n", ":2: begins a second YAML document, only one can be read"),
        (b"a: [\n", ":1: [ is never closed"),
        (b"a: &x 1\nb: &x 2\n", ":2: &x is given twice, first on line 1"),
        (b"a: " + b"[" * 60 + b"]" * 60, ":1: is nested more than 50 deep"),
        (b"a: 1\nb: &b [*b]\n", ":2: has an alias of itself in it"),
        (b"a: &a\n  <<: *a\n", ":1: has an alias of itself in it"),
        (b'a: "\\ud800"\n', ":1: a backslash in double quotes starts an escape, use single quotes"),
    ],
)
def test_files_that_cannot_be_read(here: Path, content: bytes, sentence: str) -> None:
    here.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(here)
    assert caught.value.problems == [f"hawk.yaml{sentence}"]


def test_no_file_and_a_directory(here: Path) -> None:
    for path, sentence in ((here, "no such file"), (Path(), "is a directory, a file is needed")):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.problems == [f"{path}: {sentence}"]


def test_a_file_that_cannot_be_opened(here: Path) -> None:
    here.write_text("")
    with pytest.raises(ConfigError) as caught:
        load_config(here / "below")
    assert caught.value.problems == ["hawk.yaml/below: can't be read: Not a directory"]


def test_a_file_without_end(here: Path) -> None:
    here.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is larger than 16 MiB"):
        load_config(here)


def test_aliases_that_multiply_end_soon(here: Path) -> None:
    lines = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    begin = time.process_time()
    (problem,) = problems(here, "\n".join(lines) + "\n")
    assert problem.endswith("repeats too much through aliases")
    assert time.process_time() - begin < 5


def test_merges_that_multiply_end_soon(here: Path) -> None:
    """Each takes few nodes, and many keys."""
    keys = "".join(f"  k{number}: 1\n" for number in range(10_000))
    text = f"x-big: &big\n{keys}x-mid: &mid {{<<: *big}}\nx-all:\n" + "  - {<<: *mid}\n" * 10_000
    begin = time.process_time()
    (problem,) = problems(here, text)
    assert problem.endswith("repeats too much through aliases")
    assert time.process_time() - begin < 5


def test_a_fault_in_an_alias_has_the_line_of_its_anchor(here: Path) -> None:
    text = """services:
  a:
    domain_name: a.example
    applications: &apps
      - port: 99999
        sid: [fcbb::1]
  b:
    domain_name: b.example
    applications: *apps
"""
    assert problems(here, text) == [
        f"hawk.yaml:5: services.{name}.applications[0].port: 99999 is not a port, use 1 to 65535"
        for name in "ab"
    ]


def test_a_merge_of_something_else(here: Path) -> None:
    assert problems(here, "hawkeye:\n  <<: 5\n", require_services=False) == [
        "hawk.yaml:2: hawkeye['<<']: can merge mappings only"
    ]


# --- environment -----------------------------------------------------------------------------------


def test_the_environment_wins(here: Path) -> None:
    environ = {
        "HAWKWING_CLIENT_IPV6_ADDRESS": "fcbb::5",
        "HAWKWING_HAWKEYE_ENABLED": "1",
        "HAWKWING_HAWKEYE_ADDRESS": "fcbb::6",
        "HAWKWING_HAWKEYE_PORT": "6001",
        "HAWKWING_SOMETHING": "else",
    }
    config = load(here, "hawkeye: {enabled: false, port: 99999}\n", environ, require_services=False)
    assert config.client_ipv6_address == IPv6Address("fcbb::5")
    assert config.hawkeye.enabled
    assert (config.hawkeye.address, config.hawkeye.port) == (IPv6Address("fcbb::6"), 6001)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("FALSE", False), ("1", True), ("0", False), ("Yes", True), ("off", False), ("", True)],
)
def test_enabled_in_the_environment(here: Path, text: str, value: bool) -> None:
    config = load(
        here,
        "hawkeye: {enabled: true, address: 'fcbb::1', port: 1}\n",
        {"HAWKWING_HAWKEYE_ENABLED": text},
        require_services=False,
    )
    assert config.hawkeye.enabled is value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "CLIENT_IPV6_ADDRESS",
            "10.0.0.1",
            "client_ipv6_address: 10.0.0.1 is an IPv4 address, only IPv6 can be used",
        ),
        ("HAWKEYE_ENABLED", "maybe", "hawkeye.enabled: maybe is neither true nor false"),
        (
            "HAWKEYE_ADDRESS",
            "hawk",
            "hawkeye.address: hawk is a name: the controller is given by its IPv6 address",
        ),
        ("HAWKEYE_PORT", "99999", "hawkeye.port: 99999 is not a port, use 1 to 65535"),
        ("HAWKEYE_PORT", "http", "hawkeye.port: http is not a port, use 1 to 65535"),
    ],
)
def test_a_bad_variable_is_named(here: Path, name: str, text: str, problem: str) -> None:
    found = problems(here, "hawkeye: {port: 5001}\n", {f"HAWKWING_{name}": text}, require_services=False)
    assert found == [f"HAWKWING_{name}: {problem}"]


def test_what_is_missing_for_a_variable_names_the_variable(here: Path) -> None:
    found = problems(
        here, "sr_domain: ['fcbb::/16']\n", {"HAWKWING_HAWKEYE_ENABLED": "1"}, require_services=False
    )
    needed = "is missing, it is needed when hawkeye.enabled is true"
    assert found == [
        f"HAWKWING_HAWKEYE_ENABLED: hawkeye.address: {needed}",
        f"HAWKWING_HAWKEYE_ENABLED: hawkeye.port: {needed}",
    ]


def test_a_port_of_a_variable_is_a_number_only_if_it_looks_like_one(here: Path) -> None:
    said = "is not a port, use 1 to 65535"
    for text, shown in (("9" * 18, "9" * 18), ("9" * 19, "9" * 19), ("80x", "80x")):
        environ = {"HAWKWING_HAWKEYE_PORT": text}
        found = problems(here, "hawkeye: {}\n", environ, require_services=False)
        assert found == [f"HAWKWING_HAWKEYE_PORT: hawkeye.port: {shown} {said}"]


@pytest.mark.parametrize("collecting", [True, False])
def test_reading_leaves_the_search_for_garbage_as_it_was(here: Path, collecting: bool) -> None:
    if not collecting:
        gc.disable()
    try:
        load(here, APPLICATION + "      - {port: 81, sid: [fcbb::1]}\n")
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


# --- warnings --------------------------------------------------------------------------------------


def test_warnings_for_the_example() -> None:
    _config, found = check_config(EXAMPLE)
    assert found[0] == (
        f"{EXAMPLE}:19: warning: services.service1.applications[1]: "
        "HawkEye refuses flex_algo_number 1, it takes 128 to 255"
    )
    assert sum("on low-bandwidth" in one for one in found) == 2  # min_value and max_value
    assert not any("not enabled" in one for one in found)


def test_warnings_without_a_controller(here: Path) -> None:
    text = INTENTS + "          - {intent: low-latency, min_value: 1}\n      - {port: 81, sid: [fcbb::1]}\n"
    assert warnings(here, text) == [
        "1: hawkeye: is not enabled: HawkEye's limits matter only once it is",
        f"5: {APP}: has intents but neither sid nor paths, and hawkeye is not enabled: its packets "
        "are not steered",
        f"5: {APP}: HawkEye refuses min_value on low-latency, it takes it only on high-bandwidth",
    ]
    assert warnings(here, APPLICATION + "      - {port: 81, sid: [fcbb::1]}\n") == []


def test_warnings_of_intents_that_the_agent_measures_itself(here: Path) -> None:
    text = APPLICATION + "      - port: 81\n        paths: [{sid: [fcbb::1]}, {sid: [fcbb::2]}]\n"
    text += "        intents: [{intent: low-latency, min_value: 1}, {intent: low-jitter}]\n"
    assert warnings(here, text) == [f"5: {APP}: has low-jitter, which only probes can measure: set probes"]
    assert warnings(here, text + "probes: {}\n") == []


def warnings(here: Path, text: str) -> list[str]:
    here.write_text(text, encoding="utf-8")
    _config, found = check_config(here)
    assert all(line.startswith("hawk.yaml:") and ": warning: " in line for line in found)
    return [line.removeprefix("hawk.yaml:").replace(": warning", "", 1) for line in found]


@pytest.mark.parametrize(
    "mistake",
    [
        "port: x",
        "port: 80, sid: [fe80::1]",
        "port: 80, sid: [x]",
        "prot: 80",
        "port: 80, intents: [{intent: sfc}]",
        "port: 80, intents: [{intent: low-latency, max_value: x}]",
        "port: 80, sid: [fc00::1], prt: 1",
        "port: 80, sid: [fc00::1]]",
        "port: 80, port: 81",
    ],
)
def test_a_file_that_is_refused_leaves_nothing_in_memory(tmp_path: Path, mistake: str) -> None:
    """An agent is given such a file again and again: no exception may keep what it was about."""
    path = tmp_path / "config.yaml"
    service = "  s{}: {{ipv6_addresses: ['fd00::1:{}'], applications: [{{{}}}]}}\n"
    path.write_text("services:\n" + "".join(service.format(n, n, mistake) for n in range(100)))

    def refused() -> None:
        with pytest.raises(ConfigError):
            load_config(path)

    refused()
    gc.collect()
    before = len(gc.get_objects())
    gc.disable()
    try:
        for _ in range(5):
            refused()
        assert len(gc.get_objects()) - before < 1000
    finally:
        gc.enable()


def test_each_application_is_looked_at_for_what_hawkeye_refuses(here: Path) -> None:
    text = (
        "hawkeye: {enabled: true, address: 'fc00::9', port: 5001}\n"
        "services:\n"
        "  web:\n"
        "    ipv6_addresses: ['fc00::1']\n"
        "    applications:\n"
        "      - {port: 80, sid: ['fc00:1::']}\n"
        "      - {port: 81, sid: ['fc00:1::'], intents: [{intent: low-latency, min_value: 1}]}\n"
        "      - {port: 82, intents: [{intent: low-jitter, min_value: 1}]}\n"
    )
    said = "it takes it only on high-bandwidth"
    assert warnings(here, text) == [
        f"7: services.web.applications[1]: HawkEye refuses min_value on low-latency, {said}",
        f"8: services.web.applications[2]: HawkEye refuses min_value on low-jitter, {said}",
    ]


def test_a_lower_limit_may_be_the_upper_one(here: Path) -> None:
    assert load(here, INTENTS + "          - {intent: high-bandwidth, min_value: 5, max_value: 5}\n")
    found = problems(here, INTENTS + "          - {intent: high-bandwidth, min_value: 6, max_value: 5}\n")
    assert len(found) == 1 and found[0].endswith("min_value: 6 is above the max_value 5")
