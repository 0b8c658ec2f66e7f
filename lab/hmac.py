"""HMACs in the kernel's SRv6 (RFC 8754, 2.1.2): keys and policy of routers, and of hosts without an agent.

`ip sr hmac` reads secrets from the terminal, so keys are set by generic netlink. The kernel keeps them per
network namespace, and signs with them: packets of `encap seg6` routes with `hmac NUMBER`, and of sockets
(IPV6_RTHDR) whose SRH has an HMAC TLV. An agent on the same host does not know them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from hawkwing.srh_hmac import Key
from lab.linux.kernel import set_sysctl
from lab.network import Lab

IGNORED, IF_PRESENT, REQUIRED = -1, 0, 1
"""Values of the sysctl `seg6_require_hmac`.

`IF_PRESENT`, the kernel's default, passes unsigned packets, and drops signed ones with a wrong HMAC or an
unknown key.
"""
_SYSCTL = "net/ipv6/conf/{}/seg6_require_hmac"
_FAMILY, _VERSION, _SET_HMAC, _SHA256 = "SEG6", 1, 1, 2


class _Message(genlmsg):  # type: ignore[misc]
    """A message of the generic netlink family SEG6 (linux/seg6_genl.h)."""

    nla_map = (
        ("SEG6_ATTR_UNSPEC", "none"),
        ("SEG6_ATTR_DST", "ip6addr"),
        ("SEG6_ATTR_DSTLEN", "int32"),
        ("SEG6_ATTR_HMACKEYID", "uint32"),
        ("SEG6_ATTR_SECRET", "cdata"),
        ("SEG6_ATTR_SECRETLEN", "uint8"),
        ("SEG6_ATTR_ALGID", "uint8"),
    )


def supported() -> bool:
    """True if this kernel has HMACs (CONFIG_IPV6_SEG6_HMAC)."""
    return Path("/proc/sys", _SYSCTL.format("all")).exists()


def _set(number: int, secret: bytes) -> None:
    """Sets a key in the calling thread's network namespace. An empty secret removes it."""
    message = _Message()
    message["cmd"], message["version"] = _SET_HMAC, _VERSION
    message["attrs"] = [
        ("SEG6_ATTR_HMACKEYID", number),
        ("SEG6_ATTR_SECRETLEN", len(secret)),
        ("SEG6_ATTR_ALGID", _SHA256),
    ]
    if secret:
        message["attrs"].append(("SEG6_ATTR_SECRET", secret))
    with GenericNetlinkSocket() as socket:
        socket.bind(_FAMILY, _Message)
        socket.nlm_request(message, msg_type=socket.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK)


def set_key(lab: Lab, node: str, key: Key) -> None:
    """Gives a node's kernel a key. A key with the same number is replaced."""
    lab.inside(node, lambda: _set(key.number, key.secret))


def remove_key(lab: Lab, node: str, number: int) -> None:
    """Removes a key from a node's kernel. A missing one is no error."""
    try:
        lab.inside(node, lambda: _set(number, b""))
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise


def set_policy(lab: Lab, node: str, policy: int) -> None:
    """Sets which HMACs a node's kernel wants on its links: `IGNORED`, `IF_PRESENT` or `REQUIRED`.

    Only the sysctl of the interface that receives a packet counts, `conf.all` has no effect.
    """
    _write(lab, node, dict.fromkeys(_policies(lab, node), policy))


def _policies(lab: Lab, node: str) -> dict[str, int]:
    """The policy by interface."""
    names = [interface.name for interface in lab.topology.nodes[node].interfaces]
    return lab.inside(
        node, lambda: {name: int(Path("/proc/sys", _SYSCTL.format(name)).read_text()) for name in names}
    )


def _write(lab: Lab, node: str, policies: Mapping[str, int]) -> None:
    def work() -> None:
        for name, policy in policies.items():
            set_sysctl(_SYSCTL.format(name), policy)

    lab.inside(node, work)


@contextmanager
def checking(lab: Lab, nodes: Iterable[str], *keys: Key, policy: int = REQUIRED) -> Iterator[None]:
    """These nodes' kernels have the keys and the policy for the time of the block.

    with checking(lab, ["vpp1", "vpp2"], Key(7, b"secret")): ...
    """
    with ExitStack() as stack:
        for node in nodes:
            for key in keys:
                set_key(lab, node, key)
                stack.callback(remove_key, lab, node, key.number)
            stack.callback(_write, lab, node, _policies(lab, node))
            set_policy(lab, node, policy)
        yield


def refused(lab: Lab, router: str) -> int:
    """The number of packets that a kernel router's SIDs have dropped: for the HMAC, or another reason.

    The kernel counts them nowhere else, not even as Ip6InHdrErrors. Hosts do not count them at all.
    """
    argv = ["ip", "-6", "-s", "-oneline", "route", "show", "table", "main"]
    lines = lab.execute(router, argv).stdout.splitlines()
    return sum(
        int(count) for line in lines if " seg6local " in line for count in re.findall(r"\berrors (\d+)", line)
    )
