"""Values and keys that people write wrongly, and the message that leads them to the mistake."""

from __future__ import annotations

import gc
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hawkwing.config import check_config, load_config
from hawkwing.errors import ConfigError
from tests.unit.mistakes import (
    APP,
    HEAD,
    Row,
    app,
    hawkeye,
    intents,
    lines,
    name,
    port,
    said_of,
    sid,
)
from tests.unit.test_config import LEAST

ON = ("enabled: true", "address: fcbb::5", "port: 5001")
LATENCY = ("- intent: low-latency", "  max_value: 20000")

ERRORS = [
    # --- values
    Row(
        "port 0", port("0"), [f"5: {APP}.port: 0 is not a port a packet can have, use 1 to 65535"], port("1")
    ),
    Row(
        "link-local SID",
        sid("[fe80::1]"),
        [f"6: {APP}.sid[0]: fe80::1 is link-local: no router forwards to it"],
        sid("[fcbb::1]"),
    ),
    Row(
        "link-local SID with a zone",
        sid("[fe80::1%eth0]"),
        [f"6: {APP}.sid[0]: fe80::1%eth0 is link-local: no router forwards to it"],
        sid("[fcbb::1]"),
    ),
    Row(
        "link-local service",
        HEAD.replace("domain_name: wb.hawk.net", "ipv6_addresses: [fe80::1]")
        + "      - {port: 80, sid: [fcbb::1]}\n",
        ["3: services.web.ipv6_addresses[0]: fe80::1 is link-local: no router forwards to it"],
        HEAD.replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb::2]")
        + "      - {port: 80, sid: [fcbb::1]}\n",
    ),
    Row(
        "link-local client",
        "client_ipv6_address: fe80::1\n" + port("80"),
        ["1: client_ipv6_address: fe80::1 is link-local: the controller needs a global address"],
        "client_ipv6_address: fcbb::1\n" + port("80"),
    ),
    Row(
        "link-local controller",
        hawkeye("enabled: true", "address: fe80::1", "port: 5001"),
        ["3: hawkeye.address: fe80::1 is link-local: write its global address"],
        hawkeye(*ON),
    ),
    Row(
        "typographic quotes",
        name("“wb.hawk.net”"),
        ['3: services.web.domain_name: “wb.hawk.net” has a typographic quote, use a plain one (")'],
        name('"wb.hawk.net"'),
    ),
    Row(
        "typographic quotes around a number",
        port("“80”"),
        [f'5: {APP}.port: “80” has a typographic quote, use a plain one (")'],
        port("80"),
    ),
    Row(
        "typographic quote in a name",
        name("wb’s.net"),
        ["3: services.web.domain_name: wb’s.net is not a DNS name, it has the character '’' in it"],
        name("wb.net"),
    ),
    Row(
        "prefix without length",
        'sr_domain: ["fcbb::"]\n' + port("80"),
        ["1: sr_domain[0]: fcbb:: has no prefix length, write fcbb::/16"],
        'sr_domain: ["fcbb::/16"]\n' + port("80"),
    ),
    Row(
        "longer prefix without length",
        "sr_domain: ['fcbb:bb00:1::']\n" + port("80"),
        ["1: sr_domain[0]: fcbb:bb00:1:: has no prefix length, write fcbb:bb00:1::/48"],
        "sr_domain: ['fcbb:bb00:1::/48', fcbb::/16]\n".replace("'fcbb:bb00:1::/48', ", "") + port("80"),
    ),
    Row(
        "too many prefixes",
        f"sr_domain: [{', '.join(f'fcb{n}::/16' for n in range(9))}]\n" + sid("[fcb0::1]"),
        ["1: sr_domain: has 9 prefixes, at most 8 are possible"],
        f"sr_domain: [{', '.join(f'fcb{n}::/16' for n in range(8))}]\n" + sid("[fcb0::1]"),
    ),
    Row(
        "port range",
        port("80-90"),
        [f"5: {APP}.port: 80-90 is more than one port, write one entry per port"],
        port("80"),
    ),
    Row(
        "port list",
        port("[80, 443]"),
        [f"5: {APP}.port: a list is more than one port, write one entry per port"],
        port("80"),
    ),
    Row(
        "ports with a comma",
        port("80,443"),
        [f"5: {APP}.port: 80,443 is more than one port, write one entry per port"],
        port("80"),
    ),
    Row(
        "any port",
        port("any"),
        [f"5: {APP}.port: any is more than one port, write one entry per port"],
        port("80"),
    ),
    Row("port by name", port("http"), [f"5: {APP}.port: http is a name, write 80"], port("80")),
    Row(
        "port by another name",
        port("postgresql"),
        [f"5: {APP}.port: postgresql is a name, write the number of the port"],
        port("5432"),
    ),
    Row(
        "port with protocol",
        port("80/tcp"),
        [f"5: {APP}.port: 80/tcp: a port applies to TCP and UDP, write 80"],
        port("80"),
    ),
    Row("port in hex", port("0x50"), [f"5: {APP}.port: 0x50 is not decimal, write 80"], port("80")),
    Row("port with a zero", port("080"), [f"5: {APP}.port: 080 has a zero in front, write 80"], port("80")),
    Row(
        "port with separator",
        port("8_080"),
        [f"5: {APP}.port: 8_080 has separators between its digits, write 8080"],
        port("8080"),
    ),
    Row(
        "port in quotes", port('"80"'), [f'5: {APP}.port: "80" is text, write 80 without quotes'], port("80")
    ),
    Row(
        "huge port",
        port("123456789012345678901"),
        [f"5: {APP}.port: 123456789012345678901 is not a port, use 1 to 65535"],
        port("12345"),
    ),
    Row(
        "yes in quotes",
        hawkeye('enabled: "yes"', *ON[1:]),
        ['2: hawkeye.enabled: "yes" is text, write true without quotes'],
        hawkeye("enabled: yes", *ON[1:]),
    ),
    Row(
        "off in quotes",
        hawkeye("enabled: 'Off'", *ON[1:]),
        ['2: hawkeye.enabled: "Off" is text, write false without quotes'],
        hawkeye("enabled: Off", *ON[1:]),
    ),
    Row(
        "controller by name",
        hawkeye(ON[0], "address: hawkeye.hawk.net", ON[2]),
        ["3: hawkeye.address: hawkeye.hawk.net is a name: the controller is given by its IPv6 address"],
        hawkeye(*ON),
    ),
    Row(
        "controller by URL",
        hawkeye(ON[0], "address: http://[fcbb::5]:5001", ON[2]),
        ["3: hawkeye.address: http://[fcbb::5]:5001 is a URL: write address and port apart"],
        hawkeye(*ON),
    ),
    Row(
        "controller with port",
        hawkeye(ON[0], 'address: "[fcbb::5]:5001"', ON[2]),
        ["3: hawkeye.address: [fcbb::5]:5001 has a port in it: write fcbb::5 here and 5001 under port"],
        hawkeye(*ON),
    ),
    Row(
        "controller with port, no quotes",
        hawkeye(ON[0], "address: [fcbb::5]:5001", ON[2]),
        ["3: write fcbb::5 without brackets, and 5001 under port"],
        hawkeye(*ON),
    ),
    Row(
        "controller in brackets",
        hawkeye(ON[0], "address: [fcbb::5]", ON[2]),
        ["3: hawkeye.address: write fcbb::5 without brackets"],
        hawkeye(*ON),
    ),
    Row(
        "SID by name",
        sid("[vpp1]"),
        [f"6: {APP}.sid[0]: vpp1 is a name: a SID is an IPv6 address"],
        sid("[fcbb::1]"),
    ),
    Row(
        "SID with a zone ID",
        sid("[fcbb::1%eth0]"),
        [f"6: {APP}.sid[0]: fcbb::1%eth0 has a zone ID, write the address without it"],
        sid("[fcbb::1]"),
    ),
    Row(
        "value with unit",
        intents(LATENCY[0], "  max_value: 20ms"),
        [f"9: {APP}.intents[0].max_value: 20ms must be a whole number of microseconds, no unit"],
        intents(*LATENCY),
    ),
    Row(
        "value with fraction",
        intents("- intent: low-packet-loss", "  max_value: 0.5"),
        [f"9: {APP}.intents[0].max_value: 0.5 must be a whole number of percent, no unit"],
        intents("- intent: low-packet-loss", "  max_value: 1"),
    ),
    Row(
        "value of no known unit",
        intents("- intent: low-utilization", "  max_value: 50%"),
        [f"9: {APP}.intents[0].max_value: 50% must be a whole number, no unit"],
        intents("- intent: low-utilization"),
    ),
    Row(
        "URL as a name",
        name("http://wb.hawk.net:80/index"),
        [
            "3: services.web.domain_name: http://wb.hawk.net:80/index is a URL, write the name only: "
            "wb.hawk.net"
        ],
        name("wb.hawk.net"),
    ),
    Row(
        "name with port",
        name("wb.hawk.net:80"),
        [
            "3: services.web.domain_name: wb.hawk.net:80 has a port in it, write 80 as the port of "
            "an application"
        ],
        name("wb.hawk.net"),
    ),
    Row(
        "wildcard in quotes",
        name("'*.hawk.net'"),
        [
            "3: services.web.domain_name: *.hawk.net has a wildcard: wildcards are not supported, "
            "write one service per name"
        ],
        name("wb.hawk.net"),
    ),
    Row(
        "two names",
        name("wb.hawk.net, wc.hawk.net"),
        [
            "3: services.web.domain_name: wb.hawk.net, wc.hawk.net is more than one name, write one "
            "service per name"
        ],
        name("wb.hawk.net"),
    ),
    Row(
        "shell variable",
        port("${PORT}"),
        [f"5: {APP}.port: ${{PORT}}: variables are not expanded in the file"],
        port("80"),
    ),
    Row(
        "shell variable as a list",
        sid("$SIDS"),
        [f"6: {APP}.sid: $SIDS: variables are not expanded in the file"],
        sid("[fcbb::1]"),
    ),
    Row(
        "template",
        port("{{ port }}"),
        [f"5: {APP}.port: has {{{{ }}}} in it: templates are not expanded in the file"],
        port("80"),
    ),
    Row(
        "no-break space in a value",
        port("80\u00a0"),
        [f"5: {APP}.port: has a no-break space (U+00A0) in it, use plain spaces only"],
        port("80"),
    ),
    Row(
        "no-break space in a key",
        HEAD.replace("    domain", "    \u00a0domain") + "      - {port: 80, sid: [fcbb::1]}\n",
        [
            "3: services.web['\\xa0domain_name']: has a no-break space (U+00A0) in it, use plain spaces only",
        ],
        HEAD + "      - {port: 80, sid: [fcbb::1]}\n",
    ),
    # --- shapes
    Row(
        "intents as text",
        app("port: 80", "intents: low-latency"),
        [f"6: {APP}.intents: must be a list, for example `- intent: low-latency`"],
        intents("- intent: low-latency"),
    ),
    Row(
        "intent as text",
        intents("- low-latency"),
        [f"8: {APP}.intents[0]: must be a mapping, for example `- intent: low-latency`"],
        intents("- intent: low-latency"),
    ),
    Row(
        "mapping for a list",
        lines(*HEAD.splitlines(), "      port: 80", "      sid: [fcbb::1]"),
        ["4: services.web.applications: must be a list: each entry starts with `- `"],
        port("80"),
    ),
    Row(
        "text for a list",
        sid("fcbb::1"),
        [f"6: {APP}.sid: must be a list, write [fcbb::1]"],
        sid("[fcbb::1]"),
    ),
    Row(
        "several in a text",
        sid("fcbb::1, fcbb::2"),
        [f"6: {APP}.sid: must be a list, write [fcbb::1, fcbb::2]"],
        sid("[fcbb::1, fcbb::2]"),
    ),
    Row(
        "type for intent",
        intents("- type: low-latency"),
        [f"8: {APP}.intents[0].type: is not a known key, did you mean intent?"],
        intents("- intent: low-latency"),
    ),
    Row(
        "written like an option",
        intents("- --type: low-latency"),
        [f"8: {APP}.intents[0].--type: is not a known key, did you mean intent?"],
        intents("- intent: low-latency"),
    ),
    Row(
        "mistyped key that is needed",
        app("prot: 80", "sid: [fcbb::1]"),
        [f"5: {APP}.prot: is not a known key, did you mean port?"],
        port("80"),
    ),
    Row(
        "mistyped key with a wrong value",
        app("prot: 99999", "sid: [fcbb::1]"),
        [
            f"5: {APP}.prot: is not a known key, did you mean port?",
            f"5: {APP}.prot: 99999 is not a port, use 1 to 65535",
        ],
        port("80"),
    ),
    Row(
        "key of a level below",
        lines(*HEAD.splitlines(), "      - port: 80", "    sid: [fcbb::1]"),
        [
            f"5: {APP}: needs sid, paths or intents",
            "6: services.web.sid: belongs to an application or a path, check the indentation",
        ],
        sid("[fcbb::1]"),
    ),
    Row(
        "services not indented",
        lines("services:", "web:", "  domain_name: a.b", "  applications: [{port: 80, sid: [fcbb::1]}]"),
        [
            f"1: services: is empty, {LEAST}",
            "2: web: is not a known key; services are indented below services",
        ],
        port("80"),
    ),
    Row(
        "a mapping that is no service",
        lines("extra: {colour: red}", *sid("[fcbb::1]").splitlines()),
        [
            "1: extra: is not a known key, use one of client_ipv6_address, hawkeye, services, "
            "sr_domain, csid, hmac, labels, probes, stamp_port, decap"
        ],
        sid("[fcbb::1]"),
    ),
    Row(
        "sfc's key elsewhere",
        intents(LATENCY[0], "  functions: [fw]"),
        [f"9: {APP}.intents[0].functions: is valid with sfc only"],
        intents(*LATENCY),
    ),
    Row(
        "key for anchors",
        lines("x:", "  - &p 80") + port("*p"),
        [
            "1: x: is not a known key, use one of client_ipv6_address, hawkeye, services, sr_domain, csid, "
            "hmac, labels, probes, stamp_port, decap; keys for anchors begin with x-"
        ],
        lines("x-ports:", "  - &p 80") + port("*p"),
    ),
    Row(
        "decap without a domain",
        sid("[fcbb::1]") + "decap: {ipv6: fcbb::d6}\n",
        ["7: decap: needs sr_domain: only packets from inside the SR domain are decapsulated"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv6: fcbb::d6}\n",
    ),
    Row(
        "decap with a service's key",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {decap_sid: fcbb::d6}\n",
        [
            "8: decap.decap_sid: belongs to a service or an application, check the indentation",
            "8: decap: needs ipv6 or ipv4, each with a SID",
        ],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv6: fcbb::d6}\n",
    ),
    Row(
        "decap with an IPv4 address",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv4: 192.0.2.1}\n",
        ["8: decap.ipv4: 192.0.2.1 is an IPv4 address, only IPv6 can be used"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv4: fcbb::d4}\n",
    ),
    Row(
        "decap with nothing in it",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {x-note: later}\n",
        ["8: decap: needs ipv6 or ipv4, each with a SID"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\n",
    ),
    Row(
        "decap as a SID",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: fcbb::d6\n",
        ["8: decap: must be a mapping, for example `ipv6: fcbb:cc00:2::d6`"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv6: fcbb::d6}\n",
    ),
    Row("empty file", "", [f"1: is empty, {LEAST}"], port("80")),
    Row("comments only", "# nothing yet\n", [f"1: is empty, {LEAST}"], port("80")),
    Row("empty services", "services:\n", [f"1: services: is empty, {LEAST}"], port("80")),
    Row(
        "empty service",
        "services:\n  web:\n",
        [
            "2: services.web: is empty, it must be a mapping, with domain_name or ipv6_addresses, "
            "and applications"
        ],
        port("80"),
    ),
]

