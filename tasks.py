"""All tasks; the work is done in the modules. `./run --list` lists them."""

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
    """Prints a user's error as one sentence and exits with status 1."""
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
    return Lab(name, _from_caller(topology, DEFAULT_TOPOLOGY), _routers(routers), vpp_prefix)


def _routers(kind):
    if kind not in (None, "linux", "vpp"):
        raise Exit(f"hawkwing lab: {kind!r} is not a kind of router, use linux or vpp", 1)
    return kind


ROUTERS = {
    "routers": "linux or vpp, for all routers (default: as in the topology)",
    "vpp-prefix": "prefix of the VPP installation, if not on the PATH (or HAWKWING_VPP_PREFIX)",
}


NAME = {"name": "name of the lab (default: HAWKWING_LAB, or hawk)"}


IMPAIR = {"impair": "YAML file with impairments, such as `vpp2-vpp4: {latency: 80ms, loss: 1%}`"}


@task(help=NAME | {"topology": "YAML file"} | IMPAIR | ROUTERS)
def up(_c: Context, name=None, topology=None, impair=None, routers=None, vpp_prefix=None):
    """Builds the lab and starts its services; returns when all hosts reach each other."""
    import time

    from lab.doctor import missing_features

    missing = missing_features(quick=True)
    if missing:
        raise Exit("hawkwing lab: " + "\n".join(missing), 1)
    with one_sentence():
        lab = _lab(name, topology, routers, vpp_prefix)
        begun = time.monotonic()
        if not lab.up(_from_caller(impair)):
            print(f"lab {lab.name} is already up")
            return
        for sentence in lab.impaired:
            print(sentence)
        nodes, links = len(lab.topology.nodes), len(lab.topology.links)
        print(
            f"lab {lab.name} is up ({time.monotonic() - begun:.1f} s): "
            f"{nodes} nodes, {links} links; run directory {lab.run}"
        )


@task(help=NAME)
def down(_c: Context, name=None):
    """Removes the lab and checks for leftovers."""
    with one_sentence():
        lab = _lab(name)
        lab.down()
        left = lab.remains()
    if left:
        raise Exit(f"hawkwing lab: not removed: {', '.join(left)}", 1)
    print(f"Lab {lab.name} removed, nothing left over")


JSON = {"json": "print as JSON"}


@task(help=NAME | JSON)
def status(_c: Context, json=False, name=None):
    """Shows nodes, addresses, SIDs and running processes of the lab."""
    from lab.show import print_status, status_of

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print_json(status_of(lab)) if json else print_status(lab)


@task(name="list", help=JSON)
def list_(_c: Context, json=False):
    """Lists all labs of this machine, also broken ones."""
    from lab.show import labs, print_labs

    with one_sentence():
        print_json(labs()) if json else print_labs()


def print_json(value):
    import json

    print(json.dumps(value, indent=1))


KERNEL = NAME | {"kernel": "on a VPP router: use its network namespace, not VPP's CLI"}


@task(name="exec", positional=["node", "command"], help=KERNEL)
def exec_(_c: Context, node, command, kernel=False, name=None):
    """Runs a command in a node (on a VPP router in VPP's CLI) and exits with its status."""
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
    """Opens a shell in a node (on a VPP router VPP's CLI)."""
    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        console = None if kernel else lab.kind(node).console()
        code = lab.foreground(node, console or [os.environ.get("SHELL", "/bin/sh")])
    raise SystemExit(code)


@task(
    iterable=["link"],
    help=NAME
    | {
        "link": "name of a link (default: all links)",
        "stop": "stop the captures",
        "live": "write pcapng to standard output, for `| wireshark -k -i -` or `| tshark -r -`",
    },
)
def capture(_c: Context, link=None, stop=False, live=False, name=None):
    """Starts captures on links into pcap files; --stop stops them, --live follows links in a pipe."""
    from lab import capture as captures

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        if live and stop:
            raise Exit("hawkwing lab: --live ends with Ctrl-C, --stop is for captures to files", 1)
        if live:
            from lab.live import follow

            follow(lab, link or ())
            return
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
    positional=["node"],
    help=NAME
    | {
        "node": "name of a VPP router",
        "count": "number of packets (default: 1)",
        "port": "only TCP and UDP from or to this port",
        "seconds": "how long to wait (default: 60)",
    },
)
def trace(_c: Context, node, count=1, port=None, seconds=60, name=None):
    """Shows the next packets at a VPP router: as captured, and VPP's own trace of each."""
    from lab.trace import follow
    from lab.wire import Filter

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        follow(lab, node, max(1, count), Filter(port=_port(port)), seconds, _say)


