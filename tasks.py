"""What can be done here: thin tasks, the work lives in the modules. `./run --list` names them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke import Collection, Context, Exit, task

PROJECT = Path(__file__).resolve().parent
HAWKWING = [sys.executable, "-m", "hawkwing"]


@contextmanager
def one_sentence() -> Iterator[None]:
    """A user's mistake ends with its sentence and status 1."""
    from pyroute2 import NetlinkError

    from hawkwing import ending
    from lab.network import LabError
    from lab.topology import TopologyError

    ending.tidily("hawkwing lab")
    try:
        yield
    except BrokenPipeError:
        raise
    except NetlinkError as error:
        raise Exit(f"hawkwing lab: the kernel refused: {error.args[-1]}", 1) from None
    except (LabError, TopologyError, TimeoutError, RuntimeError, OSError) as error:
        raise Exit(f"hawkwing lab: {error}", 1) from None


def _lab(name, topology=None, routers=None, vpp_prefix=None):
    from lab.network import DEFAULT_TOPOLOGY, Lab
    from lab.process import CURRENT

    name = name or os.environ.get(CURRENT) or "hawk"
    return Lab(name, _caller() / topology if topology else DEFAULT_TOPOLOGY, _routers(routers), vpp_prefix)


def _routers(kind):
    if kind not in (None, "linux", "vpp"):
        raise Exit(f"hawkwing lab: there are no routers of kind {kind!r}: use linux or vpp", 1)
    return kind


ROUTERS = {
    "routers": "linux or vpp, for all of them (default: as the topology says)",
    "vpp-prefix": "where VPP is, if not on the PATH (or HAWKWING_VPP_PREFIX)",
}


NAME = {"name": "the lab's name (default: HAWKWING_LAB, or hawk)"}


@task(help=NAME | {"topology": "YAML file"} | ROUTERS)
def up(_c: Context, name=None, topology=None, routers=None, vpp_prefix=None):
    """Builds the network and starts its services; returns when every host reaches every other."""
    import time

    from lab.doctor import missing_features

    missing = missing_features(quick=True)
    if missing:
        raise Exit("hawkwing lab: " + "\n".join(missing), 1)
    with one_sentence():
        lab = _lab(name, topology, routers, vpp_prefix)
        begun = time.monotonic()
        if not lab.up():
            print(f"lab {lab.name} is up already")
            return
        nodes, links = len(lab.topology.nodes), len(lab.topology.links)
        print(
            f"lab {lab.name} is up after {time.monotonic() - begun:.1f} s: "
            f"{nodes} nodes, {links} links; run directory {lab.run}"
        )


@task(help=NAME)
def down(_c: Context, name=None):
    """Takes the lab away and proves that nothing of it is left."""
    with one_sentence():
        lab = _lab(name)
        lab.down()
        left = lab.remains()
    if left:
        raise Exit(f"hawkwing lab: still there: {', '.join(left)}", 1)
    print(f"lab {lab.name} is down, nothing is left")


JSON = {"json": "print as JSON"}


@task(help=NAME | JSON)
def status(_c: Context, json=False, name=None):
    """Shows nodes, addresses, SIDs and running processes."""
    from lab.show import print_status, status_of

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print_json(status_of(lab)) if json else print_status(lab)


@task(name="list", help=JSON)
def list_(_c: Context, json=False):
    """Lists all labs of this machine, broken ones too."""
    from lab.show import labs, print_labs

    with one_sentence():
        print_json(labs()) if json else print_labs()


def print_json(value):
    import json

    print(json.dumps(value, indent=1))


KERNEL = NAME | {"kernel": "on a VPP router: in its namespace, not in VPP's CLI"}


