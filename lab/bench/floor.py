"""Minimal programs in place of HawkWing's, with the same traffic: the cost of the helpers alone.

`bare` changes the packet's size and writes once, which breaks the packet. `wired` inserts or removes a
correct SRH with a list that is known at compile time, without look-up, check or counter. They are attached
before HawkWing's program and end the chain, so that it does not run. `empty` does nothing and lets it run:
its time is the cost of the statistics.
"""

import os
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

from hawkwing.sids import ready_srh
from lab.bench.compiled import Compiled
from lab.bench.figures import Series, per_run
from lab.bench.programs import attached, reading, statistics
from lab.bench.traffic import DATAGRAM, Traffic
from lab.bench.ways import HAWKWING, agents, sids
from lab.filters import in_front
from lab.network import Lab

EMPTY, BARE, WIRED = "empty", "bare floor", "wired floor"
_NODES = {"egress": "host-a", "ingress": "host-b"}
_SOURCE = """
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#define AT (ETH_HLEN + 40)

int empty(struct __sk_buff *skb)
{
    return TC_ACT_UNSPEC;
}

int bare_egress(struct __sk_buff *skb)
{
    __u64 srh[@WORDS@];

    if (skb->len != AT + 8 + @DATAGRAM@)
        return TC_ACT_UNSPEC;
    @FILL@
    if (bpf_skb_adjust_room(skb, sizeof(srh), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
        bpf_skb_store_bytes(skb, AT, srh, sizeof(srh), 0))
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}

int bare_ingress(struct __sk_buff *skb)
{
    __u8 word[4] = { 0, 8 + @DATAGRAM@, 17, 60 };

    if (skb->len != AT + @WORDS@ * 8 + 8 + @DATAGRAM@)
        return TC_ACT_UNSPEC;
    if (bpf_skb_adjust_room(skb, -(@WORDS@ * 8), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
        bpf_skb_store_bytes(skb, ETH_HLEN + 4, word, 4, BPF_F_RECOMPUTE_CSUM))
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}

int wired_egress(struct __sk_buff *skb)
{
    __u8 *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, next;
    __u64 srh[@WORDS@];

    if (skb->protocol != bpf_htons(ETH_P_IPV6) || start + AT > end)
        return TC_ACT_UNSPEC;
    next = start[ETH_HLEN + 6];
    if (next != 6 && next != 17)
        return TC_ACT_UNSPEC;
    @FILL@
    *(__u8 *)srh = next;
    if (bpf_skb_adjust_room(skb, sizeof(srh), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
        bpf_skb_store_bytes(skb, AT, srh, sizeof(srh), 0))
        return TC_ACT_SHOT;
    start = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    if (start + AT > end)
        return TC_ACT_SHOT;
    *(__u16 *)(start + ETH_HLEN + 4) = bpf_htons(bpf_ntohs(*(__u16 *)(start + ETH_HLEN + 4)) + sizeof(srh));
    start[ETH_HLEN + 6] = 43;
    __builtin_memcpy(start + ETH_HLEN + 24, srh + @WORDS@ - 2, 16);
    return TC_ACT_OK;
}

int wired_ingress(struct __sk_buff *skb)
{
    __u8 *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, word[4];
    __u16 length;

    if (skb->protocol != bpf_htons(ETH_P_IPV6) || start + AT + @WORDS@ * 8 > end || start[ETH_HLEN + 6] != 43)
        return TC_ACT_UNSPEC;
    length = bpf_htons(bpf_ntohs(*(__u16 *)(start + ETH_HLEN + 4)) - @WORDS@ * 8);
    __builtin_memcpy(word, &length, 2);
    word[2] = start[AT];
    word[3] = start[ETH_HLEN + 7];
    if (bpf_skb_adjust_room(skb, -(@WORDS@ * 8), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ||
        bpf_skb_store_bytes(skb, ETH_HLEN + 4, word, 4, BPF_F_RECOMPUTE_CSUM))
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}
"""


def source_text(listed: list[IPv6Address], destination: IPv6Address) -> str:
    """The source of the programs for one list; the SRH is in immediate values (BCC has no constant data)."""
    srh = bytearray(ready_srh(listed))
    srh[8:24] = destination.packed
    words = [int.from_bytes(srh[at : at + 8], "little") for at in range(0, len(srh), 8)]
    fill = " ".join(f"srh[{number}] = {word:#x}ULL;" for number, word in enumerate(words))
    text = _SOURCE.replace("@WORDS@", str(len(words))).replace("@DATAGRAM@", str(DATAGRAM))
    return text.replace("@FILL@", fill)


class Floor(Compiled):
    """The loaded programs of one host."""

    def __init__(self, lab: Lab, here: str = "host-a", there: str = "host-b") -> None:
        listed = sids(lab) if here == "host-a" else sids(lab)[::-1]
        text = source_text(listed, lab.topology.host(there).address)
        super().__init__(text, ("empty", "bare_egress", "bare_ingress", "wired_egress", "wired_ingress"))


def measure(lab: Lab, traffic: Traffic, datagrams: int, seconds: float, rounds: int) -> list[Series]:
    """Nanoseconds per run, by direction and traffic; the variants are the programs."""
    result = []
    floor = Floor(lab)
    try:
        with agents(lab), statistics():
            for direction in ("egress", "ingress"):
                series = Series(f"{direction}, UDP {DATAGRAM} B", "ns per run")
                for _ in range(rounds):
                    _turns(
                        lab, floor, direction, series, (EMPTY, BARE, WIRED), lambda: traffic.flood(datagrams)
                    )
                result.append(series)
            # HawkWing sets MSS and reverse path; then the same connection is used with each program.
            load = traffic.endless_tcp()
            time.sleep(0.3)
            for direction in ("egress", "ingress"):
                series = Series(f"{direction}, TCP bulk", "ns per run")
                for _ in range(rounds):
                    _turns(lab, floor, direction, series, (EMPTY, WIRED), lambda: time.sleep(seconds))
                    if load.poll() is not None:
                        raise RuntimeError(f"the transfer ended: {load.output().strip()}")
                result.append(series)
            load.stop()
    finally:
        floor.close()
    return result


def _turns(
    lab: Lab,
    floor: Floor,
    direction: str,
    series: Series,
    ways: Sequence[str],
    work: Callable[[], None],
) -> None:
    """One round: the minimal programs, then HawkWing's."""
    ours = attached(lab, _NODES[direction], direction)
    try:
        for way in ways:
            fd = floor.programs[way if way == EMPTY else f"{way.split()[0]}_{direction}"]
            with in_front(lab, _NODES[direction], direction, fd):
                series.add(way, _during(fd, work))
        series.add(HAWKWING, _during(ours, work))
    finally:
        os.close(ours)


def _during(fd: int, work: Callable[[], None]) -> float:
    before = reading(fd)
    work()
    return per_run(before, reading(fd))