def _say(text):
    print(text, flush=True)


def _port(text):
    if text is None:
        return None
    if not str(text).isdecimal() or not 0 < int(text) < 65536:
        raise Exit(f"hawkwing lab: {text!r} is not a port", 1)
    return int(text)


@task(
    positional=["link"],
    help=NAME
    | {
        "latency": "such as 80ms, 500us, 1s (a plain number: microseconds)",
        "bandwidth": "such as 10Mbit, 500kbit, 1Gbit (a plain number: kbit/s)",
        "loss": "such as 5%",
        "link": "name of a link",
    },
)
def impair(_c: Context, link, latency=None, bandwidth=None, loss=None, name=None):
    """Adds latency, loss or a rate limit to a link, and tells the controller."""
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


@task(positional=["link"], help=NAME | {"link": "name of a link"})
def fail(_c: Context, link, name=None):
    """Sets a link down; routers and controller use other paths."""
    from lab import impair as impairments

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print("\n".join(impairments.fail(lab, link)))


@task(help=NAME | {"link": "name of a link (default: all links)"})
def heal(_c: Context, link=None, name=None):
    """Sets a link, or all links, up and restores the settings from the lab's start."""
    from lab import impair as impairments

    with one_sentence():
        lab = _lab(name)
        lab.require_up()
        print("\n".join(impairments.heal(lab, link)))


@task(help={"format": "mermaid or svg", "output": "file to write (default: print)", "topology": "YAML file"})
def graph(_c: Context, format="mermaid", output=None, topology=None):
    """Draws a topology file; needs no running lab."""
    from lab.graph import mermaid, svg

    drawings = {"mermaid": mermaid, "svg": svg}
    if format not in drawings:
        raise Exit(f"hawkwing lab: {format!r} is not a format, use mermaid or svg", 1)
    with one_sentence():
        text = drawings[format](_lab(None, topology).topology)
        if output:
            (_caller() / output).write_text(text)
        else:
            print(text)


@task(
    help=NAME
    | {
        "listen": "ADDRESS:PORT (default: 127.0.0.1:8642); beyond the loopback the URL has a token",
        "picture": "PNG file to write instead of serving; needs Chromium",
    }
)
def view(_c: Context, listen=None, picture=None, name=None):
    """Shows the lab in a browser: links, paths and packets; a click changes a link."""
    from lab.view import run

    with one_sentence():
        raise SystemExit(run(_lab(name).name, listen, _from_caller(picture)))


@task(
    help={
        "to": "containerlab",
        "output": "file to write, with client.yaml next to it (default: TOPOLOGY.clab.yml)",
        "topology": "YAML file",
        "config": "the client's configuration (default: lab/client.yaml)",
        "router-image": "image with iproute2, for routers and hosts",
        "agent-image": "image of this project (./run image)",
    }
)
def export(
    _c: Context,
    to="containerlab",
    output=None,
    topology=None,
    config=None,
    router_image=None,
    agent_image=None,
):
    """Writes a topology as a file for containerlab; needs no running lab."""
    from lab import export as exports

    if to != "containerlab":
        raise Exit(f"hawkwing lab: {to!r} is not a format, use containerlab", 1)
    with one_sentence():
        wanted = _lab(None, topology).topology
        written = exports.export(
            wanted,
            _caller() / (output or f"{wanted.name}.clab.yml"),
            _from_caller(config, PROJECT / "lab" / "client.yaml"),
            router_image or exports.ROUTER_IMAGE,
            agent_image or exports.AGENT_IMAGE,
        )
        print("\n".join(map(str, written)))


