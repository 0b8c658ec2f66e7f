"""docs/reasons.md: every outcome of a packet, generated from bpf/reasons.h, with advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane.layout import Reason, limits, reasons

FILE = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"
KINDS: Mapping[str, str] = {
    "ok": "The packet was steered, or its SRH was removed.",
    "info": "Counted in addition to another reason.",
    "unchanged": "The packet was passed unchanged. This is the case for most traffic of a host.",
    "drop": "The packet was not sent, or not delivered.",
}
_LIMITS = limits()
_MOST_SIDS = _LIMITS["HW_MAX_SEGMENTS"] - 1
_EXTENSIONS, _OPTIONS = _LIMITS["HW_MAX_EXTENSIONS"], _LIMITS["HW_MAX_HOP_BY_HOP"]
_SEE = "see [troubleshooting](troubleshooting.md#{})"
EGRESS, INGRESS, BOTH = "egress", "ingress", "egress, ingress"


class Advice(NamedTuple):
    """Where a reason is counted, and the advice; `role` is empty for both roles.

    Where a role has a place of its own, it stands behind that.
    """

    where: str
    text: str
    role: str = ""


ADVICE: Mapping[str, Advice] = {
    "STEERED": Advice(EGRESS, "Nothing."),
    "SPLIT": Advice(
        EGRESS,
        "Nothing is lost. If this continues, raise the MTU of the link, or send smaller datagrams.",
    ),
    "STRIPPED": Advice(INGRESS, "Nothing."),
    "PROBE": Advice(INGRESS, "Nothing. `hawkwing paths` shows what the probes have measured."),
    "ERROR_RESTORED": Advice(
        INGRESS,
        "Capture the ICMPv6 errors to see which router sends them, and why: `tcpdump -ni eth0 icmp6`.",
    ),
    "MSS_CLAMPED": Advice(BOTH, "Nothing."),
    "NEXT_HOP": Advice(
        EGRESS,
        "Nothing, if destination and first SID are meant to have different next hops: compare "
        "`ip -6 route get` of both.",
    ),
    "LEARNED": Advice(INGRESS, "Nothing.", "server"),
    "WAY_BACK_TOLD": Advice(f"{EGRESS} (client), {INGRESS} (server)", "Nothing."),
    "WAY_BACK_USED": Advice(INGRESS, "Nothing.", "client"),
    "WAY_BACK_REFUSED": Advice(
        INGRESS,
        "Add the SIDs of the way back to `sr_domain` of this host, or correct the way back in the client's "
        "configuration.",
        "server",
    ),
    "FLOW_REPLACED": Advice(
        INGRESS,
        "If it keeps growing, the flow table is too small: restart with a larger `--flows`.",
        "server",
    ),
    "FLOW_ENDED": Advice(
        INGRESS,
        "Check the client: it sent this flow without an SRH, so it no longer has a path for it.",
        "server",
    ),
    "NAME_LEARNED": Advice(INGRESS, "Nothing.", "client"),
    "NAME_LOST": Advice(
        INGRESS,
        "The agent's own look-up adds the address later. If this continues, "
        + _SEE.format("address-not-learned")
        + ".",
        "client",
    ),
    "NOT_IPV6": Advice(
        BOTH,
        "Nothing: only IPv6 has an SRH. If a steered service is reached over IPv4, it lacks an AAAA record.",
    ),
    "NOT_FROM_HOST": Advice(
        EGRESS,
        "Nothing: forwarded packets are not steered. For a container, run an agent in its network namespace.",
        "client",
    ),
    "NO_SERVICE": Advice(
        EGRESS, "Nothing for other traffic. Otherwise " + _SEE.format("nothing-is-steered") + ".", "client"
    ),
    "NO_APPLICATION": Advice(EGRESS, "To steer this port, add an application to the service.", "client"),
    "NO_FLOW": Advice(
        EGRESS,
        "Nothing for connections that this host opens, and for clients without a path. Otherwise "
        + _SEE.format("replies-are-lost")
        + ".",
        "server",
    ),
    "NO_PATH": Advice(
        EGRESS,
        "Configure `sid` as a backup; " + _SEE.format("no-path-from-the-controller") + ".",
    ),
    "HAS_ROUTING_HEADER": Advice(
        EGRESS,
        "Something else adds a routing header, such as a seg6 route of the kernel: use only one of them.",
    ),
    "EXTENSION_CHAIN": Advice(
        BOTH,
        f"Send fewer extension headers. Egress supports {_EXTENSIONS}, with a Hop-by-Hop header of at most "
        f"{_OPTIONS} bytes; ingress supports only such a Hop-by-Hop header before the SRH.",
    ),
    "LOST_FRAGMENT": Advice(
        EGRESS,
        "Nothing if the first fragment was not steered. Otherwise it left through another interface: add "
        "all interfaces with `-i`.",
    ),
    "NO_ROUTING_HEADER": Advice(
        INGRESS,
        "Nothing for other traffic. If the sender steers, a router or firewall has removed the SRH: capture "
        "at both ends.",
    ),
    "ROUTING_TYPE": Advice(INGRESS, "Nothing: the kernel handles other routing headers."),
    "SEGMENTS_LEFT": Advice(
        INGRESS,
        "A SID of the list was not processed. Capture a packet: its destination is the active segment. Check "
        "the router of that SID.",
    ),
    "SRH_MALFORMED": Advice(
        INGRESS,
        "Capture a packet and look at its SRH: segment[0] must be the destination, and the lengths must fit.",
    ),
    "ENCAPSULATED": Advice(
        INGRESS, "Nothing: the kernel decapsulates it if it accepts SRHs (`seg6_enabled`)."
    ),
    "HMAC_REQUIRED": Advice(
        INGRESS,
        "The agent has no key, so the kernel handles all SRHs, and drops those without an HMAC. Give the "
        "agent the key (`hmac`), or set `seg6_require_hmac` of the interface to 0.",
    ),
    "HMAC_MISSING": Advice(
        INGRESS,
        "Give the sender and this host the same key (`hmac`): its number is the `key_id`. A sender that "
        "signs nothing has no `hmac` in its configuration.",
    ),
    "HMAC_WRONG": Advice(
        INGRESS,
        "Compare the secrets of sender and host for this `key_id`. If they are the same, somebody has "
        "changed source or segments of the packet on its way.",
    ),
    "NOT_SIGNED": Advice(
        EGRESS,
        "Start the agent: programs that a killed agent has left can use only the HMACs that they already "
        "know. Packets leave without an SRH meanwhile.",
    ),
    "OTHER_HOST": Advice(INGRESS, "Nothing: a switch floods or mirrors frames, and the kernel drops them."),
    "NOT_LOCAL": Advice(
        INGRESS, "Nothing for packets that this host forwards. Otherwise add the address to an interface."
    ),
    "UNTRUSTED": Advice(
        INGRESS,
        "If the sender is yours, add its addresses and SIDs to `sr_domain`; "
        + _SEE.format("replies-are-lost")
        + ". Otherwise filter SRHs at the edge of the domain.",
    ),
    "NOTHING_TO_LEARN": Advice(
        INGRESS,
        "Nothing: replies to such packets (ICMPv6 echo, for example) are sent without an SRH.",
        "server",
    ),
    "ONE_WAY_SID": Advice(
        INGRESS,
        "The sender's list has C-SIDs of links (adjacencies), whose reverse direction is unknown: replies "
        "are sent without an SRH. Use C-SIDs of nodes, or set `csid.local` if these are nodes.",
        "server",
    ),
    "LIST_TOO_LONG": Advice(INGRESS, f"Shorten the list at the sender to {_MOST_SIDS} SIDs.", "server"),
    "PATHS_FULL": Advice(
        INGRESS,
        "Check the learned paths in `hawkwing status`: one source (a /64) can use a sixteenth of the table. "
        "The agent removes paths without flows.",
        "server",
    ),
    "FLOWS_FULL": Advice(INGRESS, "Restart the server with a larger `--flows`.", "server"),
    "NOT_STRIPPED": Advice(INGRESS, "Report it with a capture, the kernel version and the driver."),
    "TRUNCATED": Advice(BOTH, "Capture such a packet: its sender or a driver has truncated it."),
    "TOO_BIG_PLAIN": Advice(
        EGRESS, "Raise the MTU to at least 1280 bytes plus the SRH, or shorten the segment list."
    ),
    "TOO_BIG": Advice(
        EGRESS,
        "Nothing: the sender sends smaller packets. If an application does not, "
        + _SEE.format("large-packets-are-lost")
        + ".",
    ),
    "TOO_BIG_SILENT": Advice(
        EGRESS, "Raise the MTU of the link; " + _SEE.format("large-packets-are-lost") + "."
    ),
    "DECAP_FOREIGN": Advice(
        INGRESS,
        "The packet has no inner packet for an address of this host: compare the client's `decap_sid` with "
        "`decap` of the server, and the inner destination with the server's addresses.",
        "server",
    ),
    "DECAP_UNSIGNED": Advice(
        INGRESS,
        "Give the client and this host the same key (`hmac`).",
        "server",
    ),
    "NO_ROOM": Advice(
        BOTH,
        "Check for other signs of low memory (`dmesg`). Otherwise report it with the kernel version and the "
        "driver.",
    ),
}


def text() -> str:
    """The whole file."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield (
        "<!-- Made by `python -m lab.packages.texts`. -->\n"
        "# Reasons\n\n"
        "Each packet has one reason of kind *ok*, *unchanged* or *drop*, and any number of kind *info*.\n"
        "`hawkwing drops` shows the counters, dropped packets first; `hawkwing drops --follow` shows new\n"
        "packets every two seconds, with packets/s. `hawkwing status --json` prints them as JSON, and the\n"
        "metric `hawkwing_packets_total` has the reason as a label.\n\n"
        "With `--ingress-hook xdp`, a packet counted as `STRIPPED` by XDP is counted once more as\n"
        "`NO_ROUTING_HEADER` by tc.\n"
    )
    for kind, meaning in KINDS.items():
        yield f"\n## {kind}\n\n{meaning}\n\n"
        yield "| reason | counted on | meaning | what to do |\n|---|---|---|---|\n"
        for reason in reasons():
            if reason.kind == kind:
                yield _row(reason)


def _row(reason: Reason) -> str:
    advice = ADVICE[reason.name]
    where = f"{advice.where} ({advice.role})" if advice.role else advice.where
    return f"| `{reason.name}` | {where} | {reason.text} | {advice.text} |\n"
