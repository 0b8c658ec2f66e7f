"""Routers made of VPP: the same network, and what is particular to them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest
import yaml
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting, in6_pseudoheader
from scapy.utils import checksum

from lab import netns
from lab.impair import fail, heal, impair
from lab.network import DEFAULT_TOPOLOGY, Lab, LabError
from lab.packets import Captured
from lab.process import members
from lab.vpp import objects
from lab.vpp.api import Api, VppError
from lab.vpp.installation import Installation, VppMissingError
from lab.vpp.installation import find as find_vpp
from lab.vpp.startup import API_SOCKET, shared_memory
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, tcp_port

from .conftest import Agents, require_vpp
from .onwire import R1, R3, R5, R6, B, assert_not_steered
from .test_lab import invoke
from .test_steering import http

PATH = f"""
services:
  b:
    ipv6_addresses: [{B}]
    applications:
      - port: 80
        sid: [{R1}, {R3}, {R5}, {R6}]
      - port: 4000
        sid: [{R1}, {R3}, {R5}, {R6}]
"""
WAY = [
    ("host-a-site-a", R1),
    ("site-a-vpp1", R1),
    ("vpp1-vpp3", R3),
    ("vpp3-vpp5", R5),
    ("vpp5-vpp6", R6),
    ("vpp6-site-b", B),
    ("site-b-host-b", B),
]
MEGABYTE = 1 << 20
LEAST_CARRIED = 0.85
MOST_RESIDENT = 250 * MEGABYTE


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest) -> Installation:
    """The VPP of this machine; skips where there is none."""
    prefix = request.config.getoption("--vpp-prefix")
    require_vpp(prefix)
    return find_vpp(prefix)


@pytest.fixture(scope="module")
def vpps(installation: Installation, new_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """The development network with nine instances of VPP."""
    made = new_lab("vpp", "vpp")
    made.up()
    yield made
    made.down()
    assert made.remains() == []


@pytest.fixture
def another(installation: Installation, new_lab: Callable[..., Lab], tmp_path: Path) -> Iterator[Lab]:
    """A lab of VPP for one test; taken down afterwards whatever happened."""
    made = new_lab("vpp-other", "vpp")
    yield made
    made.down()
    assert made.remains() == []


def instances(lab: Lab) -> dict[str, int]:
    """Process numbers of the lab's routers."""
    processes = lab.processes()
    return {
        router.name: processes[router.name] for router in lab.topology.routers if router.name in processes
    }


def journey(lab: Lab, folder: Path) -> list[tuple[str, str, str, str, bytes]]:
    """What a steered request's first packet and its answer's were on each link, to the SRH's last byte."""
    agents = Agents(lab, folder)
    try:
        agents.server("host-b")
        agents.client(PATH)
        with closing(Capture(lab.topology, lab.namespace)) as capture:
            assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
            packets = capture.settled(tcp_port(80))
    finally:
        agents.stop()
    links = len({packet.link for packet in packets})
    ways = ([p for p in packets if p[TCP].dport == 80], [p for p in packets if p[TCP].sport == 80])
    return [seen(packet) for way in ways for packet in way[:links]]


def seen(packet: Captured) -> tuple[str, str, str, str, bytes]:
    """Everything about a packet that must not depend on what routers are made of."""
    header = packet.getlayer(IPv6ExtHdrSegmentRouting)
    srh = header.original[: (header.len + 1) * 8] if header else b""
    return packet.link, packet.sender, packet[IPv6].src, packet[IPv6].dst, srh