def _caller() -> Path:
    """The folder in which ./run was typed."""
    return Path(os.environ.get("HAWKWING_CWD", Path.cwd()))


def _from_caller(given, default=None):
    """A path as it was typed, from the folder in which ./run was typed."""
    return _caller() / given if given else default


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
    """Runs `hawkwing client` on a host until Ctrl-C (default: with the lab's example paths)."""
    _agent("client", node, interface, config or str(PROJECT / "lab" / "client.yaml"), name)


@task(
    iterable=["interface"], help=NAME | {"node": "host to run on", "config": "configuration file (optional)"}
)
def server(_c: Context, node="host-b", interface=None, config=None, name=None):
    """Runs `hawkwing server` on a host until Ctrl-C."""
    _agent("server", node, interface, config, name)


@task(
    help=NAME
    | {
        "table": "YAML table of paths",
        "push": "DESTINATION=INTENT[,..]=SID[,..] to the running controller",
        "like": "1.0.1: behave like this release of HawkEye, including its faults",
    }
)
def hawkeye(_c: Context, table=None, push=None, like=None, name=None):
    """Restarts the mock controller, or pushes a path from the running one."""
    from lab.controller import like_options, push_path, restart

    with one_sentence():
        options = like_options(like)
        lab = _lab(name)
        lab.require_up()
        table = _from_caller(table)
        print(push_path(lab, push) if push else restart(lab, table, options=options))


@task(
    help={
        "keep": "keep the lab up and print commands to explore it",
        "name": "name of the demo's own lab (default: demo)",
        "view": "show it in a browser, see lab.view",
        "listen": "with --view: ADDRESS:PORT of the page (default: 127.0.0.1:8642)",
        "picture": "PNG file with a picture of the page, without --view; needs Chromium",
    }
    | ROUTERS
)
def demo(
    _c: Context,
    keep=False,
    routers=None,
    vpp_prefix=None,
    name="demo",
    view=False,
    listen=None,
    picture=None,
):
    """Sends requests over several paths through nine routers and shows the packets on each link."""
    from lab.demo import run

    with one_sentence():
        place = None
        if view or listen or picture:
            from lab.view.server import DEFAULT, read_place

            place = read_place(listen or ("127.0.0.1:0" if picture else DEFAULT))
        raise SystemExit(run(keep, _routers(routers), vpp_prefix, name, place, _from_caller(picture)))


