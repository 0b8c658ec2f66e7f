"""What we read and change by netlink, next to what iproute2 makes of it, in a namespace of its own."""

import errno
import json
import os
import re
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hawkwing import handover
from hawkwing.dataplane import ahead, attach, bpf, claim, netlink, tc
from hawkwing.dataplane.attach import Hooks, Program
from hawkwing.dataplane.interfaces import Asked
from hawkwing.dataplane.keeper import Keeper
from hawkwing.dataplane.netlink import Listener, Netlink, RefusedError
from hawkwing.errors import DataplaneError
from lab import netns
from lab.wait import patient

LONG = "a-name-that-is-longer-than-names-are"


def program(verdict: int) -> int:
    """The file descriptor of a program that returns this for each packet."""
    return bpf.load_program("somebody", b"\xb7\0\0\0" + struct.pack("=i", verdict) + b"\x95" + bytes(7))


class Place:
    """A namespace with v0 and v1, its netlink socket, and a shell in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sh("ip link add v0 type veth peer name v1")
        self.ip = netns.run_inside(name, Netlink)

    def sh(self, script: str) -> str:
        argv = ["nsenter", f"--net={netns.path(self.name)}", "sh", "-ec", script]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def link(self, name: str = "v0") -> tc.Link:
        found = tc.link(self.ip, name=name)
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Removed after the test."""
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path))
    claim.runtime_folder().mkdir(parents=True)
    name = f"tc-{os.getpid()}"
    netns.create(name)
    made = Place(name)
    yield made
    made.ip.close()
    netns.remove(name)


def test_links(place: Place) -> None:
    place.sh(f"ip link property add dev v0 altname enp1s0 altname {LONG}")
    told = {one["ifname"]: one["ifindex"] for one in json.loads(place.sh("ip -j link"))}
    assert {one.name: one.index for one in tc.links(place.ip)} == told
    link = place.link()
    assert link.other_names == ("enp1s0", LONG) and link.type == 1
    assert place.link("enp1s0") == place.link(LONG) == link
    assert tc.link(place.ip, index=link.index) == link
    assert tc.link(place.ip, index=7777) is tc.link(place.ip, name="nope") is None
    assert tc.link(place.ip, name="x" * 200) is tc.link(place.ip, name="") is None


def test_queueing_disciplines(place: Place) -> None:
    index = place.link().index
    place.sh("tc qdisc add dev v1 clsact")
    assert tc.qdisc(place.ip, index) is None
    tc.add_clsact(place.ip, index)
    assert tc.qdisc(place.ip, index) == tc.Qdisc("clsact")
    assert "qdisc clsact ffff: parent ffff:fff1" in place.sh("tc qdisc show dev v0")
    with pytest.raises(RefusedError) as refused:
        tc.add_clsact(place.ip, index)
    assert refused.value.errno == errno.EEXIST and "Exclusivity" in refused.value.text
    tc.remove_clsact(place.ip, index)
    assert "clsact" not in place.sh("tc qdisc show dev v0")
    place.sh("tc qdisc add dev v0 ingress")
    assert tc.qdisc(place.ip, index) == tc.Qdisc("ingress")
    place.sh("tc qdisc del dev v0 ingress; tc qdisc add dev v0 ingress_block 21 egress_block 22 clsact")
    assert tc.qdisc(place.ip, index) == tc.Qdisc("clsact", (21, 22))


