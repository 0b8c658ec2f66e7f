"""Attachment is desired state: what others take away is put back within a second, and what is, is told."""

import os
import signal
import struct
import time
from collections.abc import Callable

import pytest

from hawkwing import control
from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.netlink import Netlink
from lab import netns
from lab.wait import patient, wait_until

from .pair import CONFIG, HAWKWING, OWN, SERVICE, SID, Agent, Pair

UNSPEC, OK, XDP_PASS = -1, 0, 2
TCX_PASS = 0
_PROG_ATTACH = 8

WITH_CONTROLLER = "hawkeye: {enabled: true, address: 'fcbb:cc00:5::f', port: 5001}\n" + CONFIG.replace(
    "port: 5000,", "port: 5000, intents: [{intent: low-latency}],"
)


def program(verdict: int, kind: int = bpf.SCHED_CLS) -> int:
    """The file descriptor of a program with this verdict for all packets."""
    returns = b"\xb7\0\0\0" + struct.pack("=i", verdict) + b"\x95" + bytes(7)
    return bpf.load_program("somebody", returns, kind)


def no_clsact(pair: Pair) -> None:
    """All filters go with it."""
    pair.sh("tc qdisc del dev eth0 clsact")


def no_egress_filters(pair: Pair) -> None:
    """Whosever they are."""
    pair.sh("tc filter del dev eth0 egress")


def no_filters(pair: Pair) -> None:
    """In both directions."""
    pair.sh("tc filter del dev eth0 egress; tc filter del dev eth0 ingress")


def another_clsact(pair: Pair) -> None:
    """Somebody else's, in place of ours: an agent may be faster with its next one."""
    pair.sh("until tc qdisc add dev eth0 clsact; do tc qdisc del dev eth0 clsact || :; done 2>/dev/null")


def another_filter(pair: Pair) -> None:
    """`tc filter replace` at the place of ours."""
    fd, index = program(UNSPEC), pair.index()

    def work() -> None:
        with Netlink() as ip:
            tc.replace_filter(ip, index, tc.EGRESS, (48401, 1), fd, "somebody")

    pair.within(work)
    os.close(fd)


def another_interface(pair: Pair) -> None:
    """Deleted, and made anew with the same name."""
    pair.sh("ip link del eth0")
    pair.link()


def another_with_its_index(pair: Pair) -> None:
    """Deleted, and made anew with the same index."""
    index = pair.index()
    pair.sh("ip link del eth0")
    pair.link(index=index)


def away_and_back(pair: Pair) -> None:
    """Through another namespace."""
    pair.sh(f"ip link set eth0 netns {pair.aside}")
    pair.sh(f"ip link set eth0 netns {pair.near}", pair.aside)
    pair.up()


SPOILT = [
    no_clsact,
    no_egress_filters,
    no_filters,
    another_clsact,
    another_filter,
    another_interface,
    another_with_its_index,
    away_and_back,
]


def both_filters(pair: Pair, name: str = "eth0") -> bool:
    """One of ours in each direction."""
    return pair.filters(name).count("hawkwing:client") == 2


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_taken_away_is_back_within_a_second(pair: Pair, spoil: Callable[[Pair], None]) -> None:
    agent = pair.agent().ready()
    assert pair.steered()
    # The control: with an agent that does not look, this ends the steering.
    agent.signal(signal.SIGSTOP)
    spoil(pair)
    assert not pair.steered()
    agent.signal(signal.SIGCONT)
    wait_until(lambda: both_filters(pair), 1.0, "the filters are put back")
    assert pair.steered()
    # Now it looks.
    spoil(pair)
    begun = time.monotonic()
    wait_until(lambda: both_filters(pair), 1.0, "the filters are put back")
    assert time.monotonic() - begun < patient(1.0)
    assert pair.steered()
    (told,) = pair.attachments()
    assert told["attached"] and not told["problem"]
    assert "again" in agent.output()
    assert agent.stop() == 0
    left = pair.filters()
    if spoil is another_clsact:
        assert left.startswith("qdisc clsact") and len(left.splitlines()) == 1, "that one is not ours"
    elif spoil is another_filter:
        assert "hawkwing" not in left and left.count(" somebody direct-action") == 1
    else:
        assert left == ""
    assert not pair.run_folder().exists()