def test_both_kinds_of_routers_give_the_same_packets(
    vpps: Lab, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    kernels = new_lab("kernel", "linux")
    kernels.up()
    try:
        of_kernel = journey(kernels, tmp_path)
    finally:
        kernels.down()
    of_vpp = journey(vpps, tmp_path)
    assert of_vpp == of_kernel
    assert len(of_vpp) == 14 and all(srh for *_rest, srh in of_vpp)


def test_without_the_agent_there_is_no_srh(vpps: Lab) -> None:
    with closing(Capture(vpps.topology, vpps.namespace)) as capture:
        assert http(vpps, f"http://[{B}]/") == "Hello from host-b\n"
        packets = capture.settled(tcp_port(80))
    assert_not_steered(packets)


def test_a_hundred_megabytes_each_way_arrive_unchanged(vpps: Lab, tmp_path: Path) -> None:
    """Checksum and segmentation offload between the kernel and VPP is where TCP would die."""
    size = 100 * MEGABYTE
    agents = Agents(vpps, tmp_path)
    script = (
        "import hashlib, socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 4000)) if sys.argv[2] == 'client' else None\n"
        "if s is None:\n"
        "    l = socket.create_server((sys.argv[1], 4000), family=socket.AF_INET6)\n"
        "    print('listening', flush=True)\n"
        "    s, _peer = l.accept()\n"
        "data = hashlib.shake_128(sys.argv[2].encode()).digest(1 << 20)\n"
        "def send():\n"
        "    for _ in range(100): s.sendall(data)\n"
        "def receive():\n"
        "    digest, left = hashlib.sha256(), 100 << 20\n"
        "    while left:\n"
        "        part = s.recv(min(left, 1 << 18))\n"
        "        if not part: raise SystemExit(f'{left} bytes are missing')\n"
        "        digest.update(part)\n"
        "        left -= len(part)\n"
        "    print(digest.hexdigest(), flush=True)\n"
        "for step in (send, receive) if sys.argv[2] == 'client' else (receive, send): step()\n"
    )
    try:
        agents.server("host-b")
        agents.client(PATH)
        far = vpps.start("host-b", "hash-server", [sys.executable, "-c", script, B, "server"])
        far.wait_for("listening")
        near = vpps.execute("host-a", [sys.executable, "-c", script, B, "client"], timeout=PATIENCE)
        assert far.wait(60) == 0, far.output()
    finally:
        agents.stop()

    def expected(sender: str) -> str:
        return hashlib.sha256(
            hashlib.shake_128(sender.encode()).digest(MEGABYTE) * (size // MEGABYTE)
        ).hexdigest()

    assert far.output().split()[-1] == expected("client")
    assert near.stdout.strip() == expected("server")


def test_status_counts_what_each_sid_has_seen(vpps: Lab, tmp_path: Path, installation: Installation) -> None:
    before = vpps.sid_packets()
    journey(vpps, tmp_path)
    after = vpps.sid_packets()
    used = {
        str(router.sid) for router in vpps.topology.routers if grown(before, after, router.name, router.sid)
    }
    assert used == {R1, R3, R5, R6}
    shown = invoke("lab.status", "--name", vpps.name)
    assert shown.returncode == 0 and "VPP" in shown.stdout and "ready: yes" in shown.stdout
    doctor = subprocess.run(
        [sys.executable, "-m", "lab.doctor"],
        env={**os.environ, "HAWKWING_VPP_PREFIX": str(installation.program.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert installation.version() in doctor.stdout


def grown(
    before: dict[str, dict[IPv6Address, int]],
    after: dict[str, dict[IPv6Address, int]],
    router: str,
    sid: IPv6Address,
) -> bool:
    return after[router][sid] > before[router][sid]


def test_commands_reach_the_instances_console(vpps: Lab) -> None:
    name = ["--name", vpps.name]
    shown = invoke("lab.exec", "vpp1", "show sr localsid", *name)
    assert shown.returncode == 0 and "fcbb:bb00:1::2" in shown.stdout and "Good traffic" in shown.stdout
    wrong = invoke("lab.exec", "vpp1", "show nonsense", *name)
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr and wrong.stdout == ""
    below = invoke("lab.exec", "vpp1", "ip -o link show vpp2", "--kernel", *name)
    assert below.returncode == 0 and "vpp2" in below.stdout
    argv = [sys.executable, "-m", "invoke", "lab.shell", "vpp1", *name]
    shell = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert shell.stdin is not None and shell.stdout is not None
    with shell:
        shell.stdin.write("show version\n")
        shell.stdin.flush()
        shown_there = shell.stdout.readline()
        shell.stdin.write("quit\n")
        shell.stdin.close()
        shell.wait(10)
    assert shown_there.startswith("vpp v")


def test_instances_are_small(vpps: Lab) -> None:
    pages = {name: Path(f"/proc/{pid}/statm").read_text().split()[1] for name, pid in instances(vpps).items()}
    assert len(pages) == 9
    assert all(int(count) * os.sysconf("SC_PAGE_SIZE") < MOST_RESIDENT for count in pages.values()), pages


def test_instances_run_on_any_core(vpps: Lab) -> None:
    """An instance that is bound to a core waits for it while another one is idle."""
    for name, pid in instances(vpps).items():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            assert os.sched_getaffinity(int(thread.name)) == os.sched_getaffinity(0), name


def test_failed_link_is_gone_around_and_healed(vpps: Lab) -> None:
    reached = ["ping", "-c1", "-W2", "fcbb:bb00:4::1"]
    vpps.execute("host-a", reached)
    try:
        fail(vpps, "vpp2-vpp4")
        wait_until(
            lambda: vpps.execute("host-a", reached, check=False).returncode == 0,
            5.0,
            "vpp4 is reached by vpp6",
        )
        assert vpps.execute("host-a", ["ping", "-c1", "-W1", "2001:db8:24::4"], check=False).returncode != 0
    finally:
        healed = heal(vpps)
    assert any("routes changed" in line for line in healed)
    vpps.execute("host-a", ["ping", "-c1", "-W2", "2001:db8:24::4"])
    assert "no routes changed" in " ".join(heal(vpps))


def test_impaired_link_carries_its_rate(vpps: Lab) -> None:
    """What VPP sends passes the queueing discipline of its end of the link."""
    size, rate, burst = 1_500_000, 2_000, 32 * 1024
    fetch = ["curl", "-s", "-m", "30", "-o", "/dev/null", "-w", "%{time_total}", f"http://[{B}]/bytes/{size}"]
    try:
        impair(vpps, "vpp6-site-b", bandwidth=rate)
        answered = float(vpps.execute("host-a", fetch).stdout)
    finally:
        heal(vpps)
    # tbf lets a burst through at once.
    assert answered > (size - 2 * burst) * 8 / (rate * 1000)
    assert answered < size * 8 / (LEAST_CARRIED * rate * 1000)
    assert float(vpps.execute("host-a", fetch).stdout) < answered


def test_capture_sees_both_ways_at_one_end(vpps: Lab) -> None:
    name = ["--name", vpps.name]
    assert invoke("lab.capture", "--link", "vpp1-vpp2", *name).returncode == 0
    vpps.execute("host-a", ["ping", "-c1", "-W2", "2001:db8:12::2"])
    (file,) = invoke("lab.capture", "--stop", *name).stdout.split()
    text = subprocess.run(["tcpdump", "-nr", file], capture_output=True, text=True, check=True).stdout
    assert "echo request" in text and "echo reply" in text


def test_objects_are_added_found_and_removed(vpps: Lab, installation: Installation) -> None:
    port = objects.HostInterface("vpp2", vpps.topology.nodes["vpp1"].interface_to("vpp2").hardware_address)
    loopback = objects.Loopback(7)
    pieces: list[objects.VppObject] = [
        loopback,
        objects.Address(loopback, IPv6Interface("fd00:7::1/128")),
        objects.Neighbour(port, IPv6Address("2001:db8:12::77"), "02:00:00:00:00:77"),
        objects.StaticRoute(
            IPv6Network("fd00:77::/64"), frozenset({objects.Gateway(port, IPv6Address("2001:db8:12::77"))})
        ),
        objects.LocalSid(IPv6Address("fd00:7:7::"), compressed=True),
        objects.LocalSid(IPv6Address("fd00:7::2")),
    ]
    with Api(vpps.run / "vpp" / "vpp1" / API_SOCKET, installation.api) as api:
        assert port.query(api)
        for piece in pieces:
            assert not piece.query(api), f"{piece} is there before it was added"
            piece.add(api)
            assert piece.query(api), f"{piece} is not there"
        with pytest.raises(VppError, match="refused sr_localsid_add_del"):
            pieces[-1].add(api)
        for piece in reversed(pieces):
            piece.remove(api)
            assert not piece.query(api), f"{piece} is still there"


def test_routes_with_several_next_hops(vpps: Lab, installation: Installation) -> None:
    """vpp1 has two equal ways to what lies across the ring."""
    with Api(vpps.run / "vpp" / "vpp1" / API_SOCKET, installation.api) as api:
        prefix = IPv6Network("fcbb:cc00:2::/48")
        hops = objects.present_routes(api, {prefix})[prefix]
    assert {address for _index, address in hops} == {
        IPv6Address("2001:db8:12::2"),
        IPv6Address("2001:db8:13::3"),
    }


def test_mixed_with_the_kernels_routers(
    new_lab: Callable[..., Lab], installation: Installation, tmp_path: Path
) -> None:
    document = yaml.safe_load(DEFAULT_TOPOLOGY.read_text())
    for name in ("vpp1", "vpp3", "site-b"):
        document["nodes"][name]["router"] = "vpp"
    file = tmp_path / "mixed.yaml"
    file.write_text(yaml.safe_dump(document))
    mixed = Lab(f"mixed-{os.getpid()}", file, None, str(installation.program.parent.parent))
    mixed.up()
    try:
        assert sorted(instances(mixed)) == ["site-b", "vpp1", "vpp3"]
        seen_there = journey(mixed, tmp_path)[:7]
        assert [(link, destination) for link, _sender, _source, destination, _srh in seen_there] == WAY
        with pytest.raises(LabError, match="is already up, with routers of kind linux and vpp"):
            Lab(mixed.name, routers="vpp").up()
    finally:
        mixed.down()
    assert mixed.remains() == []


def test_dead_instance_is_noticed_and_down_stops_only_its_own(
    another: Lab, vpps: Lab, installation: Installation
) -> None:
    others = instances(vpps)
    another.up()
    os.kill(instances(another)["vpp3"], signal.SIGKILL)
    wait_until(lambda: not another.is_up(), 5.0, "the lab is no longer whole")
    status = invoke("lab.status", "--name", another.name)
    assert status.returncode == 0 and "ready: no" in status.stdout, status.stderr
    assert shared_memory(another.namespace("vpp3")), "a killed instance leaves its shared memory"
    another.down()
    assert another.remains() == [] and not shared_memory(another.namespace("vpp3"))
    assert instances(vpps) == others and vpps.is_up()


def test_killed_while_coming_up_it_leaves_nothing(another: Lab, installation: Installation) -> None:
    prefix = str(installation.program.parent.parent)
    argv = [sys.executable, "-m", "invoke", "lab.up", "--name", another.name]
    argv += ["--routers", "vpp", "--vpp-prefix", prefix]
    process = subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    wait_until(lambda: len(members(another.name)) > 4, 10.0, "instances are being started")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert members(another.name)
    assert invoke("lab.down", "--name", another.name).returncode == 0
    assert another.remains() == []


def test_missing_vpp_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Runs everywhere: the default lab needs no VPP, and who asks for it learns how to get it."""
    environment = {name: value for name, value in os.environ.items() if name != "HAWKWING_VPP_PREFIX"}
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    name = f"no-vpp-{os.getpid()}"
    if Path("/usr/bin/vpp").exists():
        pytest.skip("VPP is installed here")
    for options, why in (
        ((), "fd.io"),
        (("--vpp-prefix", str(tmp_path)), "has no program bin/vpp"),
    ):
        argv = [sys.executable, "-m", "invoke", "lab.up", "--name", name, "--routers", "vpp", *options]
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 1 and why in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
        assert not netns.exists(f"{name}-vpp1") and not (Path("/run/hawkwing-lab") / name).exists()


def test_instance_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """A stand-in that is not VPP at all: what the lab says does not depend on why it ended."""
    for folder in ("bin", "lib/vpp_plugins", "share/vpp/api"):
        (tmp_path / folder).mkdir(parents=True)
    for program in ("vpp", "vppctl"):
        (tmp_path / "bin" / program).write_text(
            "#!/bin/sh\necho starting\necho no such thing as memory >&2\nexit 1\n"
        )
        (tmp_path / "bin" / program).chmod(0o755)
    (tmp_path / "lib/vpp_plugins/af_packet_plugin.so").touch()
    broken = Lab(f"broken-{os.getpid()}", routers="vpp", vpp_prefix=str(tmp_path))
    with pytest.raises(VppError) as told:
        broken.up()
    first, *log = str(told.value).splitlines()
    assert re.fullmatch(r"VPP on \S+ did not start \(status 1\): the end of its log:", first)
    assert [line.strip() for line in log] == ["starting", "no such thing as memory"]
    assert broken.remains() == []
    (tmp_path / "lib/vpp_plugins/af_packet_plugin.so").unlink()
    with pytest.raises(VppMissingError, match="missing: a folder"):
        find_vpp(str(tmp_path))


def test_first_packet_is_not_lost(another: Lab) -> None:
    """When the lab says it is up, no router still looks for its neighbours."""
    another.up()
    for router in ("vpp3", "vpp5", "site-c"):
        loopback = str(another.topology.router(router).loopback.ip)
        another.execute("host-a", ["ping", "-c1", "-W1", loopback])


STAND_IN = """#!{python}
import pathlib, re, socket, sys
name = re.search(r"socket-name (\\S+/api.sock)", pathlib.Path(sys.argv[2]).read_text())[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(name)
listener.listen()
listener.accept()
sys.exit("out of buffers")
"""


def test_instance_that_ends_while_it_is_configured_is_told_with_its_last_words(
    installation: Installation, tmp_path: Path
) -> None:
    """A stand-in with VPP's API files, which ends with the first connection."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib/vpp_plugins").mkdir(parents=True)
    (tmp_path / "lib/vpp_plugins/af_packet_plugin.so").touch()
    (tmp_path / "share/vpp").mkdir(parents=True)
    (tmp_path / "share/vpp/api").symlink_to(installation.api)
    for program in ("vpp", "vppctl"):
        (tmp_path / "bin" / program).write_text(STAND_IN.format(python=sys.executable))
        (tmp_path / "bin" / program).chmod(0o755)
    broken = Lab(f"broken-{os.getpid()}", routers="vpp", vpp_prefix=str(tmp_path))
    with pytest.raises(VppError) as told:
        broken.up()
    expected = r"VPP on \S+ ended while it was configured \(status 1\): out of buffers"
    assert re.fullmatch(expected, str(told.value))
    assert broken.remains() == []


def test_checksums_are_right_on_every_link(vpps: Lab, tmp_path: Path) -> None:
    """Those that are left to the device too, behind an SRH and in packets of many segments."""
    agents = Agents(vpps, tmp_path)
    try:
        agents.server("host-b")
        agents.client(PATH)
        with closing(Capture(vpps.topology, vpps.namespace)) as capture:
            vpps.execute("host-a", ["curl", "-sSf", "-o", "/dev/null", f"http://[{B}]/bytes/3000000"])
            packets = capture.settled(tcp_port(80))
    finally:
        agents.stop()
    assert {packet.link for packet in packets} == {link for link, _destination in WAY}
    for packet in packets:
        assert packet.unfinished, packet
        size = packet.length - (len(packet.original) - len(packet[TCP].original))
        assert packet[TCP].chksum == ~checksum(bytes(in6_pseudoheader(6, packet[TCP], size))) & 0xFFFF, packet
    largest = {link: max(p.length for p in packets if p.link == link) for link, _destination in WAY}
    assert all(size > objects.LARGEST_PACKET / 2 for size in largest.values()), largest


# --- lab.trace


def traced(lab: Lab, *words: str) -> subprocess.Popen[str]:
    """`lab.trace`, once it waits for packets."""
    argv = [sys.executable, "-m", "lab", "lab.trace", *words, "--name", lab.name]
    process = subprocess.Popen(
        argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("waiting for ")
    return process


def test_trace_is_shown_beside_the_packet(vpps: Lab, tmp_path: Path) -> None:
    agents = Agents(vpps, tmp_path)
    try:
        agents.server("host-b")
        agents.client(PATH)
        process = traced(vpps, "vpp3", "--port", "80", "--count", "2")
        vpps.execute("host-a", ["ping", "-c1", "-W2", str(vpps.topology.router("vpp3").loopback.ip)])
        assert http(vpps, f"http://[{B}]/") == "Hello from host-b\n"
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        agents.stop()
    assert (process.returncode, errors) == (0, "")
    assert output.count("\npacket ") == 2 and output.count("sr-localsid") == 2
    lines = output.splitlines()
    came = [line for line in lines if line.startswith("received ")]
    left = [line for line in lines if line.startswith("sent ")]
    host = str(vpps.topology.host("host-a").address)
    way = f"SRH({B}, {R6}, {R5}, {R3}, {R1}; SL="
    assert came[0].startswith(f"received  vpp1-vpp3: IPv6({host}, {R3}) {way}3) TCP(")
    assert left[0].startswith(f"sent      vpp3-vpp5: IPv6({host}, {R5}) {way}2) TCP(")
    assert came[0].split(" TCP(")[1] == left[0].split(" TCP(")[1]
    back = f"SRH({host}, {R1}, {R3}, {R5}, {R6}; SL="
    assert came[1].startswith(f"received  vpp3-vpp5: IPv6({B}, {R3}) {back}2) TCP(80, ")
    assert left[1].startswith(f"sent      vpp1-vpp3: IPv6({B}, {R1}) {back}1) TCP(80, ")
    assert any(line.strip() == "host-vpp5-tx" or line.endswith(": host-vpp5-tx") for line in lines)
    assert (
        "No packets in trace buffer" in invoke("lab.exec", "vpp3", "show trace", "--name", vpps.name).stdout
    )


def test_trace_of_a_packet_that_vpp_answers(vpps: Lab) -> None:
    """Its hop limit ends at vpp3."""
    process = traced(vpps, "vpp3")
    vpps.execute("host-a", ["ping", "-c1", "-W1", "-t3", "fcbb:bb00:5::1"], check=False)
    output, _errors = process.communicate(timeout=PATIENCE)
    host = str(vpps.topology.host("host-a").address)
    came, left = (line for line in output.splitlines() if line.startswith(("received ", "sent ")))
    assert came.startswith(f"received  vpp1-vpp3: IPv6({host}, fcbb:bb00:5::1) ICMPv6 Echo Request")
    assert left.startswith("sent      vpp1-vpp3: IPv6(") and f", {host}) ICMPv6 Time Exceeded" in left


def test_trace_of_a_packet_that_vpp_drops(vpps: Lab) -> None:
    process = traced(vpps, "site-a")
    vpps.execute("host-a", ["ping", "-c1", "-W1", "2001:db8:dead::1"], check=False)
    output, _errors = process.communicate(timeout=PATIENCE)
    came, left = (line for line in output.splitlines() if line.startswith(("received ", "sent ")))
    assert came.startswith("received  host-a-site-a: IPv6(") and ", 2001:db8:dead::1)" in came
    nothing = "sent      nothing, the last node of VPP's graph is "
    assert left.startswith((nothing, "sent      host-a-site-a: IPv6(")), left


def test_trace_without_a_packet_or_without_vpp(vpps: Lab) -> None:
    name = ["--name", vpps.name]
    silent = invoke("lab.trace", "vpp3", "--seconds", "1", "--port", "999", *name)
    assert silent.returncode == 1
    assert silent.stderr == "hawkwing lab: no matching packet arrived at vpp3 within 1 s\n"
    for words, why in (
        (["host-a"], "host-a is a host, not a router"),
        (["nobody"], "has no node 'nobody'"),
        (["vpp3", "--port", "x"], "'x' is not a port"),
    ):
        refused = invoke("lab.trace", *words, *name)
        assert refused.returncode == 1 and why in refused.stderr and "Traceback" not in refused.stderr