def test_filters(place: Place) -> None:
    index, fd = place.link().index, program(-1)
    place.sh("tc qdisc add dev v0 clsact")
    tc.put_filter(place.ip, index, tc.EGRESS, (48401, 1), fd, "hawkwing:client")
    place.sh("tc filter add dev v0 egress prio 7 protocol ipv6 u32 match u32 0 0 flowid 1:1")
    # Not as JSON, which older versions of tc write with mistakes.
    said = place.sh("tc filter show dev v0 egress")
    told = re.search(r" pref (\d+) bpf .*handle 0x1 (\S+) direct-action .*\bid (\d+)", said)
    assert told is not None, said
    found = tc.filters(place.ip, index, tc.EGRESS)
    assert [one.kind for one in found] == ["u32", "u32", "bpf"]
    ours = found[-1]
    assert (str(ours.priority), ours.name, str(ours.program)) == told.groups()
    assert ours.program == bpf.program_info(fd).id and ours.protocol == tc.ETH_P_ALL
    with pytest.raises(RefusedError) as refused:
        tc.put_filter(place.ip, index, tc.EGRESS, (48401, 1), fd, "another")
    assert refused.value.errno == errno.EEXIST
    tc.replace_filter(place.ip, index, tc.EGRESS, (48401, 1), fd, "another")
    assert [one.name for one in tc.filters(place.ip, index, tc.EGRESS)][-1] == "another"
    assert tc.filters(place.ip, index, tc.INGRESS) == []
    tc.remove_filter(place.ip, index, tc.EGRESS, (48401, 1))
    assert "bpf" not in place.sh("tc filter show dev v0 egress")
    os.close(fd)


def test_what_is_refused_has_the_kernels_own_words(place: Place) -> None:
    fd = program(-1)
    place.sh("tc qdisc add dev v0 ingress_block 21 egress_block 22 clsact")
    with pytest.raises(RefusedError) as refused:
        tc.put_filter(place.ip, place.link().index, tc.EGRESS, (48401, 1), fd, "x")
    assert refused.value.errno == errno.EOPNOTSUPP and "shared" in refused.value.text
    os.close(fd)


def test_a_listener_hears_of_changes_and_that_some_were_lost(place: Place) -> None:
    listener = netns.run_inside(place.name, Listener)
    assert list(listener.changes()) == []
    place.sh("tc qdisc add dev v0 clsact")
    heard = [change for change in listener.changes() if change is not None]
    assert (netlink.NEWQDISC, (0, place.link().index)) in [
        (change.kind, tc.family_and_index(change.content)) for change in heard
    ]
    # More than there is room for.
    listener._socket.setsockopt(1, 8, 4096)
    place.sh("for i in 1 2 3 4 5 6 7 8 9; do tc qdisc del dev v0 clsact; tc qdisc add dev v0 clsact; done")
    assert None in list(listener.changes())
    assert list(listener.changes()) == []
    listener.close()


@pytest.fixture
def hooks(place: Place) -> Iterator[Hooks]:
    """Of a client, with programs that let everything pass."""
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")}
    made = {name: Program(fd, bpf.program_info(fd).id) for name, fd in fds.items()}
    yield Hooks(place.ip, "client", "tc", made)
    for fd in fds.values():
        os.close(fd)


def test_holding_again_changes_nothing(place: Place, hooks: Hooks) -> None:
    assert hooks.hold(place.link()).put == ("egress", "ingress")
    before = place.sh("tc filter show dev v0 egress; tc filter show dev v0 ingress")
    listener = netns.run_inside(place.name, Listener)
    assert hooks.hold(place.link()).put == ()
    assert list(listener.changes()) == []
    assert place.sh("tc filter show dev v0 egress; tc filter show dev v0 ingress") == before
    listener.close()


def test_a_predecessors_filters_are_replaced_where_they_are_and_doubles_removed(
    place: Place, hooks: Hooks
) -> None:
    old = program(-1)
    place.sh("tc qdisc add dev v0 clsact")
    for priority in (300, 48401):
        tc.put_filter(place.ip, place.link().index, tc.EGRESS, (priority, 5), old, "hawkwing:client")
    hooks.hold(place.link())
    (mine,) = tc.filters(place.ip, place.link().index, tc.EGRESS)
    assert (mine.priority, mine.handle) == (300, 5) and mine.program != bpf.program_info(old).id
    os.close(old)