def test_it_is_said_once_and_counted(pair: Pair) -> None:
    agent = pair.agent().ready()
    for number in range(1, 6):
        no_clsact(pair)
        wait_until(lambda: both_filters(pair), 1.0, "the filters are put back")
        wait_until(lambda: pair.attachments()[0]["restored"] == number, 5.0, "it is counted")  # noqa: B023
    sentence = "eth0: filters were removed by another program (egress, ingress); attached again"
    assert agent.output().count(sentence) == 1
    assert "eth0: filters were removed by another program 5 times, and attached again" in pair.hawkwing(
        "status"
    )


def test_an_interface_that_is_gone_is_told_everywhere(pair: Pair) -> None:
    agent = pair.agent().ready()
    assert "not attached" not in pair.hawkwing("status")
    assert pair.hawkwing("explain", SERVICE, "5000").startswith(f"packets to [{SERVICE}]:5000")
    pair.sh("ip link del eth0")
    agent.says("not attached: eth0 is gone", 1.0)
    assert "\n  not attached: eth0 is gone\n" in pair.hawkwing("status")
    (told,) = pair.attachments()
    assert (told["attached"], told["problem"], told["index"]) == (False, "eth0 is gone", None)
    first, second = pair.hawkwing("explain", SERVICE, "5000").splitlines()
    assert first == "not attached: eth0 is gone; packets are sent without an SRH"
    assert second.startswith(f"once attached, packets to [{SERVICE}]:5000 (service b) use {SID}")
    pair.link()
    agent.says("attached to eth0 again", 1.0)
    assert pair.steered()
    assert "not attached" not in pair.hawkwing("status") + pair.hawkwing("explain", SERVICE, "5000")
    assert agent.output().count("not attached") == 1
    assert agent.stop() == 0


def test_a_renamed_interface_stays_the_same(pair: Pair) -> None:
    agent = pair.agent().ready()
    pair.rename("eth0", "lan0")
    agent.says("eth0 has been renamed to lan0", 1.0)
    assert pair.steered()
    assert "eth0 has been renamed to lan0" in pair.hawkwing("status")
    assert pair.refused("-i", "lan0").startswith("hawkwing: hawkwing client already runs on lan0 (PID ")
    # What is called eth0 now is another one, which stays alone.
    pair.sh("ip link add eth0 type veth peer name eth0peer; ip link set eth0 up")
    pair.sh("tc qdisc del dev lan0 clsact")
    wait_until(lambda: both_filters(pair, "lan0"), 1.0, "the filters are put back")
    assert pair.filters("eth0") == ""
    assert agent.stop() == 0
    assert pair.filters("lan0") == pair.filters("eth0") == ""
    assert "filters removed from lan0" in agent.output()


def test_renamed_and_stopped_in_the_same_moment(pair: Pair) -> None:
    for number in range(5):
        agent = pair.agent("client", "-i", "eth0").ready()
        pair.rename("eth0", f"lan{number}")
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        assert pair.filters(f"lan{number}") == ""
        pair.rename(f"lan{number}", "eth0")


def test_an_altname_is_the_same_interface(pair: Pair) -> None:
    long = "a-name-that-is-longer-than-names-are"
    pair.sh(f"ip link property add dev eth0 altname enp1s0 altname {long}; ip link add other type veth")
    agent = pair.agent("client", "-i", "enp1s0", "-i", "eth0").ready()
    for name in ("eth0", "enp1s0", long):
        assert "hawkwing client already runs on eth0 (PID " in pair.refused("-i", name)
    other = pair.agent("client", "-i", "other").ready()
    assert pair.steered()
    assert other.stop() == 0 and agent.stop() == 0
    assert pair.filters() == "" and not pair.run_folder().exists()


