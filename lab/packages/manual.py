"""The manual pages hawkwing(1) and hawkwing.yaml(5), generated from the parser and the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hawkwing.config_models import Application, Config, Hawkeye, HmacKey, IntentEntry, Service, Tls
from hawkwing.config_schema import properties
from lab.packages.commandline import Argument, commands

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "man"
_DATE = "2026-11-26"
_MADE = '.\\" Made by `python -m lab.packages.texts`.\n'
EXAMPLE = """\
sr_domain: [fcbb::/16]
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [fcbb:bb00:1::2, fcbb:bb00:2::2, fcbb:bb00:6::2]
"""
WITH_CONTROLLER = """\
hawkeye: {enabled: true, address: "fcbb:cc00:5::f", port: 5001}
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [fcbb:bb00:1::2, fcbb:bb00:6::2]
        intents:
          - intent: low-latency
            max_value: 20000
"""


def texts() -> dict[Path, str]:
    """Each file with its text."""
    return {
        FOLDER / "hawkwing.1": "".join(_hawkwing()),
        FOLDER / "hawkwing.yaml.5": "".join(_configuration()),
    }


def escaped(text: str) -> str:
    """Text escaped for troff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith(".") else text


def _bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fR"


def _values(text: str) -> str:
    return f"\\fI{escaped(text)}\\fR"


def _written(argument: Argument) -> str:
    value = argument.metavar
    shown = _bold(value) if argument.choices and argument.flags else _values(value)
    if not argument.flags:
        return shown
    shown = f"[{shown}]" if argument.value_optional else shown
    return ", ".join(_bold(flag) for flag in argument.flags) + (f" {shown}" if value else "")


def _section(title: str, *lines: str) -> str:
    return f".SH {title}\n" + "".join(f"{line}\n" for line in lines)


def _list(*entries: tuple[str, str]) -> str:
    return "".join(f".TP\n{head}\n{escaped(text)}\n" for head, text in entries)


def _code(text: str) -> str:
    return f".PP\n.RS 4\n.nf\n{escaped(text.rstrip())}\n.fi\n.RE\n"


def _synopsis(name: str, arguments: tuple[Argument, ...]) -> str:
    words = [_bold(f"hawkwing {name}")]
    for argument in arguments:
        text = _written(argument).replace(", ", " | ")
        words.append(f"[{text}]" if argument.optional else text)
    return " ".join(words) + "\n.br\n"