def test_a_busy_neighbourhood(place: Place, hooks: Hooks) -> None:
    """No place is left that keeps the order of the roles."""
    fd = program(-1)
    place.sh("tc qdisc add dev v0 clsact")
    for priority in attach.priorities("client", tc.EGRESS):
        tc.put_filter(place.ip, place.link().index, tc.EGRESS, (priority, 1), fd, "somebody")
    with pytest.raises(DataplaneError, match="the tc priorities around 48401 on v0 are taken"):
        hooks.hold(place.link())
    os.close(fd)


def test_the_roles_keep_their_order(place: Place) -> None:
    """The server comes first on arrival, because it learns, and last on departure: what has an SRH stays."""
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")}
    made = {name: Program(fd, bpf.program_info(fd).id) for name, fd in fds.items()}
    for role in ("client", "server"):
        Hooks(place.ip, role, "tc", made).hold(place.link())
    for parent, order in ((tc.INGRESS, ["server", "client"]), (tc.EGRESS, ["client", "server"])):
        found = [one.name for one in tc.filters(place.ip, place.link().index, parent)]
        assert found == [f"hawkwing:{role}" for role in order]
    for fd in fds.values():
        os.close(fd)


def xdp_program() -> int:
    """One that lets everything pass, whose name isn't one of ours."""
    return bpf.load_program("somebody", b"\xb7\0\0\0\x02\0\0\0\x95" + bytes(7), bpf.XDP)


@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_the_xdp_program_of_somebody_stays(place: Place, hook: str) -> None:
    theirs, ours = xdp_program(), xdp_program()
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")} | {"ingress_xdp": ours}
    made = {name: Program(fd, bpf.program_info(fd).id) for name, fd in fds.items()}
    tc.set_xdp(place.ip, place.link().index, theirs, tc.XDP_NEW | tc.XDP_GENERIC)
    number = bpf.program_info(theirs).id
    hooks = Hooks(place.ip, "client", hook, made)
    held = hooks.hold(place.link(), first=True)
    assert ("another XDP program is on v0 already" in held.problem) == (hook != "tc")
    assert place.link().xdp == number
    assert hooks.let_go(place.link())
    assert place.link().xdp == number
    for fd in (theirs, *fds.values()):
        os.close(fd)


def test_our_own_xdp_program_goes(place: Place) -> None:
    ours = xdp_program()
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")} | {"ingress_xdp": ours}
    made = {name: Program(fd, bpf.program_info(fd).id) for name, fd in fds.items()}
    hooks = Hooks(place.ip, "client", "xdp-generic", made)
    assert hooks.hold(place.link(), first=True).put == ("egress", "ingress", "XDP")
    assert place.link().xdp == bpf.program_info(ours).id
    assert hooks.let_go(place.link())
    assert place.link().xdp == 0
    for fd in fds.values():
        os.close(fd)


def test_state_counts_only_while_the_filters_are_there(place: Place, hooks: Hooks) -> None:
    """A host that was restarted, or a detach: what was saved before is outdated."""

    def saved() -> list[str]:
        return sorted(path.name for path in claim.runtime_folder().glob("client-v0.*"))

    def work() -> None:
        claim.runtime_folder().mkdir(parents=True, exist_ok=True)
        for name in ("client-v0.state", "client-v0.programs", "server-v0.programs"):
            (claim.runtime_folder() / name).write_text("{}")
        handover.tidy("client", "v0")

    def work_attached() -> list[str]:
        work()
        return saved()

    hooks.hold(place.link())
    there = ["client-v0.programs", "client-v0.state"]
    assert netns.run_inside(place.name, work_attached) == there
    assert hooks.let_go(place.link())
    assert netns.run_inside(place.name, work_attached) == []
    assert netns.run_inside(place.name, lambda: [p.name for p in claim.runtime_folder().glob("server-*")])