def test_two_agents_never_end_up_on_one_interface(pair: Pair) -> None:
    """One waits for eth0, which is then the name of the other one's interface."""
    pair.sh("ip link add lan1 type veth")
    first = pair.agent().ready()
    second = pair.agent("client", "-i", "lan1").ready()
    pair.sh("ip link del eth0")
    pair.rename("lan1", "eth0")
    first.says(f"not attached: hawkwing client already runs on eth0 (PID {second.process.pid})", 2.0)
    assert both_filters(pair)
    assert second.stop() == 0
    wait_until(lambda: both_filters(pair), 15.0, "the first one takes it over")
    assert first.stop() == 0
    assert pair.filters() == ""


# --- what is there already


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        ("tc qdisc add dev eth0 ingress", "eth0 has the queueing discipline ingress instead of clsact"),
        (
            "tc qdisc add dev eth0 ingress_block 21 egress_block 22 clsact",
            "the clsact of eth0 uses shared blocks (21 and 22)",
        ),
    ],
)
def test_a_place_that_is_taken(pair: Pair, theirs: str, sentence: str) -> None:
    pair.sh(theirs)
    before = pair.sh("tc qdisc show dev eth0")
    assert pair.refused().startswith(f"hawkwing: {sentence}")
    assert pair.sh("tc qdisc show dev eth0") == before
    assert "hawkwing" not in pair.filters()
    # And while an agent runs: it waits until the place is free.
    pair.sh("tc qdisc del dev eth0 parent ffff:fff1")
    agent = pair.agent().ready()
    agent.signal(signal.SIGSTOP)
    pair.sh(f"tc qdisc del dev eth0 clsact; {theirs}")
    agent.signal(signal.SIGCONT)
    agent.says(f"not attached: {sentence}", 1.0)
    assert f"not attached: {sentence}" in pair.hawkwing("status")
    assert not pair.steered()
    pair.sh("tc qdisc del dev eth0 parent ffff:fff1")
    wait_until(lambda: both_filters(pair), 1.0, "it is attached again")
    assert pair.steered()
    assert agent.stop() == 0
    assert pair.filters() == ""


def test_a_filter_at_our_place_stays(pair: Pair) -> None:
    pair.sh("tc qdisc add dev eth0 clsact")
    fd = program(UNSPEC)
    for parent in (tc.EGRESS, tc.INGRESS):
        for priority in (48401, 48402):
            pair.put(fd, parent, priority)
    before = pair.filters()
    agent = pair.agent().ready()
    assert pair.steered()
    assert pair.filters().count(" somebody direct-action") == 4 and both_filters(pair)
    assert agent.stop() == 0
    assert pair.filters() == before
    os.close(fd)


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_order_of_both_roles_is_kept(pair: Pair, role: str) -> None:
    """Also where their usual places are taken; whoever comes first."""
    pair.sh("tc qdisc add dev eth0 clsact")
    fd = program(UNSPEC)
    for parent in (tc.EGRESS, tc.INGRESS):
        for priority in (48401, 48402):
            pair.put(fd, parent, priority)
    for one in (role, "server" if role == "client" else "client"):
        pair.agent(one).ready()

    def order(way: str) -> list[str]:
        lines = pair.sh(f"tc filter show dev eth0 {way}").splitlines()
        return [name for line in lines for name in ("client", "server") if f"hawkwing:{name}" in line]

    assert order("egress") == ["client", "server"] and order("ingress") == ["server", "client"]
    os.close(fd)


@pytest.mark.parametrize("foreign", [True, False])
def test_the_clsact_of_somebody_else_is_never_deleted(pair: Pair, foreign: bool) -> None:
    """The mark of a killed agent is about an interface whose index is used again."""
    killed = pair.agent().ready()
    killed.signal(signal.SIGKILL)
    killed.wait()
    index = pair.index()
    assert (pair.run_folder() / f"clsact-{index}").exists()
    pair.sh("ip link del eth0")
    pair.link(index=index)
    if foreign:
        pair.sh("tc qdisc add dev eth0 clsact")
    agent = pair.agent().ready()
    assert pair.steered()
    assert agent.stop() == 0
    assert ("clsact" in pair.filters()) is foreign


