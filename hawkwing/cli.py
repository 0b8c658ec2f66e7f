"""The command line: starts agents, and sends requests to running ones."""

import sys

try:
    import argparse
    import json
    import os
    import re
    from collections.abc import Sequence
    from contextlib import ExitStack
    from ipaddress import IPv6Network
    from pathlib import Path
    from typing import TYPE_CHECKING

    from hawkwing import __version__, ending
    from hawkwing.errors import ConfigError, HawkwingError
    from hawkwing.probing import options as probes

    if TYPE_CHECKING:
        from hawkwing import logs
except KeyboardInterrupt:
    sys.stderr.write("hawkwing: interrupted\n")
    sys.exit(130)

_EXAMPLES = """\
examples:
  hawkwing check --config hawkwing.yaml         report all errors in a file
  hawkwing client -i eth0 --config hawkwing.yaml
                                                send this host's packets over the configured paths
  hawkwing server -i eth0                       send replies on the reverse path of the requests
  hawkwing status                               paths, learned flows and packet counters
  hawkwing drops --follow                       packet counters by reason, every 2 seconds
  hawkwing capture | tshark -r -                packets with an SRH on the agents' interfaces
  hawkwing explain wb.hawk.net 80               which path a packet takes, and why
  hawkwing paths wb.hawk.net                    all its paths, and which one is in use
  hawkwing ping wb.hawk.net 80                  round trips along its path and back
  hawkwing trace wb.hawk.net 80                 round trips to each segment, and which one fails
  hawkwing reload                               reload the configuration; only differences are applied
  hawkwing client -i eth0 -i wlan0              two interfaces, with /etc/hawkwing/config.yaml

A configuration without a controller:

  services:
    web:
      domain_name: wb.hawk.net
      applications:
        - port: 80
          sid: [fcbb:bb00:1::2, fcbb:bb00:6::2]

Ctrl-C or SIGTERM stops an agent and removes its filters. Exit status: 0 success, 1 error, 2 usage."""

DEFAULT_CONFIG = Path("/etc/hawkwing/config.yaml")
ROLES = ("client", "server")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="hawkwing",
        description="Sends this host's own packets over SRv6 paths, per application and intent.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hawkwing {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    client = commands.add_parser("client", help="steer this host's packets to the configured services")
    server = commands.add_parser(
        "server", help="learn the paths of received packets and send replies on the reverse paths"
    )
    for command in (client, server):
        command.add_argument(
            "-i",
            "--interface",
            action="append",
            required=True,
            metavar="IF",
            help="network interface; may be repeated",
        )
        command.add_argument(
            "--sr-domain",
            action="append",
            type=_prefix,
            default=[],
            metavar="PREFIX",
            help="accept only SRHs whose source and segments are in PREFIX; may be repeated",
        )
        command.add_argument(
            "--csid",
            action="append",
            type=_block,
            default=[],
            metavar="BLOCK",
            help="block of compressed SIDs (RFC 9800), such as fcbb:bb00::/32; may be repeated",
        )
        command.add_argument(
            "--ingress-hook",
            choices=("tc", "xdp", "xdp-generic"),
            default="tc",
            help="hook for ingress packets (default: %(default)s; benchmarks: docs/performance.md)",
        )
        command.add_argument(
            "--keep",
            action="store_true",
            help="keep the filters when the agent stops; the next agent takes them over without packet loss",
        )
        command.add_argument(
            "--metrics",
            type=_metrics,
            metavar="[ADDRESS:]PORT",
            help="serve metrics for Prometheus at /metrics (without ADDRESS: only on the loopback)",
        )
        command.add_argument(
            "--wait-for-interface",
            action="store_true",
            help="wait for an interface that does not exist yet, instead of failing (for service managers)",
        )
        command.add_argument(
            "--log-format",
            choices=("text", "json"),
            default="text",
            help="format of the log; json: one object per line, with time, level, message, role and "
            "interface (default: %(default)s)",
        )
        command.add_argument("-v", "--verbose", action="store_true", help="debug logging")
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
        help="maximum number of flows (default: %(default)s)",
    )
    status = commands.add_parser("status", help="show the agents of this host with their paths and counters")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print as JSON")
    form.add_argument(
        "--watch", action="store_true", help="update it every 2 seconds, with packets/s of each path"
    )
    reload = commands.add_parser(
        "reload", help="reload the configuration of the running agents (like SIGHUP)"
    )
    detach = commands.add_parser(
        "detach", help="remove filters and SIDs of agents that were stopped with --keep, or killed"
    )
    drops = commands.add_parser(
        "drops", help="count packets by reason: dropped, unchanged or steered, and why"
    )
    for command in (reload, detach, drops):
        command.add_argument(
            "role",
            choices=ROLES,
            nargs="?",
            metavar="ROLE",
            help="client or server (default: both)",
        )
        command.add_argument(
            "-i",
            "--interface",
            action="append",
            default=[],
            metavar="IF",
            help="only agents of this interface; may be repeated",
        )
    drops.add_argument(
        "--follow", action="store_true", help="show new packets every 2 seconds, with packets/s, until Ctrl-C"
    )
    drops.add_argument(
        "--json", action="store_true", help="print as JSON; with --follow one object per line for each agent"
    )
    capture = commands.add_parser(
        "capture",
        help="capture packets with an SRH as pcapng, for `| wireshark -k -i -`, `| tshark -r -` or a file",
    )
    capture.add_argument(
        "-i",
        "--interface",
        action="append",
        default=[],
        metavar="IF",
        help="interface (default: all interfaces of the running agents); may be repeated",
    )
    capture.add_argument("--count", type=_packets, metavar="N", help="stop after N packets")
    capture.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )
    explain = commands.add_parser("explain", help="show which path a packet takes, and why")
    explain.add_argument("destination", metavar="DEST", help=probes.DESTINATION)
    explain.add_argument("port", metavar="PORT", nargs="?", help="destination port")
    probes.add_commands(commands, _block)
    check = commands.add_parser("check", help="report all errors in a configuration file")
    which = check.add_mutually_exclusive_group()
    which.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help=f"configuration file, or - for standard input (default: {DEFAULT_CONFIG})",
    )
    which.add_argument("-c", "--config", type=Path, metavar="FILE", help="the same")
    check.add_argument(
        "--json",
        action="store_true",
        help="print a list of errors and warnings, empty if there are none; each has severity, file, line "
        "(file and line can be null) and message",
    )
    commands.add_parser("doctor", help="check kernel and capabilities, and load the programs")
    commands.add_parser("version", help="print the version")
    return top


