"""What probing many paths costs an agent: host-a's client, one probe per path and 10 ms.

The other end of its link drops the probes. In one kernel the sender's processor would do the work of all
routers, too, and it would be counted as the agent's.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from lab.bench.compiled import Compiled
from lab.bench.figures import Series
from lab.bench.machine import cores
from lab.bench.ways import SR_DOMAIN, agent
from lab.filters import put_on, take_off
from lab.network import Lab

PATHS = 104
IDLE, SHARED, DIFFERENT = "no probes", f"{PATHS} paths, 8 lists", f"{PATHS} paths, {PATHS} lists"
WAYS = (IDLE, SHARED, DIFFERENT)
_PER_APPLICATION = 8
_INTERVAL = 10
_SETTLED = 3.0
_SOURCE = """
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

int drop_steered(struct __sk_buff *skb)
{
    __u8 kind = 0;

    bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct ipv6hdr, nexthdr), &kind, 1);
    return kind == IPPROTO_ROUTING ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
"""


def configuration(way: str) -> str:
    """So many paths of one SID each, for applications that nobody uses."""
    text = f"sr_domain: [{SR_DOMAIN}]\n"
    if way != IDLE:
        text += f"probes: {{interval: {_INTERVAL}}}\n"
    text += "services:\n  bench:\n    ipv6_addresses: ['fd00:77::1']\n    applications:\n"
    for first in range(0, PATHS, _PER_APPLICATION):
        numbers = range(_PER_APPLICATION) if way == SHARED else range(first, first + _PER_APPLICATION)
        paths = ", ".join(f"{{sid: ['fcbb:dd00:{number + 1:x}::1']}}" for number in numbers)
        text += f"      - port: {1000 + first}\n        paths: [{paths}]\n"
    return text


@contextmanager
def _dropping(lab: Lab) -> Iterator[None]:
    router = "site-a"
    interface = lab.topology.router(router).interface_to("host-a").name
    with closing(Compiled(_SOURCE, ["drop_steered"])) as compiled:
        lab.inside(router, partial(put_on, {"ingress": compiled.programs["drop_steered"]}, interface))
        try:
            yield
        finally:
            lab.inside(router, partial(take_off, interface))


def measure(lab: Lab, seconds: float, rounds: int) -> Series:
    """Per cent of a processor that the client uses, in turn."""
    series = Series("a client with a probe per path and 10 ms", "% of a processor")
    with _dropping(lab):
        for _ in range(rounds):
            for way in WAYS:
                series.add(way, _share(lab, way, seconds))
    return series


def _share(lab: Lab, way: str, seconds: float) -> float:
    client = agent(lab, "client", "host-a", text=configuration(way))
    try:
        client.wait_for("ready: ")
        # This waits for nothing: start-up is not measured.
        time.sleep(_SETTLED)
        return 100 * cores([client.pid], seconds)
    finally:
        client.stop()