def test_what_status_says_of_a_killed_agent(pair: Pair) -> None:
    agent = pair.agent().ready()
    agent.signal(signal.SIGKILL)
    agent.wait()
    command = f"{' '.join(HAWKWING)} status 2>&1"
    assert "hawkwing: client-eth0: the agent was killed, its filters are still attached\n" in pair.sh(command)
    pair.sh("ip link del eth0")
    assert "hawkwing: client-eth0: the agent was killed, its filters are gone\n" in pair.sh(command)


def test_what_killed_agents_left_of_vanished_interfaces_is_cleaned_up(pair: Pair) -> None:
    killed = pair.agent().ready()
    killed.signal(signal.SIGKILL)
    killed.wait()
    pair.sh("ip link del eth0")
    pair.link()
    agent = pair.agent().ready()
    assert agent.stop() == 0
    assert not pair.run_folder().exists(), list(pair.run_folder().iterdir())


def test_the_clsact_is_removed_by_the_last_of_us(pair: Pair) -> None:
    server, client = pair.agent("server").ready(), pair.agent("client").ready()
    assert server.stop() == 0
    assert both_filters(pair) and pair.steered()
    assert client.stop() == 0
    assert pair.filters() == ""


def test_a_clsact_that_one_of_us_makes_again_is_ours(pair: Pair) -> None:
    """Whichever of two agents is faster, the last one removes it; one of somebody else's stays."""
    for theirs in (False, False, True):
        agents = [pair.agent(role).ready() for role in ("server", "client")]
        for _ in range(4):
            pair.sh("tc qdisc del dev eth0 clsact")
            wait_until(lambda: pair.filters().count("hawkwing:") == 4, 2.0, "both are attached again")
        if theirs:
            another_clsact(pair)
            wait_until(lambda: pair.filters().count("hawkwing:") == 4, 2.0, "both are attached again")
        assert [agent.stop() for agent in agents] == [0, 0]
        assert pair.filters() == ("qdisc clsact ffff: parent ffff:fff1" if theirs else "")


def test_both_roles_started_in_the_same_moment_leave_nothing(pair: Pair) -> None:
    """Whichever makes the clsact: the other one does not take it for somebody else's."""
    for _ in range(3):
        agents = [pair.agent(role) for role in ("server", "client")]
        for agent in agents:
            agent.ready()
        for agent in agents:
            agent.signal(signal.SIGTERM)
        assert [agent.wait() for agent in agents] == [0, 0]
        assert pair.filters() == "" and not pair.run_folder().exists()


# --- XDP


def xdp(pair: Pair) -> bool:
    """Is a program there?"""
    return "xdp" in pair.sh("ip link show dev eth0")


def test_the_xdp_program_is_put_back(pair: Pair) -> None:
    agent = pair.agent("server", "--ingress-hook", "xdp-generic").ready()
    assert xdp(pair)
    pair.sh("ip link set dev eth0 xdpgeneric off")
    wait_until(lambda: xdp(pair), 1.0, "the XDP program is put back")
    agent.says("eth0: filters were removed by another program (XDP)", 1.0)
    pair.sh("ip link del eth0")
    pair.link()
    wait_until(lambda: xdp(pair), 1.0, "the XDP program is on the new interface")
    assert agent.stop() == 0
    assert not xdp(pair) and pair.filters() == ""


def test_another_xdp_program_in_our_place_stays_and_is_told(pair: Pair) -> None:
    agent = pair.agent("client", "--ingress-hook", "xdp-generic").ready()
    fd, index = program(XDP_PASS, bpf.XDP), pair.index()

    def put(number: int) -> None:
        with Netlink() as ip:
            tc.set_xdp(ip, index, number, tc.XDP_GENERIC)

    pair.within(lambda: put(fd))
    agent.says("another XDP program is on eth0 already", 1.0)
    assert "warning: another XDP program is on eth0 already" in pair.hawkwing("status")
    assert f"prog/xdp id {bpf.program_info(fd).id} " in pair.sh("ip link show dev eth0")
    assert pair.steered(), "tc's filters do the work"
    pair.within(lambda: put(-1))
    wait_until(lambda: xdp(pair) and not pair.attachments()[0]["problem"], 2.0, "ours is put back")
    assert agent.stop() == 0
    os.close(fd)


