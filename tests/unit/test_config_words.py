"""Other words for the keys of a configuration: what people write, and the key that is meant by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hawkwing.config import load_config
from hawkwing.errors import ConfigError

RIGHT = """\
client_ipv6_address: fcbb:cc00:1::a
hawkeye:
  enabled: true
  address: fcbb:cc00:5::f
  port: 5001
  tls:
    ca: ca.pem
    certificate: cert.pem
    key: key.pem
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [fcbb:bb00:1::2]
        intents:
          - intent: flex-algo
            flex_algo_number: 128
          - intent: low-latency
            min_value: 1
            max_value: 2
  mail:
    ipv6_addresses: [fcbb:cc00:2::a]
    applications:
      - port: 25
        sid: [fcbb:bb00:1::2]
"""
WEB, MAIL = "services.web", "services.mail"
INTENTS = f"{WEB}.applications[0].intents"


def said_of(folder: Path, text: str) -> list[str]:
    file = folder / "hawk.yaml"
    file.write_text(text)
    try:
        load_config(file)
    except ConfigError as error:
        return [line.removeprefix(f"{file}:") for line in error.problems]
    return []


@pytest.mark.parametrize(
    ("written", "where", "meant"),
    [
        ("source_address", "", "client_ipv6_address"),
        ("controller", "", "hawkeye"),
        ("host", "hawkeye.", "address"),
        ("ca_cert", "hawkeye.tls.", "ca"),
        ("cert", "hawkeye.tls.", "certificate"),
        ("private_key", "hawkeye.tls.", "key"),
        ("domain", f"{WEB}.", "domain_name"),
        ("fqdn", f"{WEB}.", "domain_name"),
        ("host", f"{WEB}.", "domain_name"),
        ("hostname", f"{WEB}.", "domain_name"),
        ("name", f"{WEB}.", "domain_name"),
        ("FQDN", f"{WEB}.", "domain_name"),
        ("address", f"{MAIL}.", "ipv6_addresses"),
        ("addresses", f"{MAIL}.", "ipv6_addresses"),
        ("ports", f"{WEB}.applications[0].", "port"),
        ("path", f"{WEB}.applications[0].", "sid"),
        ("segments", f"{WEB}.applications[0].", "sid"),
        ("name", f"{INTENTS}[0].", "intent"),
        ("type", f"{INTENTS}[0].", "intent"),
        ("algo", f"{INTENTS}[0].", "flex_algo_number"),
        ("min", f"{INTENTS}[1].", "min_value"),
        ("max", f"{INTENTS}[1].", "max_value"),
        # mistyped
        ("hawkey", "", "hawkeye"),
        ("prot", f"{WEB}.applications[0].", "port"),
        ("Domain-Name", f"{WEB}.", "domain_name"),
        ("domain name", f"{WEB}.", "domain_name"),
        ("ip_addresses", f"{MAIL}.", "ipv6_addresses"),
    ],
)
def test_another_word_for_a_key_is_understood(tmp_path: Path, written: str, where: str, meant: str) -> None:
    """And it is all that is wrong: the key that is meant is not called missing."""
    lines = RIGHT.splitlines()
    begin = lines.index(f"  {where.split('.')[1]}:") if where.startswith("services") else 0
    keys = [line.lstrip(" -").partition(":")[0] for line in lines]
    at = keys.index(meant, begin)
    lines[at] = lines[at].replace(f"{meant}:", f"{written}:", 1)
    shown = f"{where}{written}"
    if " " in written:
        shown = f"{where.removesuffix('.')}['{written}']"
    sentence = f"{at + 1}: {shown}: is not a known key, did you mean {meant}?"
    assert said_of(tmp_path, "\n".join(lines)) == [sentence]


def test_without_these_mistakes_only_the_files_of_tls_are_missing(tmp_path: Path) -> None:
    said = said_of(tmp_path, RIGHT)
    assert len(said) == 3 and all("can't be read: No such file or directory" in line for line in said)


@pytest.mark.parametrize(
    ("line", "where", "homes"),
    [
        ("port: 80", "services.web.port", "hawkeye or an application"),
        ("tls: {}", "services.web.tls", "hawkeye"),
        ("block: fcbb:bb00::/32", "services.web.block", "csid"),
        ("functions: [fw]", "services.web.functions", "an intent"),
        ("services: {}", "services.web.services", "the top level"),
        ("certificate: c.pem", "services.web.certificate", "hawkeye.tls"),
    ],
)
def test_a_key_of_another_place_is_sent_there(tmp_path: Path, line: str, where: str, homes: str) -> None:
    text = RIGHT.replace("    domain_name: wb.hawk.net\n", f"    domain_name: wb.hawk.net\n    {line}\n")
    said = said_of(tmp_path, text)
    assert said == [f"13: {where}: belongs to {homes}, check the indentation"]


def test_addresses_at_the_top_level_belong_to_a_service(tmp_path: Path) -> None:
    """Although another key there has nearly the same name."""
    said = said_of(tmp_path, f"ipv6_addresses: [fcbb:cc00:2::a]\n{RIGHT}")
    assert said == ["1: ipv6_addresses: belongs to a service, check the indentation"]


def test_an_intent_in_an_application_is_one_of_its_intents(tmp_path: Path) -> None:
    said = said_of(tmp_path, RIGHT + "        intent: low-latency\n")
    assert said[0] == "27: services.mail.applications[0].intent: is not a known key, did you mean intents?"


def test_a_long_value_behind_a_missing_space_does_not_hide_the_key(tmp_path: Path) -> None:
    wrong = RIGHT.replace(
        "      - port: 25\n        sid: [fcbb:bb00:1::2]", "      - {port: 25, sid:fcbb:bb00:1::2}"
    )
    where = "services.mail.applications[0]"
    said = said_of(tmp_path, wrong)
    assert said[0] == f"25: {where}['sid:fcbb:bb00:1::2']: a space is missing after sid:"


@pytest.mark.parametrize(
    ("text", "place", "example"),
    [
        ("sr_domain: 5", "sr_domain", "fcbb::/16"),
        ("csid: 5", "csid", "block: fcbb:bb00::/32"),
        ("services: {x: {applications: 5}}", "services.x.applications", "port: 80"),
        ("services: {x: {ipv6_addresses: 5}}", "services.x.ipv6_addresses", "fcbb:cc00:2::a"),
        ("services: {x: {applications: [{sid: 5}]}}", "services.x.applications[0].sid", "fcbb:bb00:1::2"),
        (
            "services: {x: {applications: [{intents: 5}]}}",
            "services.x.applications[0].intents",
            "intent: low-latency",
        ),
        (
            "services: {x: {applications: [{paths: 5}]}}",
            "services.x.applications[0].paths",
            "sid: [fcbb:bb00:1::2]",
        ),
        (
            "services: {x: {applications: [{intents: [{intent: sfc, functions: 5}]}]}}",
            "services.x.applications[0].intents[0].functions",
            "fw",
        ),
    ],
)
def test_where_a_list_is_needed_an_entry_of_it_is_shown(
    tmp_path: Path, text: str, place: str, example: str
) -> None:
    assert f"1: {place}: must be a list, for example `- {example}`" in said_of(tmp_path, text)