WARNINGS = [
    Row(
        "domain without the SIDs",
        "sr_domain: [fcbb:bb00::/32]\n" + sid("[fcbb:bb00:1::2, fcbb:aa00:1::2, fcbb:aa00:2::2]"),
        [
            "1: warning: sr_domain: does not contain the SID fcbb:aa00:1::2 and 1 more: replies over "
            "them are not accepted"
        ],
        "sr_domain: [fcbb::/16]\n" + sid("[fcbb:bb00:1::2, fcbb:aa00:1::2]"),
    ),
    Row(
        "domain without the SIDs of a way back",
        lines("sr_domain: [fcbb:bb00::/32]")
        + app("port: 80", "sid: [fcbb:bb00:1::2]", "return_sid: [fcbb:aa00:1::2]"),
        ["1: warning: sr_domain: does not contain the SID fcbb:aa00:1::2: replies over it are not accepted"],
        lines("sr_domain: [fcbb::/16]")
        + app("port: 80", "sid: [fcbb:bb00:1::2]", "return_sid: [fcbb:aa00:1::2]"),
    ),
    Row(
        "domain without the SIDs of a path's way back",
        lines("sr_domain: [fcbb:bb00::/32]")
        + app("port: 80", "paths: [{sid: [fcbb:bb00:1::2], return_sid: [fcbb:aa00:1::2]}]"),
        ["1: warning: sr_domain: does not contain the SID fcbb:aa00:1::2: replies over it are not accepted"],
        lines("sr_domain: [fcbb::/16]")
        + app("port: 80", "paths: [{sid: [fcbb:bb00:1::2], return_sid: [fcbb:aa00:1::2]}]"),
    ),
    Row(
        "SID twice in a row in a way back",
        app("port: 80", "sid: [fcbb::1]", "return_sid: [fcbb::2, fcbb::2]"),
        [f"7: warning: {APP}.return_sid[1]: fcbb::2 is given twice in a row"],
        app("port: 80", "sid: [fcbb::1]", "return_sid: [fcbb::2, fcbb::3]"),
    ),
    Row(
        "SID twice in a row in a path's way back",
        app("port: 80", "paths: [{sid: [fcbb::1], return_sid: [fcbb::2, fcbb::2]}]"),
        [f"6: warning: {APP}.paths[0].return_sid[1]: fcbb::2 is given twice in a row"],
        app("port: 80", "paths: [{sid: [fcbb::1], return_sid: [fcbb::2, fcbb::3]}]"),
    ),
    Row(
        "return_intents without a controller",
        app(
            "port: 80",
            "sid: [fcbb::1]",
            "intents: [{intent: high-bandwidth}]",
            "return_intents: [{intent: low-latency}]",
        ),
        [f"8: warning: {APP}.return_intents: are for a controller, and hawkeye is not enabled"],
        app("port: 80", "sid: [fcbb::1]", "intents: [{intent: high-bandwidth}]"),
    ),
    Row(
        "return_intents that HawkEye refuses",
        hawkeye(*ON).replace(
            "sid: [fcbb::1]",
            "intents: [{intent: low-latency}]\n"
            "        return_intents: [{intent: flex-algo, flex_algo_number: 4}]",
        ),
        [f"11: warning: {APP}.return_intents: HawkEye refuses flex_algo_number 4, it takes 128 to 255"],
        hawkeye(*ON).replace(
            "sid: [fcbb::1]",
            "intents: [{intent: low-latency}]\n        return_intents: [{intent: low-latency}]",
        ),
    ),
    Row(
        "domain without the service",
        "sr_domain: [fcbb:bb00::/32]\n"
        + sid("[fcbb:bb00:1::2]").replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb:cc00:2::a]"),
        [
            "1: warning: sr_domain: does not contain the address fcbb:cc00:2::a: replies from it are "
            "not accepted"
        ],
        "sr_domain: [fcbb::/16]\n"
        + sid("[fcbb:bb00:1::2]").replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb:cc00:2::a]"),
    ),
    Row(
        "no domain for SIDs that need one",
        sid("[fcbb::1, 2001:db8::1, 2001:db8::2]"),
        [
            "1: warning: sr_domain: is not set, and the SID 2001:db8::1 is not in fc00::/7 or 5f00::/16: "
            "set it to accept replies"
        ],
        "sr_domain: [fcbb::/16, 2001:db8::/32]\n" + sid("[fcbb::1, 2001:db8::1]"),
    ),
    Row(
        "domain given twice",
        lines("sr_domain:", "  - fcbb::/16", "  - fd00::/8", "  - fcbb::/16") + sid("[fcbb::1]"),
        ["4: warning: sr_domain[2]: fcbb::/16 is in fcbb::/16 already"],
        lines("sr_domain:", "  - fcbb::/16", "  - fd00::/8") + sid("[fcbb::1]"),
    ),
    Row(
        "domain in a later one",
        lines("sr_domain:", "  - fcbb:bb00::/32", "  - fcbb::/16") + sid("[fcbb::1]"),
        ["2: warning: sr_domain[0]: fcbb:bb00::/32 is in fcbb::/16 already"],
        lines("sr_domain:", "  - fcbc::/32", "  - fcbb::/16") + sid("[fcbb::1]"),
    ),
    Row(
        "domain in two others",
        lines("sr_domain:", "  - fcbb:bb00::/32", "  - fcbb::/16", "  - fc00::/7") + sid("[fcbb::1]"),
        [
            "2: warning: sr_domain[0]: fcbb:bb00::/32 is in fcbb::/16 already",
            "3: warning: sr_domain[1]: fcbb::/16 is in fc00::/7 already",
        ],
        lines("sr_domain:", "  - fc00::/7") + sid("[fcbb::1]"),
    ),
    Row(
        "domain in another",
        lines("sr_domain:", "  - fcbb::/16", "  - fcbb:bb00::/32") + sid("[fcbb::1]"),
        ["3: warning: sr_domain[1]: fcbb:bb00::/32 is in fcbb::/16 already"],
        lines("sr_domain:", "  - fcbb::/16", "  - fcbc::/16") + sid("[fcbb::1]"),
    ),
    Row(
        "address without enabled",
        hawkeye(*ON[1:]),
        ["2: warning: hawkeye.address: is set, but enabled is not: no controller is used"],
        hawkeye("enabled: false", *ON[1:]),
    ),
    Row(
        "address twice",
        HEAD.replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb::2, 'fcbb:0::2']")
        + "      - {port: 80, sid: [fcbb::1]}\n",
        ["3: warning: services.web.ipv6_addresses[1]: fcbb::2 is given twice"],
        HEAD.replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb::2, fcbb::3]")
        + "      - {port: 80, sid: [fcbb::1]}\n",
    ),
    Row(
        "SID twice in a row",
        app("port: 80", "sid:", "  - fcbb::1", "  - fcbb::2", "  - fcbb::2", "  - fcbb::1"),
        [f"9: warning: {APP}.sid[2]: fcbb::2 is given twice in a row"],
        sid("[fcbb::1, fcbb::2, fcbb::1]"),
    ),
    Row(
        "intents without a controller",
        app("port: 80", "intents: [{intent: low-latency}]"),
        [
            f"5: warning: {APP}: has intents but neither sid nor paths, and hawkeye is not enabled: "
            "its packets are not steered"
        ],
        hawkeye(*ON).replace("sid: [fcbb::1]", "intents: [{intent: low-latency}]"),
    ),
    Row(
        "what HawkEye refuses",
        hawkeye(*ON).replace("sid: [fcbb::1]", "intents: [{intent: low-latency, min_value: 5}]"),
        [
            "9: warning: services.web.applications[0]: HawkEye refuses min_value on low-latency, it "
            "takes it only on high-bandwidth"
        ],
        hawkeye(*ON).replace("sid: [fcbb::1]", "intents: [{intent: low-latency}]"),
    ),
    Row(
        "what HawkEye 1.0.1 ignores",
        hawkeye(*ON).replace("sid: [fcbb::1]", "intents: [{intent: low-latency, max_value: 5}]"),
        [
            "9: warning: services.web.applications[0]: HawkEye 1.0.1 ignores max_value on low-latency, "
            "unless another intent with a metric follows"
        ],
        hawkeye(*ON).replace("sid: [fcbb::1]", "intents: [{intent: low-latency}]"),
    ),
    Row(
        "source and destination behind one router",
        "client_ipv6_address: fcbb:1::1\n"
        + hawkeye(*ON)
        .replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb:2::1, fcbb:1::2]")
        .replace("sid: [fcbb::1]", "intents: [{intent: low-latency}]"),
        [
            "8: warning: services.web.ipv6_addresses[1]: is in fcbb:1::/64, as client_ipv6_address: "
            "HawkEye 1.0.1 crashes on a path from a router to itself"
        ],
        "client_ipv6_address: fcbb:3::1\n" + hawkeye(*ON),
    ),
    Row(
        "source and destination behind one router, and an application without intents",
        "client_ipv6_address: fcbb:1::1\n"
        + hawkeye(*ON)
        .replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb:1::2]")
        .replace("sid: [fcbb::1]", "intents: [{intent: low-latency}]")
        + "      - {port: 81, sid: [fcbb::1]}\n",
        [
            "8: warning: services.web.ipv6_addresses[0]: is in fcbb:1::/64, as client_ipv6_address: "
            "HawkEye 1.0.1 crashes on a path from a router to itself"
        ],
        "client_ipv6_address: fcbb:1::1\n"
        + hawkeye(*ON).replace("domain_name: wb.hawk.net", "ipv6_addresses: [fcbb:1::2]"),
    ),
]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("hawk.yaml")