def test_the_xdp_program_of_the_other_role_stays(pair: Pair) -> None:
    server = pair.agent("server", "--ingress-hook", "xdp-generic").ready()
    before = pair.sh("ip link show dev eth0 | grep prog/xdp")
    client = pair.agent("client").ready()
    assert client.stop() == 0
    assert pair.sh("ip link show dev eth0 | grep prog/xdp") == before
    assert "removed by another program" not in server.output()
    assert server.stop() == 0


def kill(agent: Agent) -> None:
    """With SIGKILL."""
    agent.signal(signal.SIGKILL)
    agent.wait()


def test_a_start_that_the_driver_refuses_leaves_what_a_killed_agent_has_left(pair: Pair) -> None:
    kill(pair.agent().ready())
    before = pair.sh("tc filter show dev eth0 egress; tc filter show dev eth0 ingress")
    # No native XDP on a veth then.
    pair.sh("ip link set far0 mtu 9000", pair.far)
    refused = pair.agent("client", "--ingress-hook", "xdp")
    assert refused.wait() == 1
    assert "eth0 refuses xdp" in refused.output()
    assert pair.sh("tc filter show dev eth0 egress; tc filter show dev eth0 ingress") == before
    assert not xdp(pair) and pair.steered()
    agent = pair.agent().ready()
    assert agent.stop() == 0
    assert pair.filters() == "" and not pair.run_folder().exists()


def test_an_xdp_program_of_a_killed_agent_is_replaced(pair: Pair) -> None:
    kill(pair.agent("server", "--ingress-hook", "xdp-generic").ready())
    assert xdp(pair)
    agent = pair.agent("server", "--ingress-hook", "xdp-generic").ready()
    assert agent.stop() == 0
    assert not xdp(pair) and pair.filters() == ""


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_xdp_program_without_its_note_is_detached(pair: Pair, role: str) -> None:
    """The other role's stays, also where that agent's note is gone."""
    other = "server" if role == "client" else "client"
    killed = pair.agent(role, "--ingress-hook", "xdp-generic").ready()
    kill(killed)
    pair.sh("tc qdisc del dev eth0 clsact")
    for note in pair.run_folder().glob("*.programs"):
        note.unlink()
    assert pair.hawkwing("detach", other) == "no filters of stopped agents\n"
    assert xdp(pair)
    assert pair.hawkwing("detach") == f"removed the filters of the {role} on eth0\n"
    assert not xdp(pair) and not pair.run_folder().exists()


def test_an_xdp_program_of_somebody_else_stays_whatever_its_name(pair: Pair) -> None:
    returns = b"\xb7\0\0\0" + struct.pack("=i", XDP_PASS) + b"\x95" + bytes(7)
    fd, index = bpf.load_program("ingress_xdp", returns, bpf.XDP), pair.index()

    def put() -> None:
        with Netlink() as ip:
            tc.set_xdp(ip, index, fd, tc.XDP_GENERIC)

    pair.within(put)
    assert pair.hawkwing("detach") == "no filters of stopped agents\n"
    assert pair.agent().ready().stop() == 0
    assert xdp(pair)
    os.close(fd)


# --- next hops


def test_status_while_a_router_does_not_answer(pair: Pair) -> None:
    """The agent waits for it, up to a second, before it says that it is ready; everything else is there."""
    pair.sh("ip -6 route replace default via fe80::dead dev eth0 onlink")
    agent = pair.agent()
    path = pair.run_folder() / "client-eth0.sock"
    wait_until(path.exists, 20, "the agent's socket")
    (binding,) = (early := control.ask(path, {"ask": "status"}))["bindings"]
    assert early["ready"] is False and "ready" not in agent.output()
    assert early["attachments"][0]["attached"] and binding["sids"] == [SID]
    agent.ready()
    assert control.ask(path, {"ask": "status"})["ready"] is True
    assert agent.stop() == 0