def _prefix(text: str) -> IPv6Network:
    from hawkwing.config_values import read_prefix

    try:
        return read_prefix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _block(text: str) -> IPv6Network:
    from hawkwing.csid import BLOCK_LENGTHS

    prefix = _prefix(text)
    if prefix.prefixlen not in BLOCK_LENGTHS:
        raise argparse.ArgumentTypeError(f"{prefix} is not a block of C-SIDs: it must have 16, 32 or 48 bits")
    return prefix


def _metrics(text: str) -> tuple[tuple[str, ...], int]:
    from hawkwing.metrics import read_place

    try:
        return read_place(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _flows(text: str) -> int:
    if not re.fullmatch("[0-9]{1,8}", text) or not 1 <= int(text) <= 1 << 26:
        raise argparse.ArgumentTypeError(f"{text} is not a valid number of flows, use 1 to {1 << 26}")
    return int(text)


def _packets(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of packets, use 1 or more")
    return int(text)


def _status(arguments: argparse.Namespace) -> int:
    from hawkwing import watch

    if arguments.watch:
        watch.watch(lambda: watch.sample(ROLES))
        return 0
    told = watch.sample(ROLES)
    for problem in told.problems:
        print(problem, file=sys.stderr)
    print(json.dumps(told.statuses, indent=1) if arguments.json else "\n".join(watch.lines(told)))
    return 0


def _run_agent(arguments: argparse.Namespace) -> int:
    from hawkwing import logs

    logs.to_standard_error(arguments.verbose, _json_lines(arguments))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # The loader starts first: it runs while the rest is imported and read.
    from hawkwing.dataplane.interfaces import check_interfaces
    from hawkwing.dataplane.loader import Capacities, Loading
    from hawkwing.dataplane.memory import available, require_room

    interfaces, raw = check_interfaces(arguments.interface, arguments.wait_for_interface)
    capacities = Capacities()
    if arguments.command == "server":
        capacities = Capacities(flows=arguments.flows)
        require_room(capacities.flows, capacities.flow_bytes, available())
    ending.tidily("hawkwing", once=True)
    with ExitStack() as stack:
        with ending.put_off():
            loading = Loading(arguments.command, capacities, raw, arguments.ingress_hook != "tc")
            stack.callback(loading.abandon)
            stack.callback(ending.undisturbed)
        from hawkwing.agent import Agent
        from hawkwing.plan import Options, make_plan

        options = Options(
            arguments.command,
            interfaces,
            arguments.config,
            arguments.ingress_hook,
            tuple(arguments.sr_domain),
            tuple(arguments.csid),
            arguments.keep,
            arguments.wait_for_interface,
            arguments.metrics,
        )
        Agent(options, make_plan(options), loading).run()
    return 0


def _json_lines(arguments: argparse.Namespace) -> "logs.JsonLines | None":
    """None: the log is text, or the command has none."""
    if getattr(arguments, "log_format", "text") != "json":
        return None
    from hawkwing.logs import JsonLines

    return JsonLines(arguments.command, arguments.interface)


def _tell(arguments: argparse.Namespace, lines: Sequence[str], program: str = "hawkwing: ") -> int:
    """Writes a command's last errors to standard error, for agents in the format of the log."""
    made = _json_lines(arguments)
    for line in lines:
        print(f"{program}{line}" if made is None else made.line("error", line), file=sys.stderr)
    return 1


def _drops(arguments: argparse.Namespace) -> int:
    from hawkwing import drops, watch

    roles = _roles(arguments)

    def take() -> watch.Sample:
        return watch.sample(roles, arguments.interface, "summary")

    now = take()
    for problem in now.problems:
        print(problem, file=sys.stderr)
    if not now.statuses:
        raise _nobody(roles, arguments.interface)
    if arguments.follow:
        drops.follow(now, take, arguments.json, watch.pause)
    elif arguments.json:
        drops.show_json(now)
    else:
        drops.show(now)
    return 0


def _nobody(roles: Sequence[str], interfaces: Sequence[str]) -> HawkwingError:
    where = f"on {' or '.join(interfaces)}" if interfaces else "in this network namespace"
    return HawkwingError(f"no hawkwing {' or '.join(roles)} is running {where}")


def _ask(request: dict[str, object], roles: tuple[str, ...], interfaces: Sequence[str] = ()) -> int:
    """Sends a request to each running agent of these roles and (first) interfaces, and prints its answer."""
    from hawkwing import control

    asked = 0
    for _path, answer in control.answers(request, roles, interfaces):
        if answer is not None:
            print(answer)
            asked += 1
    if not asked:
        raise _nobody(roles, interfaces)
    return 0


def _detach(arguments: argparse.Namespace) -> int:
    from hawkwing.detach import detach_left

    detached = detach_left(_roles(arguments), arguments.interface)
    for one in detached:
        print(f"removed the {one}")
    if not detached:
        print("no filters of stopped agents")
    return 0


def _roles(arguments: argparse.Namespace) -> tuple[str, ...]:
    return (arguments.role,) if arguments.role else ROLES


def _explain(arguments: argparse.Namespace) -> int:
    from hawkwing.target import read_target

    destination, port = read_target(probes.words(arguments))
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
        print(line_of(finding), file=sys.stderr)
    services = report.config.services.values()
    applications = _count(sum(len(one.applications) for one in services), "application")
    keys = report.config.hmac
    told = f", packets are signed with key_id {keys[0].key_id}" if keys else ""
    told += f", {_count(len(report.findings), 'warning')}" if report.findings else ""
    print(f"{report.file}: valid, {_count(len(services), 'service')} with {applications}{told}")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def main(argv: Sequence[str] | None = None) -> int:
    """The `hawkwing` command; returns its exit status."""
    with ending.at_once("hawkwing", last=argv is None):
        return ending.output_of("hawkwing", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "check":
            return _check(arguments)
        if arguments.command == "status":
            return _status(arguments)
        if arguments.command == "drops":
            return _drops(arguments)
        if arguments.command == "capture":
            from hawkwing import capture

            return capture.main(arguments.interface, arguments.count, arguments.output, ROLES)
        if arguments.command == "explain":
            return _explain(arguments)
        if arguments.command in probes.COMMANDS:
            return probes.run(arguments)
        if arguments.command == "reload":
            return _ask({"ask": "reload"}, _roles(arguments), arguments.interface)
        if arguments.command == "detach":
            return _detach(arguments)
        if arguments.command == "doctor":
            from hawkwing import doctor

            return doctor.main()
        if arguments.command == "version":
            print(f"hawkwing {__version__}")
            return 0
        return _run_agent(arguments)
    except ConfigError as error:
        count = [_count(len(error.problems), "error")] if len(error.problems) > 1 else []
        # Unchanged: editors find the position in a line that begins with FILE:LINE.
        return _tell(arguments, [*error.problems, *count], program="")
    except HawkwingError as error:
        return _tell(arguments, str(error).splitlines())
    except OSError as error:
        if ending.is_lost_output(error):
            raise
        import logging

        logging.debug("where it failed", exc_info=True)
        what = f"{error.filename}: " if error.filename is not None else ""
        return _tell(arguments, [f"{what}{error.strerror or error}"])
    except MemoryError:
        return _tell(arguments, ["there is not enough memory"])


if __name__ == "__main__":
    sys.exit(main())
