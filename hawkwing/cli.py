"""The command line: agents, and what is asked of them."""

import sys

try:
    import argparse
    import json
    import logging
    import os
    import re
    from collections.abc import Sequence
    from contextlib import ExitStack
    from ipaddress import IPv6Network
    from pathlib import Path

    from hawkwing import __version__, ending
    from hawkwing.errors import ConfigError, HawkwingError
except KeyboardInterrupt:
    sys.stderr.write("hawkwing: interrupted\n")
    sys.exit(130)

_EXAMPLES = """\
examples:
  hawkwing check --config hawkwing.yaml         is the file right? every error at once
  hawkwing client -i eth0 --config hawkwing.yaml
                                                steer this host's packets as the file says
  hawkwing server -i eth0                       send replies back along the way the requests took
  hawkwing status                               what they do, and what became of packets
  hawkwing explain wb.hawk.net 80               which path a packet would take, and why
  hawkwing reload                               read the changed configuration; only what changed changes
  hawkwing client -i eth0 -i wlan0              several interfaces; the file is /etc/hawkwing/config.yaml

A configuration that needs no controller:

  services:
    web:
      domain_name: wb.hawk.net
      applications:
        - port: 80
          sid: [fcbb:bb00:1::2, fcbb:bb00:6::2]

Ctrl-C or SIGTERM stops an agent and leaves nothing behind. Exit status: 0 good, 1 a failure told in
one sentence, 2 wrong usage."""

DEFAULT_CONFIG = Path("/etc/hawkwing/config.yaml")


class _NoColours(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"hawkwing: {prefix}{super().format(record)}"


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="hawkwing",
        description="Puts SRv6 paths on this host's own packets, per application and intent.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hawkwing {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    client = commands.add_parser("client", help="steer this host's packets to the configured services")
    server = commands.add_parser("server", help="learn the paths of arriving packets and reply along them")
    for command in (client, server):
        command.add_argument(
            "-i",
            "--interface",
            action="append",
            required=True,
            metavar="IF",
            help="network interface; may be given more than once",
        )
        command.add_argument(
            "--sr-domain",
            action="append",
            type=_prefix,
            default=[],
            metavar="PREFIX",
            help="believe only SRHs whose source and segments lie in here; may be given more than once",
        )
        command.add_argument(
            "--ingress-hook",
            choices=("tc", "xdp", "xdp-generic"),
            default="tc",
            help="where arriving packets are met (default: %(default)s; docs/performance.md has the figures)",
        )
        command.add_argument(
            "--keep",
            action="store_true",
            help="leave the steering in place when stopping; the next start takes it over with nothing lost",
        )
        command.add_argument("-v", "--verbose", action="store_true", help="say more")
    client.add_argument(
        "-c",
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"configuration file (default: {DEFAULT_CONFIG})",
    )
    server.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration file (optional)")
    server.add_argument(
        "--flows",
        type=_flows,
        default=65536,
        metavar="N",
        help="how many flows are remembered at most (default: %(default)s)",
    )
    status = commands.add_parser("status", help="what the agents of this host do, with their counters")
    status.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("reload", help="have the running agents read their configuration again (as SIGHUP)")
    explain = commands.add_parser("explain", help="which path a packet would take, and why")
    explain.add_argument(
        "destination", metavar="DEST", help="address or configured name; [ADDRESS]:PORT and NAME:PORT do, too"
    )
    explain.add_argument("port", metavar="PORT", nargs="?", help="destination port")
    check = commands.add_parser("check", help="read a configuration file and name everything wrong in it")
    which = check.add_mutually_exclusive_group()
    which.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help=f"configuration file; - is standard input (default: {DEFAULT_CONFIG})",
    )
    which.add_argument("-c", "--config", type=Path, metavar="FILE", help="the same")
    check.add_argument(
        "--json",
        action="store_true",
        help="print a list of what was found, empty if nothing; each has severity (error or warning), "
        "file, line (file and line can be null) and message",
    )
    commands.add_parser("version", help="print the version")
    return top