@task(name="exec", positional=["node", "command"], help=KERNEL)
def exec_(_c: Context, node, command, kernel=False, name=None):
    """Runs a command in a node, on a VPP router in VPP's CLI; ends with the command's own exit status."""
    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        outcome = None if kernel else lab.kind(node).execute(command)
        if outcome is None:
            code = lab.foreground(node, ["sh", "-c", command])
        else:
            code, text = outcome
            print(text, end="" if text.endswith("\n") else "\n", file=sys.stderr if code else sys.stdout)
    raise SystemExit(code)


@task(positional=["node"], help=KERNEL)
def shell(_c: Context, node, kernel=False, name=None):
    """Opens a shell in a node, VPP's CLI on a VPP router."""
    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        console = None if kernel else lab.kind(node).console()
        code = lab.foreground(node, console or [os.environ.get("SHELL", "/bin/sh")])
    raise SystemExit(code)


@task(
    iterable=["link"], help=NAME | {"link": "a link's name; all links without it", "stop": "end the captures"}
)
def capture(_c: Context, link=None, stop=False, name=None):
    """Captures on links into pcap files; returns when it captures, goes on until --stop."""
    from lab import capture as captures

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        if not stop:
            print("\n".join(captures.start(lab, link or ())))
            return
        ended = captures.stop_all(lab)
        for one in ended:
            print(one.file)
        troubles = [one.trouble for one in ended if one.trouble]
    if troubles:
        raise Exit("\n".join(f"hawkwing lab: {trouble}" for trouble in troubles), 1)


@task(
    positional=["link"],
    help=NAME
    | {
        "latency": "such as 80ms, 500us, 1s (a plain number: microseconds)",
        "bandwidth": "such as 10Mbit, 500kbit, 1Gbit (a plain number: kbit/s)",
        "loss": "such as 5%",
        "link": "a link's name",
    },
)
def impair(_c: Context, link, latency=None, bandwidth=None, loss=None, name=None):
    """Makes a link worse, for packets and for the controller's knowledge of it."""
    from lab import impair as impairments
    from lab import units

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        read = ((units.latency, latency), (units.bandwidth, bandwidth), (units.loss, loss))
        try:
            values = [parse(text) if text is not None else None for parse, text in read]
        except ValueError as error:
            raise Exit(f"hawkwing lab: {error}", 1) from None
        print("\n".join(impairments.impair(lab, link, *values)))


@task(positional=["link"], help=NAME | {"link": "a link's name"})
def fail(_c: Context, link, name=None):
    """Takes a link down for real; routers and controller find ways around it."""
    from lab import impair as impairments

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print("\n".join(impairments.fail(lab, link)))


@task(help=NAME | {"link": "a link's name; all links without it"})
def heal(_c: Context, link=None, name=None):
    """Puts a link, or all of them, back as the topology has it."""
    from lab import impair as impairments

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print("\n".join(impairments.heal(lab, link)))


@task(help={"format": "mermaid or svg", "output": "file to write; else printed", "topology": "YAML file"})
def graph(_c: Context, format="mermaid", output=None, topology=None):
    """Draws the topology from its file alone."""
    from lab.graph import mermaid, svg

    drawings = {"mermaid": mermaid, "svg": svg}
    if format not in drawings:
        raise Exit(f"hawkwing lab: there is no format {format!r}: use mermaid or svg", 1)
    with one_sentence():
        text = drawings[format](_lab(None, topology).topology)
        if output:
            (_caller() / output).write_text(text)
        else:
            print(text)


def _caller() -> Path:
    """The folder in which ./run was typed."""
    return Path(os.environ.get("HAWKWING_CWD", Path.cwd()))


def _agent(role, node, interface, config, name):
    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        argv = [*HAWKWING, role]
        for one in interface or ["eth0"]:
            argv += ["-i", one]
        if config:
            argv += ["--config", str(_caller() / config)]
        code = lab.foreground(node, argv)
    raise SystemExit(code)


@task(iterable=["interface"], help=NAME | {"node": "host to run on", "config": "configuration file"})
def client(_c: Context, node="host-a", interface=None, config=None, name=None):
    """Runs `hawkwing client` in a host, until Ctrl-C; by default with the lab's example paths."""
    _agent("client", node, interface, config or str(PROJECT / "lab" / "client.yaml"), name)