def _hawkwing() -> Iterator[str]:
    yield f'{_MADE}.TH HAWKWING 1 "{_DATE}" "HawkWing" "User Commands"\n.nh\n.ad l\n'
    yield _section("NAME", escaped("hawkwing") + " \\- send a host\\(aqs own packets over SRv6 paths")
    yield ".SH SYNOPSIS\n"
    for command in commands():
        yield _synopsis(command.name, command.arguments)
    yield _section(
        "DESCRIPTION",
        escaped(
            "An agent on the client inserts a Segment Routing Header (SRH) into the packets to the "
            "configured services. The agent on the server removes it, learns the path of each flow and sends "
            "the replies on the reverse path. The data plane is eBPF: packets never leave the kernel. Paths "
            "come from the configuration file, see "
        )
        + "\\fBhawkwing.yaml\\fR(5), or from a HawkEye controller.",
    )
    yield ".SH COMMANDS\n"
    for command in commands():
        yield f".SS {escaped('hawkwing ' + command.name)}\n"
        yield f"{escaped(command.help[:1].upper() + command.help[1:])}.\n"
        yield _list(*((_written(argument), argument.help) for argument in command.arguments))
    yield ".SH SIGNALS\n" + _list(
        (
            _bold("SIGTERM") + ", " + _bold("SIGINT"),
            "The agent stops, and removes its filters (without --keep).",
        ),
        (_bold("SIGHUP"), "The agent reloads its configuration; a file with an error changes nothing."),
    )
    yield ".SH UNITS\n"
    yield (
        escaped(
            "There is one unit per agent and interface. A restart keeps the filters, so no packet is lost; a "
            "stop removes them. Set options as HAWKWING_OPTIONS: for all units in /etc/default/hawkwing, for "
            "one unit in a file with its name, such as /etc/default/hawkwing-client@eth0."
        )
        + "\n"
    )
    yield _code(
        "systemctl enable --now hawkwing-client@eth0\nsystemctl enable --now hawkwing-server@eth0\n"
        "systemctl reload hawkwing-client@eth0"
    )
    yield _section(
        "CAPABILITIES",
        escaped(
            "client, server and doctor need CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON; detach needs "
            "CAP_NET_ADMIN, capture CAP_NET_RAW. status, drops, explain, paths and reload need to be root, "
            "as do ping and trace with a destination. ping and trace with --sid, check and version need "
            "nothing; --ioam needs CAP_NET_RAW. A restarted server keeps its flows if it is a unit, or has "
            "CAP_SYS_ADMIN; otherwise it learns them again."
        ),
    )
    yield ".SH FILES\n" + _list(
        (_values("/etc/hawkwing/config.yaml"), "The configuration."),
        (_values("/etc/default/hawkwing"), "HAWKWING_OPTIONS for all units."),
        (_values("/etc/default/hawkwing-client@eth0"), "HAWKWING_OPTIONS for the unit with this name."),
        (_values("/run/hawkwing"), "Sockets, locks, and the state for a restarted agent."),
        (
            _values("/var/cache/hawkwing"),
            "Programs compiled on this host, after changes to the C sources.",
        ),
        (_values("/usr/share/hawkwing/config.schema.json"), "JSON schema of the configuration, for editors."),
        (_values("/usr/share/hawkwing/status.schema.json"), "JSON schema of status --json."),
    )
    yield ".SH ENVIRONMENT\n" + _list(
        (
            ", ".join(
                _bold(name)
                for name in (
                    *("HAWKWING_CLIENT_IPV6_ADDRESS", "HAWKWING_HAWKEYE_ENABLED"),
                    *("HAWKWING_HAWKEYE_ADDRESS", "HAWKWING_HAWKEYE_PORT"),
                )
            ),
            "Override the keys of the configuration.",
        ),
        (_bold("HAWKWING_RUN") + ", " + _bold("HAWKWING_CACHE"), "Used instead of the folders above."),
    )
    yield _section(
        "EXIT STATUS",
        escaped(
            "0 success, 1 error, 2 usage, 128 + N: ended by signal N before the agent was ready. ping: 1 if "
            "no probe came back; trace: 1 if a segment fails."
        ),
    )
    yield ".SH EXAMPLES\n" + _code(
        "hawkwing check\nhawkwing client -i eth0 --config hawkwing.yaml\nhawkwing server -i eth0\n"
        "hawkwing status\nhawkwing explain wb.hawk.net 80\nhawkwing paths wb.hawk.net\n"
        "hawkwing ping -c 5 wb.hawk.net 80\nhawkwing trace --sid fcbb:bb00:1::2,fcbb:bb00:6::2"
    )
    yield _section("SEE ALSO", "\\fBhawkwing.yaml\\fR(5), \\fBsystemctl\\fR(1), \\fBtc\\-bpf\\fR(8)")


def _configuration() -> Iterator[str]:
    yield f'{_MADE}.TH HAWKWING.YAML 5 "{_DATE}" "HawkWing" "File Formats"\n.nh\n.ad l\n'
    yield _section("NAME", escaped("hawkwing.yaml") + " \\- configuration of the HawkWing agents")
    yield _section("SYNOPSIS", _values("/etc/hawkwing/config.yaml"))
    yield _section(
        "DESCRIPTION",
        escaped("The file is YAML. Keys that begin with x- are ignored, for anchors and notes. ")
        + "\\fBhawkwing check\\fR"
        + escaped(
            " reports all errors, with line and key. A client needs services. A server needs no key, and "
            "uses sr_domain, csid, hmac and labels."
        ),
    )
    yield from _keys("KEYS", Config)
    for model, title in (
        (Hawkeye, "hawkeye"),
        (Tls, "hawkeye.tls"),
        (Service, "services.NAME"),
        (Application, "applications"),
        (IntentEntry, "intents"),
        (HmacKey, "hmac"),
    ):
        yield from _keys(f'"{title}"', model)
    yield ".SH EXAMPLES\nWithout a controller:\n" + _code(EXAMPLE)
    yield "With a controller:\n" + _code(WITH_CONTROLLER)
    yield _section("SEE ALSO", "\\fBhawkwing\\fR(1)")


def _keys(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f".SH {title}\n" if model is Config else f".SS {title}\n"
    for name, property_ in properties(model).items():
        yield f".TP\n{_bold(name)} ({_type(property_)})\n{escaped(property_['description'])}\n"


def _type(property_: dict[str, Any]) -> str:
    """A short name of the type."""
    property_ = property_.get("anyOf", [property_])[0]
    if "enum" in property_:
        return escaped(", ".join(value for value in property_["enum"] if value is not None))
    kind = property_.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "integer":
        return escaped(f"{property_['minimum']} to {property_['maximum']}")
    words = {"array": "list", "object": "mapping", "string": "text", "boolean": "true or false"}
    return words[kind]