def _prefix(text: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not an IPv6 prefix: {error}") from None


def _flows(text: str) -> int:
    if not re.fullmatch("[0-9]{1,8}", text) or not 1 <= int(text) <= 1 << 26:
        raise argparse.ArgumentTypeError(f"{text} is not a number of flows, use 1 to {1 << 26}")
    return int(text)


def _status(arguments: argparse.Namespace) -> int:
    from hawkwing import control, status
    from hawkwing.dataplane.bpf import Map, map_by_id
    from hawkwing.dataplane.flows import FlowTable

    told = []
    for path in control.sockets():
        try:
            answer = control.ask(path, {"ask": "status"})
        except ConnectionRefusedError:
            # Its agent was killed; the next start there tidies up.
            print(f"hawkwing: {path.stem}: its agent was killed and has left its filters", file=sys.stderr)
            continue
        except OSError as error:
            raise HawkwingError(f"can't ask the agent at {path}: {error.strerror or error}") from None
        if "flows" in answer:
            # Counted here: a large table must not keep the agent from its work.
            answer["flows"]["count"] = len(FlowTable(Map(map_by_id(answer["flows"]["map"]))))
        told.append(answer)
    if arguments.json:
        print(json.dumps(told, indent=1))
        return 0
    for answer in told:
        print("\n".join(status.lines(answer)))
    if not told:
        print("no hawkwing agent runs in this network namespace")
    return 0


def _run_agent(arguments: argparse.Namespace) -> int:
    handler = logging.StreamHandler()
    handler.setFormatter(_NoColours())
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.INFO, handlers=[handler])
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # The loader starts first: it works while the rest is imported and read.
    from hawkwing.dataplane.attacher import Attacher
    from hawkwing.dataplane.interfaces import check_interfaces
    from hawkwing.dataplane.loader import Capacities, Loading
    from hawkwing.dataplane.memory import available, require_room

    interfaces = list(dict.fromkeys(arguments.interface))
    raw = check_interfaces(interfaces)
    capacities = Capacities()
    if arguments.command == "server":
        capacities = Capacities(flows=arguments.flows)
        require_room(capacities.flows, capacities.flow_bytes, available())
    ending.tidily("hawkwing")
    with ExitStack() as stack:
        with ending.put_off():
            loading = Loading(arguments.command, capacities, raw, arguments.ingress_hook != "tc")
            stack.callback(loading.abandon)
            attacher = Attacher()
            stack.callback(attacher.abandon)
            stack.callback(ending.undisturbed)
        from hawkwing.agent import Agent, Options

        options = Options(
            arguments.command,
            interfaces,
            arguments.config,
            arguments.ingress_hook,
            tuple(arguments.sr_domain),
            arguments.keep,
        )
        Agent(options, options.read(), loading, attacher).run()
    return 0


def _ask(request: dict[str, object], roles: Sequence[str]) -> int:
    """Asks each agent of these roles that runs here, and prints what it answers."""
    from hawkwing import control

    asked = 0
    for path in control.sockets():
        if path.name.split("-")[0] not in roles:
            continue
        try:
            answer = control.ask(path, request)
        except ConnectionRefusedError:
            continue
        except OSError as error:
            raise HawkwingError(f"can't ask the agent at {path}: {error.strerror or error}") from None
        print(answer)
        asked += 1
    if not asked:
        raise HawkwingError(f"no hawkwing {' or '.join(roles)} runs in this network namespace")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from hawkwing.target import read_target

    words = [arguments.destination, *([arguments.port] if arguments.port is not None else [])]
    destination, port = read_target(words)
    return _ask({"ask": "explain", "destination": destination, "port": port}, ("client",))


def _check(arguments: argparse.Namespace) -> int:
    from hawkwing.check import check_file, line_of

    report = check_file(arguments.file or arguments.config or DEFAULT_CONFIG, os.environ)
    if arguments.json:
        print(json.dumps([finding.as_json() for finding in report.findings], indent=1))
        return 0 if report.good else 1
    if report.config is None:
        raise ConfigError([line_of(finding) for finding in report.findings])
    for finding in report.findings:
        print(f"warning: {line_of(finding)}", file=sys.stderr)
    services = report.config.services
    applications = sum(len(service.applications) for service in services.values())
    print(f"{report.file}: good, {len(services)} services with {applications} applications")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The `hawkwing` command; returns its exit status."""
    with ending.at_once("hawkwing"):
        return ending.output_of("hawkwing", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "check":
            return _check(arguments)
        if arguments.command == "status":
            return _status(arguments)
        if arguments.command == "explain":
            return _explain(arguments)
        if arguments.command == "reload":
            return _ask({"ask": "reload"}, ("client", "server"))
        if arguments.command == "version":
            print(f"hawkwing {__version__}")
            return 0
        return _run_agent(arguments)
    except HawkwingError as error:
        for line in str(error).splitlines():
            print(f"hawkwing: {line}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