def test_letting_go_leaves_what_others_have(place: Place, hooks: Hooks) -> None:
    fd = program(-1)
    hooks.hold(place.link())
    tc.put_filter(place.ip, place.link().index, tc.INGRESS, (9, 1), fd, "somebody")
    assert hooks.let_go(place.link())
    assert [one.name for one in tc.filters(place.ip, place.link().index, tc.INGRESS)] == ["somebody"]
    assert list(claim.runtime_folder().glob("clsact-*")) == []
    os.close(fd)


def test_two_roles_at_once_leave_no_clsact(place: Place) -> None:
    """Each looks for the clsact while the other one is just making it."""
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")}
    made = {name: Program(fd, bpf.program_info(fd).id) for name, fd in fds.items()}
    link = place.link()
    both = threading.Barrier(2)

    def live(role: str) -> None:
        with Netlink() as ip:
            hooks = Hooks(ip, role, "tc", made)
            for _ in range(50):
                both.wait(patient(10))
                hooks.hold(link, first=True)
                both.wait(patient(10))
                assert hooks.let_go(link)
                both.wait(patient(10))
                assert tc.qdisc(ip, link.index) is None
                both.wait(patient(10))

    with ThreadPoolExecutor() as threads:
        for done in [
            threads.submit(netns.run_inside, place.name, lambda role=role: live(role))
            for role in ("client", "server")
        ]:
            done.result()
    for fd in fds.values():
        os.close(fd)


def test_a_start_that_fails_touches_nothing_where_it_did_not_get_to(place: Place, hooks: Hooks) -> None:
    """The client there has made the clsact, and removes it at the end."""
    fds = {f"{way}_ethernet": program(-1) for way in ("egress", "ingress")}
    hooks.hold(place.link("v1"))
    place.sh("tc qdisc add dev v0 ingress")
    asked = [Asked(name, name) for name in ("v0", "v1")]
    keeper = netns.run_inside(place.name, lambda: Keeper("server", asked, "tc", fds, claim.Claims("server")))
    with pytest.raises(DataplaneError, match="v0 has the queueing discipline ingress"):
        keeper.start()
    assert hooks.let_go(place.link("v1"))
    assert "clsact" not in place.sh("tc qdisc show dev v1")
    for fd in fds.values():
        os.close(fd)


def test_only_locks_of_vanished_interfaces_are_removed(place: Place) -> None:
    """That of a VLAN interface, which an agent may be about to take, ends in a number as well."""
    folder, there = claim.runtime_folder(), place.link().index
    for name in ("client.7777", f"client.{there}", "client-v0.7777", "server-v0.100.7777", "server-v0"):
        (folder / f"{name}.lock").touch()
    claim.forget_vanished(place.ip)
    left = {path.stem for path in folder.glob("*.lock")}
    assert left == {f"client.{there}", "client-v0.7777", "server-v0.100.7777", "server-v0"}


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        ("prio 7 protocol ipv6 u32 match u32 0 0 flowid 1:1", ["u32"]),
        ("prio 7 protocol all u32 match u32 0 0 flowid 1:1", ["u32"]),
        ("prio 7 protocol arp u32 match u32 0 0 flowid 1:1", []),
        ("prio 50000 protocol ipv6 u32 match u32 0 0 flowid 1:1", []),
        ("prio 7 protocol ipv6 u32 match u32 0 0 action pass", ["u32"]),
        ("prio 7 protocol ipv6 u32 match u32 0 0 action continue", []),
    ],
)
def test_who_ends_the_chain_ahead_of_us(place: Place, script: str, kinds: list[str]) -> None:
    place.sh("tc qdisc add dev v0 clsact")
    done = subprocess.run(
        ["nsenter", f"--net={netns.path(place.name)}", "sh", "-c", f"tc filter add dev v0 egress {script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this kernel has no such classifier or action: {done.stderr.strip()}")
    found = ahead.of_interface(place.ip, place.link().index)
    assert [one.what.split()[1] for one in found] == kinds