def test_an_interface_index_that_is_too_large_is_told_once(pair: Pair) -> None:
    pair.sh("ip link del eth0")
    pair.link(index=40000)
    agent = pair.agent().ready()
    told = "warning: eth0 has the interface index 40000, above 32767, the largest one for next hops"
    agent.says(told)
    assert told in pair.hawkwing("status")
    pair.sh("tc filter del dev eth0 egress")
    wait_until(lambda: both_filters(pair), 2.0, "the filters are back")
    assert agent.output().count(told) == 1
    assert pair.steered()
    assert agent.stop() == 0


# --- programs ahead of ours


def tcx(pair: Pair, fd: int, hook: int) -> None:
    """Puts a program on a tcx hook; skips where the kernel has none."""
    index = pair.index()

    def attach() -> None:
        bpf._bpf(_PROG_ATTACH, bpf._buffer(struct.pack("=IIII", index, fd, hook, 0) + bytes(16)))

    try:
        pair.within(attach)
    except OSError as error:
        pytest.skip(f"no tcx on this kernel: {error}")


def test_a_filter_ahead_that_ends_the_chain_is_told(pair: Pair) -> None:
    agent = pair.agent().ready()
    assert "warning" not in pair.hawkwing("status")
    fd = program(OK)
    pair.put(fd, tc.EGRESS, 1, "gatekeeper")
    sentence = "eth0 egress: the BPF filter gatekeeper at priority 1 runs before HawkWing's"
    agent.says(f"warning: {sentence}", 2.0)
    assert not pair.steered()
    assert sentence in pair.hawkwing("status") and sentence in pair.hawkwing("explain", SERVICE, "5000")
    assert sentence in pair.attachments()[0]["warnings"][0]
    assert sentence in pair.hawkwing("doctor")

    def starved() -> bool:
        for _ in range(12):
            pair.send()
        return "none reaches HawkWing's program" in pair.hawkwing("status")

    wait_until(starved, 40.0, "it is seen that no packet arrives")
    pair.sh("tc filter del dev eth0 egress prio 1")
    wait_until(lambda: "warning" not in pair.hawkwing("status"), 5.0, "it is not told any more")
    assert pair.steered()
    os.close(fd)


def test_a_filter_ahead_that_lets_all_pass_is_not_said_to_starve_us(pair: Pair) -> None:
    """The control: it returns TC_ACT_UNSPEC."""
    pair.agent().ready()
    fd = program(UNSPEC)
    pair.put(fd, tc.EGRESS, 1, "friend")
    end = time.monotonic() + 25
    while time.monotonic() < end:
        assert pair.steered()
        assert "none reaches" not in pair.hawkwing("status")
    os.close(fd)


@pytest.mark.parametrize("hook", [bpf.TCX_EGRESS, bpf.TCX_INGRESS])
def test_a_tcx_program_is_told(pair: Pair, hook: int) -> None:
    fd = program(TCX_PASS)
    tcx(pair, fd, hook)
    direction = "egress" if hook == bpf.TCX_EGRESS else "ingress"
    number = bpf.program_info(fd).id
    sentence = f"eth0 {direction}: the tcx program somebody (id {number}) runs before HawkWing's"
    assert sentence in pair.hawkwing("doctor")
    agent = pair.agent().ready()
    agent.says(sentence, 5.0)
    assert sentence in pair.hawkwing("status")
    assert pair.steered() is (hook == bpf.TCX_INGRESS)
    os.close(fd)