@pytest.mark.parametrize("row", ERRORS + WARNINGS, ids=lambda row: row.what)
def test_mistake(file: Path, row: Row) -> None:
    assert said_of(file, row.wrong) == [f"{file}:{one}" for one in row.said]
    assert said_of(file, row.right) == []


def test_keys_that_begin_with_x_are_allowed_in_mappings(file: Path) -> None:
    text = """x-sids: &sids [fcbb::1, fcbb::2]
hawkeye: {x-note: off for now, enabled: false}
services:
  web:
    x-owner: {name: netops}
    domain_name: wb.hawk.net
    applications:
      - port: 80
        x-why: “the short way”, ${USER}
        sid: *sids
        intents: [{intent: low-latency, x-ticket: 5}]
"""
    assert said_of(file, text) == []
    (application,) = check_config(file)[0].services["web"].applications
    assert application.sid == (IPv6Address("fcbb::1"), IPv6Address("fcbb::2"))


@pytest.mark.parametrize(
    ("before", "written", "meant"),
    [
        ("", "controller: {}", "hawkeye"),
        ("", "source_address: fcbb::1", "client_ipv6_address"),
        ("hawkeye:\n  ", "host: fcbb::5", "address"),
        ("hawkeye:\n  tls:\n    ", "cert: x", "certificate"),
        ("hawkeye:\n  tls:\n    ", "ca_cert: x", "ca"),
        ("hawkeye:\n  tls:\n    ", "private_key: x", "key"),
        ("services:\n  web:\n    ", "address: [fcbb::1]", "ipv6_addresses"),
        ("services:\n  web:\n    ", "addresses: [fcbb::1]", "ipv6_addresses"),
        ("services:\n  web:\n    ", "domain: a.b", "domain_name"),
        ("services:\n  web:\n    ", "fqdn: a.b", "domain_name"),
        ("services:\n  web:\n    ", "host: a.b", "domain_name"),
        ("services:\n  web:\n    ", "Hostname: a.b", "domain_name"),
        ("services:\n  web:\n    ", "name: a.b", "domain_name"),
        ("services:\n  web:\n    applications:\n      - ", "path: [fcbb::1]", "sid"),
        ("services:\n  web:\n    applications:\n      - ", "segments: [fcbb::1]", "sid"),
        ("services:\n  web:\n    applications:\n      - ", "ports: 80", "port"),
        ("services:\n  web:\n    applications:\n      - ", "sids: [fcbb::1]", "sid"),
        ("services:\n  web:\n    applications:\n      - intents:\n          - ", "type: sfc", "intent"),
        ("services:\n  web:\n    applications:\n      - intents:\n          - ", "name: sfc", "intent"),
        ("services:\n  web:\n    applications:\n      - intents:\n          - ", "max: 1", "max_value"),
        ("services:\n  web:\n    applications:\n      - intents:\n          - ", "min: 1", "min_value"),
        (
            "services:\n  web:\n    applications:\n      - intents:\n          - ",
            "algo: 128",
            "flex_algo_number",
        ),
    ],
)
def test_what_people_write_for_a_key(tmp_path: Path, before: str, written: str, meant: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(f"{before}{written}\n")
    with pytest.raises(ConfigError) as caught:
        check_config(file)
    line, key = f"{before}{written}".count("\n") + 1, written.partition(":")[0]
    start, end = f"{file}:{line}: ", f"{key}: is not a known key, did you mean {meant}?"
    (said,) = [one for one in caught.value.problems if "did you mean" in one]
    assert said.startswith(start) and said.endswith(end)


def test_what_a_server_needs(tmp_path: Path) -> None:
    """It reads the SR domain alone."""
    file = tmp_path / "hawk.yaml"
    file.write_text("")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, require_services=False)
    assert caught.value.problems == [f"{file}:1: is empty, for a server, sr_domain: [fcbb::/16] is enough"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services:web", "1: a space is missing after services:"),
        ("services web", "1: services has no colon"),
        ("words", "1: must be a mapping with keys such as services, here is a single value"),
        ("5", "1: must be a mapping with keys such as services, here is a single value"),
        ("services: [1] 2", "1: 2 follows the closing ]"),
        ("services: {a: 1} b", "1: b follows the closing }"),
        ("services:\n  a: [ , 1]", "2: has nothing in front of ,"),
        ("services: {, a: 1}", "1: has nothing in front of ,"),
        ("services:\n  [a, b]: 1", "2: services: has a key that is not a single word or text"),
        ("- a", "1: must be a mapping with keys such as services, here is a list"),
        (intents("- intent:low-latency"), f"8: {APP}.intents[0]: a space is missing after intent:"),
        (intents("- intent low-latency"), f"8: {APP}.intents[0]: intent has no colon"),
        (
            intents("- intent"),
            f"8: {APP}.intents[0]: must be a mapping, for example `- intent: low-latency`",
        ),
    ],
)
def test_what_is_no_mapping(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        check_config(file)
    assert [one.removeprefix(f"{file}:") for one in caught.value.problems] == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hawkeye: 5", "1: hawkeye: must be a mapping, with the keys enabled, address and port"),
        ("hawkeye:\n  tls: 5", "2: hawkeye.tls: must be a mapping, with the keys ca, certificate and key"),
        (
            "services:\n  web: 5",
            "2: services.web: must be a mapping, with domain_name or ipv6_addresses, and applications",
        ),
        (
            "services:\n  web:\n    applications: [80]",
            "3: services.web.applications[0]: must be a mapping, for example `- port: 80`",
        ),
        (
            "services:\n  web:\n    applications: [{intents: [5]}]",
            "3: services.web.applications[0].intents[0]: must be a mapping, "
            "for example `- intent: low-latency`",
        ),
    ],
)
def test_what_a_mapping_has_in_it(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        check_config(file)
    assert f"{file}:{said}" in caught.value.problems


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("text", [port("80"), "services: 5\n"])
def test_garbage_is_collected_as_before(tmp_path: Path, collecting: bool, text: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(text)
    (gc.enable if collecting else gc.disable)()
    try:
        with suppress(ConfigError):
            check_config(file)
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", "true"),
        ("Yes", "true"),
        ("on", "true"),
        ("false", "false"),
        ("no", "false"),
        ("OFF", "false"),
    ],
)
def test_words_for_true_and_false_in_quotes(tmp_path: Path, written: str, meant: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(f"hawkeye:\n  enabled: '{written}'\n")
    with pytest.raises(ConfigError) as caught:
        check_config(file)
    said = f'{file}:2: hawkeye.enabled: "{written}" is text, write {meant} without quotes'
    assert said in caught.value.problems