@task(
    iterable=["interface"], help=NAME | {"node": "host to run on", "config": "configuration file (optional)"}
)
def server(_c: Context, node="host-b", interface=None, config=None, name=None):
    """Runs `hawkwing server` in a host, until Ctrl-C."""
    _agent("server", node, interface, config, name)


@task(
    help=NAME
    | {"table": "YAML table of paths", "push": "DESTINATION=INTENT[,..]=SID[,..] to the running one"}
)
def hawkeye(_c: Context, table=None, push=None, name=None):
    """Restarts the mock controller with a table, or makes the running one push a path."""
    from lab.controller import push_path, restart

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print(push_path(lab, push) if push else restart(lab, _caller() / table if table else None))


@task(
    help={"keep": "leave the lab up and say how to look around", "name": "its own lab's name (default: demo)"}
    | ROUTERS
)
def demo(_c: Context, keep=False, routers=None, vpp_prefix=None, name="demo"):
    """Steers a request through nine routers by two paths and shows what was captured on each link."""
    from lab.demo import run

    with one_sentence():
        raise SystemExit(run(keep, _routers(routers), vpp_prefix, name))


def _become(module: str, *arguments: str) -> None:
    """Ends as another program: signals and terminal are its own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _pytest(*arguments: str) -> None:
    _become("tests", *arguments)


@task(default=True)
def everything(_c: Context):
    """Lint, then all tests this machine can run."""
    linting()
    _pytest("tests")


@task
def unit(_c: Context):
    """Tests of the pure parts; needs no root."""
    _pytest("tests/unit")


@task
def dataplane(_c: Context):
    """Tests of the BPF programs, packet in and packet out (BPF_PROG_TEST_RUN)."""
    _pytest("tests/dataplane")


@task(help=ROUTERS)
def integration(_c: Context, routers=None, vpp_prefix=None):
    """Tests in the lab, asserted on the wire."""
    chosen = [f"--routers={_routers(routers)}"] if routers else []
    chosen += [f"--vpp-prefix={vpp_prefix}"] if vpp_prefix else []
    _pytest("tests/integration", *chosen)


def linting() -> None:
    """ruff and mypy over everything."""
    from lab.commands import run_part

    for command in ("ruff check .", "ruff format --check .", "mypy"):
        with one_sentence():
            status = run_part([sys.executable, "-m", *command.split()])
        if status:
            raise SystemExit(status)


@task(help={"count": "packets", "seed": "a number; the same seed gives the same packets"})
def fuzz(_c: Context, count=1000000, seed=1):
    """Compares the BPF programs with an independent model on mutated packets."""
    _become("tests.dataplane.fuzz", "--count", str(count), "--seed", str(seed))


@task(help={"quick": "few rounds", "output": "JSON file (default: bench.json)"})
def bench(_c: Context, quick=False, output="bench.json"):
    """Unsteered, the kernel's seg6 and HawkWing side by side."""
    from lab.bench import run

    with one_sentence():
        raise SystemExit(run(_caller() / output, quick))


@task
def lint(_c: Context):
    """Checks style and types."""
    linting()


@task
def doctor(_c: Context):
    """Lists what this machine can and cannot do, and why."""
    from lab.doctor import main

    raise SystemExit(main())


@task
def proto(_c: Context):
    """Generates the gRPC code anew from proto/intent.proto."""
    from lab.protoc import regenerate

    regenerate(PROJECT / "hawkwing" / "controller")


namespace = Collection(client, server, hawkeye, demo, bench, lint, doctor, proto)
namespace.add_collection(
    Collection("lab", up, down, list_, status, exec_, shell, capture, graph, impair, fail, heal)
)
namespace.add_collection(Collection("test", everything, unit, dataplane, integration, fuzz))
