"""Kernels whose routers drop large packets: the trial tells them, and the lab gets around it."""

import ctypes
import subprocess

import pytest

from lab import netns
from lab.linux import large
from lab.network import Lab

_CLONE_NEWNET = 0x40000000
# Of what leaves large2, all with more than 2000 bytes behind the IPv6 header is dropped.
_DROP_LARGE = "4,40 0 0 18,37 0 1 2000,6 0 0 2,6 0 0 4294967295,"


def in_new_namespace(*commands: list[str]) -> bool:
    """What the trial finds in a network namespace of its own, after these commands."""

    def work() -> bool:
        assert ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0
        large.build()
        for command in commands:
            subprocess.run(command, check=True)
        return large.ask()

    return netns.in_thread(work)


def test_a_router_that_drops_large_packets_is_found_out() -> None:
    add = ["tc", "filter", "add", "dev", "large2", "egress", "bpf", "da", "bytecode", _DROP_LARGE]
    assert not in_new_namespace(["tc", "qdisc", "add", "dev", "large2", "clsact"], add)


def test_the_trial_and_what_the_lab_goes_by_agree() -> None:
    assert in_new_namespace() == large.forwards_large()


def test_a_trial_without_a_way_through_says_so() -> None:
    with pytest.raises(large.UntriedError):
        in_new_namespace(["ip", "link", "set", "large2", "down"])


def test_hosts_cut_their_packets_only_where_routers_need_it(lab: Lab) -> None:
    wanted = "on" if large.forwards_large() else "off"
    for host in ("host-a", "host-b"):
        said = lab.execute(host, ["ethtool", "-k", "eth0"]).stdout
        assert f"tcp-segmentation-offload: {wanted}" in said, said