def test_a_classifier_ahead_is_told(pair: Pair) -> None:
    pair.sh("tc qdisc add dev eth0 clsact")
    pair.sh("tc filter add dev eth0 egress prio 7 protocol ipv6 u32 match u32 0 0 flowid 1:1")
    pair.sh("tc filter add dev eth0 ingress prio 7 protocol arp u32 match u32 0 0 flowid 1:1")
    pair.sh("tc filter add dev eth0 ingress prio 50000 protocol ipv6 u32 match u32 0 0 flowid 1:1")
    agent = pair.agent().ready()
    agent.says("eth0 egress: a u32 filter at priority 7 runs before HawkWing's", 5.0)
    assert not pair.steered()
    assert "ingress: a u32" not in pair.hawkwing("status")


# --- lost messages, and a busy machine


def test_more_changes_than_there_is_room_for(pair: Pair) -> None:
    """The kernel drops messages: everything is looked at again."""
    agent = pair.agent().ready()
    agent.signal(signal.SIGSTOP)
    pair.sh("for i in $(seq 150); do ip link add d$i type veth peer name e$i; ip link del d$i; done")
    no_clsact(pair)
    agent.signal(signal.SIGCONT)
    wait_until(lambda: both_filters(pair), 1.0, "the filters are put back")
    assert agent.stop() == 0


# --- waiting


def test_an_interface_is_waited_for_when_asked_to(pair: Pair) -> None:
    pair.sh("ip link del eth0")
    assert pair.refused() == "hawkwing: there is no interface 'eth0' here"
    agent = pair.agent("client", "--wait-for-interface").ready()
    assert "eth0 is not there yet: waiting for it" in agent.output()
    assert "\n  not attached: eth0 is not there yet\n" in pair.hawkwing("status")
    pair.link()
    agent.says("attached to eth0", 1.0)
    assert pair.steered()
    assert agent.stop() == 0
    assert pair.filters() == ""


def test_one_that_never_comes_does_not_keep_it_from_ending(pair: Pair) -> None:
    agent = pair.agent("server", "--wait-for-interface", "-i", "eth0", "-i", "never").ready()
    assert "hawkwing:server" in pair.filters()
    assert agent.stop() == 0
    assert pair.filters() == "" and not pair.run_folder().exists()


def test_an_interface_without_an_address_has_its_backup(pair: Pair) -> None:
    pair.config.write_text(WITH_CONTROLLER)
    # The kernel would also use one of another interface.
    pair.sh("ip -6 addr flush dev eth0 scope global; ip -6 addr flush dev lo scope global")
    agent = pair.agent().ready()
    assert "eth0 has no global IPv6 address yet" in agent.output()
    assert pair.steered("")
    said = pair.hawkwing("explain", SERVICE, "5000")
    assert f"use {SID}: the configured sid, as backup" in said and "has no global IPv6 address yet" in said
    pair.sh(f"ip -6 addr add {OWN}/128 dev eth0 nodad")
    agent.says(f"the controller is asked for paths from {OWN}", 5.0)
    assert pair.steered()
    assert "has no global" not in pair.hawkwing("explain", SERVICE, "5000")
    assert agent.stop() == 0


# --- stopping


def ends_cleanly(pair: Pair, agent: Agent, first: int, second: int, wait: float) -> None:
    """The second signal comes `wait` seconds after the first; nothing may be left, whatever it hits."""
    agent.signal(first)
    try:
        agent.process.wait(wait)
    except Exception:
        agent.signal(second)
    assert agent.wait() == 0, agent.output()
    assert "Traceback" not in agent.output()
    assert pair.filters() == ""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("controller", [False, True])
def test_a_second_signal_leaves_nothing(pair: Pair, first: int, second: int, controller: bool) -> None:
    """With a controller there are gRPC's threads, too, which may get a signal."""
    if controller:
        pair.config.write_text(WITH_CONTROLLER)
    for wait in (0, 0.005, 0.02, 0.04, 0.08, 0.2, 0.4):
        ends_cleanly(pair, pair.agent().ready(), first, second, wait)
    assert not pair.run_folder().exists()


def test_the_pair_itself(pair: Pair) -> None:
    """The control of all tests here: without an agent there is no SRH."""
    assert not pair.steered()
    assert netns.exists(pair.near)