def _become(module: str, *arguments: str) -> None:
    """Replaces this process by another program, which gets signals and terminal directly."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _pytest(*arguments: str) -> None:
    _become("tests", *arguments)


@task(default=True)
def everything(_c: Context):
    """Runs lint, then all tests that this machine can run, except those of image and packages."""
    linting()
    _pytest("tests/unit", "tests/dataplane", "tests/integration")


@task
def unit(_c: Context):
    """Runs the unit tests; needs no root."""
    _pytest("tests/unit")


@task
def dataplane(_c: Context):
    """Runs the tests of the BPF programs: packet in, packet out (BPF_PROG_TEST_RUN)."""
    _pytest("tests/dataplane")


@task(help={"only": "distributions, such as debian12,ubuntu2404 (default: all that have a package)"})
def packages(_c: Context, only=None):
    """Builds the image with each builder and the package of each distribution, and tests them in the lab."""
    if only:
        os.environ["HAWKWING_TEST_DISTRIBUTIONS"] = only
    _pytest("tests/packages")


@task(help=ROUTERS)
def integration(_c: Context, routers=None, vpp_prefix=None):
    """Runs the tests in the lab, which check packets on the wire."""
    chosen = [f"--routers={_routers(routers)}"] if routers else []
    chosen += [f"--vpp-prefix={vpp_prefix}"] if vpp_prefix else []
    _pytest("tests/integration", *chosen)


def linting() -> None:
    """Runs ruff and mypy."""
    from lab.commands import run_part

    for command in ("ruff check .", "ruff format --check .", "mypy"):
        with one_sentence():
            status = run_part([sys.executable, "-m", *command.split()])
        if status:
            raise SystemExit(status)


@task(help={"count": "number of packets", "seed": "a number; the same seed gives the same packets"})
def fuzz(_c: Context, count=1000000, seed=1):
    """Compares the BPF programs with an independent model, with mutated packets."""
    _become("tests.dataplane.fuzz", "--count", str(count), "--seed", str(seed))


@task(help={"count": "number of events", "seed": "a number; the same seed gives the same order"})
def chaos(_c: Context, count=100, seed=1):
    """Kills agents, stops them twice and removes interfaces, at random times under traffic."""
    _become("tests.chaos", "--count", str(count), "--seed", str(seed))


@task(help={"minutes": "how long", "seed": "a number; the same seed gives the same order"})
def soak(_c: Context, minutes=10, seed=1):
    """Measures memory, maps and descriptors of both agents, under traffic, reloads and changes."""
    _become("tests.soak", "--minutes", str(minutes), "--seed", str(seed))


@task(
    help={
        "only": "parts of the agent, such as resolver,config*,controller, and names of changes",
        "kind": "python, or edits (named changes, also in C); default: both",
        "sample": "number of changes to Python, chosen at random",
        "seed": "a number; the same seed gives the same sample",
        "workers": "number of parallel changes (default: one per processor)",
        "goal": "percent of the changes to Python that may survive (default: 5)",
        "list": "only print the changes",
        "cache": "folder for the coverage of tests (default: /var/cache/hawkwing-mutants)",
        "output": "JSON file with all changes and their results",
    }
)
def mutants(
    _c: Context,
    only=None,
    kind=None,
    sample=None,
    seed=1,
    workers=None,
    goal=None,
    list=False,
    cache=None,
    output=None,
):
    """Changes the code in copies of the tree, one change at a time, and prints those that no test detects."""
    given = {"only": only, "kind": kind, "sample": sample, "seed": seed, "workers": workers, "goal": goal}
    given |= {"cache": _from_caller(cache), "output": _from_caller(output)}
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    _become("tests.mutants", *options, *(["--list"] if list else []))


@task(
    help={
        "only": "names, such as debian13,ubuntu2404",
        "steps": "comma-separated: load, demo, unit, dataplane (default: these four), integration",
        "cache": "folder of the root file systems (default: /var/cache/hawkwing-distributions)",
        "output": "folder of logs and bytecode (default: output in the cache)",
        "debian-mirror": "mirror of Debian (or HAWKWING_DEBIAN_MIRROR)",
        "ubuntu-mirror": "mirror of Ubuntu (or HAWKWING_UBUNTU_MIRROR)",
        "fresh": "rebuild the root file systems",
        "if-possible": "if a root file system can't be built, print one line instead of failing",
    }
)
def distributions(
    _c: Context,
    only=None,
    steps=None,
    cache=None,
    output=None,
    debian_mirror=None,
    ubuntu_mirror=None,
    fresh=False,
    if_possible=False,
):
    """Tests a fresh clone in minimal Debian and Ubuntu systems: install, load, demo, tests."""
    from lab.distributions import CACHE, Options, run

    options = Options(
        only,
        steps,
        _from_caller(cache, CACHE),
        _from_caller(output),
        {"debian": debian_mirror, "ubuntu": ubuntu_mirror},
        fresh,
        if_possible,
    )
    with one_sentence():
        raise SystemExit(run(options))


@task(
    help={
        "only": "comma-separated kernels: the beginning of their release, or newest",
        "steps": "comma-separated: load, dataplane, lab, links (default: all)",
        "bytecode": "folder with one folder of bytecode per compiler (default: the shipped bytecode)",
        "cache": "folder of the kernels (default: /var/cache/hawkwing-kernels)",
        "output": "folder of the logs (default: output in the cache)",
        "debian-mirror": "mirror of Debian (or HAWKWING_DEBIAN_MIRROR)",
        "ubuntu-mirror": "mirror of Ubuntu (or HAWKWING_UBUNTU_MIRROR)",
        "fresh": "look for newer releases of the kernels",
    }
)
def kernels(
    _c: Context,
    only=None,
    steps=None,
    bytecode=None,
    cache=None,
    output=None,
    debian_mirror=None,
    ubuntu_mirror=None,
    fresh=False,
):
    """Tests programs, lab and links on kernels of Debian and Ubuntu, emulated by QEMU."""
    from lab.kernels import CACHE, Options, run

    options = Options(
        only,
        steps,
        _from_caller(bytecode),
        _from_caller(cache, CACHE),
        _from_caller(output),
        {"debian": debian_mirror, "ubuntu": ubuntu_mirror},
        fresh,
    )
    with one_sentence():
        raise SystemExit(run(options))


@task(help={"quick": "fewer rounds", "output": "JSON file (default: bench.json)"})
def bench(_c: Context, quick=False, output="bench.json"):
    """Compares HawkWing with the kernel's seg6 and with no steering."""
    from lab.bench import run

    with one_sentence():
        raise SystemExit(run(_caller() / output, quick))


