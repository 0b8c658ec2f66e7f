"""First checks of interfaces, before large modules are imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane import refusal, tc
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.tc import Link
from hawkwing.errors import DataplaneError

WITH_ETHERNET_HEADER = frozenset({1, 772})
"""ARPHRD_ETHER and ARPHRD_LOOPBACK."""
_WITHOUT_HEADER = frozenset({512, 519, 768, 769, 776, 778, 823, 0xFFFE})
"""ARPHRD_PPP, _RAWIP, _TUNNEL, _TUNNEL6, _SIT, _IPGRE, _IP6GRE, _NONE: packets begin with the IP header."""
_OF_IPSEC = frozenset({"xfrm", "vti", "vti6"})


class Asked(NamedTuple):
    """An interface as given on the command line, and its name, which differs if that is an altname."""

    asked: str
    name: str


def is_raw(kind: int) -> bool:
    """Whether packets of this type of link (ARPHRD_*) have no Ethernet header."""
    return kind not in WITH_ETHERNET_HEADER


def why_not(link: Link) -> str:
    """A sentence if this kind of interface is not supported, otherwise empty."""
    if link.kind == "vrf":
        return (
            f"{link.name} is a VRF, whose outgoing packets pass its interfaces only: "
            "give HawkWing the interfaces of the VRF"
        )
    if link.kind in _OF_IPSEC:
        return f"{link.name} is an IPsec interface ({link.kind}): HawkWing does not support these"
    if not link.has_remote:
        return (
            f"{link.name} is a GRE tunnel without a remote address: HawkWing needs one with a remote address"
        )
    if is_raw(link.type) and link.type not in _WITHOUT_HEADER:
        return (
            f"{link.name} has link-layer headers of another kind than Ethernet (ARPHRD {link.type}): "
            "HawkWing does not support these"
        )
    return ""


def check_interfaces(names: Sequence[str], wait: bool = False) -> tuple[list[Asked], bool]:
    """The interfaces, each once, and whether programs for links without Ethernet headers are needed.

    DataplaneError if one is not supported. With `wait`, missing interfaces can be of either type.
    """
    missing = refusal.needs_capabilities()
    if missing:
        raise DataplaneError(missing)
    refusal.require_open_files()
    found: dict[str, Asked] = {}
    raw = False
    with Netlink() as ip:
        for name in names:
            link = tc.link(ip, name=name)
            if link is None and not wait:
                raise DataplaneError(f"there is no interface {name!r} here")
            if link is not None and (reason := why_not(link)):
                raise DataplaneError(reason)
            raw = raw or link is None or is_raw(link.type)
            found.setdefault(link.name if link else name, Asked(name, link.name if link else name))
    return list(found.values()), raw


def with_two_tags(links: Sequence[Link], index: int) -> list[str]:
    """The interfaces whose packets have two VLAN tags on this one, which the programs do not parse."""
    by_index = {link.index: link for link in links}
    here = by_index.get(index)
    ours = {index, here.master} - {0} if here else {index}
    found = []
    for link in links:
        tags, below = 0, link
        while below.kind == "vlan" and below.index not in ours and below.lower in by_index:
            tags, below = tags + 1, by_index[below.lower]
        if tags > 1 and below.index in ours:
            found.append(link.name)
    return found


def ethernet_links(indexes: Sequence[int]) -> list[int]:
    """Those of the interfaces that exist and have an Ethernet header."""
    with Netlink() as ip:
        found = [tc.link(ip, index) for index in indexes]
    return [link.index for link in found if link is not None and not is_raw(link.type)]


def requiring_hmac(names: Sequence[str], sysctls: Path = Path("/proc/sys/net/ipv6/conf")) -> list[str]:
    """The interfaces on which the kernel accepts only SRHs with a valid HMAC (seg6_require_hmac = 1)."""
    return [name for name in names if (_require_hmac(name, sysctls) or 0) > 0]


def checking_hmac(names: Sequence[str], sysctls: Path = Path("/proc/sys/net/ipv6/conf")) -> list[str]:
    """The interfaces on which the kernel drops SRHs with an HMAC if it does not have the key."""
    return [name for name in names if _require_hmac(name, sysctls) in (0, 1)]


def accepting_srh(names: Sequence[str], sysctls: Path = Path("/proc/sys/net/ipv6/conf")) -> list[str]:
    """The interfaces on which the kernel itself accepts SRHs, also those without a valid HMAC.

    seg6_enabled counts if it is set for all interfaces and for this one.
    """
    if not _sysctl("all", "seg6_enabled", sysctls):
        return []
    return [
        name
        for name in names
        if _sysctl(name, "seg6_enabled", sysctls) and _sysctl(name, "seg6_require_hmac", sysctls) != 1
    ]


def _require_hmac(name: str, sysctls: Path) -> int | None:
    """None: the kernel accepts no SRH at all."""
    return _sysctl(name, "seg6_require_hmac", sysctls)


def _sysctl(name: str, key: str, sysctls: Path) -> int | None:
    """None: the interface is gone, or the kernel has no SRv6."""
    try:
        return int((sysctls / name / key).read_text())
    except (OSError, ValueError):
        return None