@task(
    help={
        "builder": "docker, podman, buildah, or own (default: the first that works here)",
        "output": "file of the OCI archive, with --builder own (default: hawkwing.oci.tar)",
        "tag": "REPOSITORY:TAG of the image (default: hawkwing:VERSION)",
        "base": "base image, with docker, podman and buildah (default: as in the Dockerfile)",
        "bcc": "with a compiler, for changed C sources",
        "cache": "folder of the root file systems (default: /var/cache/hawkwing-distributions)",
    }
)
def image(_c: Context, builder=None, output=None, tag=None, base=None, bcc=False, cache=None):
    """Builds the container image; without docker, podman and buildah as an OCI archive."""
    from lab.packages.image import CACHE, NAME, Options, run

    options = Options(
        builder,
        _caller() / (output or "hawkwing.oci.tar"),
        tag or NAME,
        base,
        bcc,
        _from_caller(cache, CACHE),
    )
    with one_sentence():
        raise SystemExit(run(options))


@task(
    help={
        "only": "names, such as debian13,ubuntu2404 (default: debian12,debian13,ubuntu2204,ubuntu2404)",
        "output": "folder of the packages and logs (default: dist)",
        "revision": "number of this build, if it replaces packages of the same version on hosts",
        "cache": "folder of the root file systems (default: /var/cache/hawkwing-distributions)",
        "debian-mirror": "mirror of Debian (or HAWKWING_DEBIAN_MIRROR)",
        "ubuntu-mirror": "mirror of Ubuntu (or HAWKWING_UBUNTU_MIRROR)",
    }
)
def deb(
    _c: Context,
    only=None,
    output="dist",
    revision=None,
    cache=None,
    debian_mirror=None,
    ubuntu_mirror=None,
):
    """Builds a Debian package for each distribution, and checks it with lintian."""
    from lab.packages.debian import CACHE, Options, run

    options = Options(
        only,
        _caller() / output,
        revision,
        _from_caller(cache, CACHE),
        {"debian": debian_mirror, "ubuntu": ubuntu_mirror},
    )
    with one_sentence():
        raise SystemExit(run(options))


@task
def lint(_c: Context):
    """Checks style and types (ruff, mypy)."""
    linting()


@task
def doctor(_c: Context):
    """Checks what HawkWing needs on this machine, and lists what is missing."""
    from lab.doctor import main

    raise SystemExit(main())


@task
def proto(_c: Context):
    """Generates the gRPC code from proto/intent.proto."""
    from lab.protoc import regenerate

    regenerate(PROJECT / "hawkwing" / "controller")


namespace = Collection(client, server, hawkeye, demo, bench, image, deb, lint, doctor, proto)
namespace.add_collection(
    Collection(
        "lab", up, down, list_, status, exec_, shell, capture, trace, graph, export, impair, fail, heal, view
    )
)
namespace.add_collection(
    Collection(
        "test",
        everything,
        unit,
        dataplane,
        integration,
        packages,
        fuzz,
        chaos,
        soak,
        mutants,
        distributions,
        kernels,
    )
)
