"""Runs made-up packets through the programs and the model; whatever differs is a fault of one of them.

`python -m tests.dataplane.fuzz --count 1000000 --seed 7`. Cases come in rounds: at the beginning of each
the tables are emptied and filled anew, then learning goes on, in the programs as in the model. A case is
found again by its seed and number alone: `--seed 7 --case 123456` runs its round up to there.
"""

import argparse
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from random import Random

from hawkwing.csid import Block
from hawkwing.dataplane import bpf
from hawkwing.dataplane.layout import limits, reasons, structures
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.next_hop import NextHop
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN
from hawkwing.selections import Contents
from hawkwing.sids import MAX_ENCAPSULATED, Encapsulated, Returning, SidList
from hawkwing.srh_hmac import MAX_SIGNED, Key
from tests.dataplane import plain as p
from tests.dataplane.bench import MTU, REDIRECT, Bench, Namespace
from tests.dataplane.fuzz_packets import LINK_LAYER, PORTS, SERVICES_IPV4, Maker
from tests.dataplane.model import egress, end_flow, ingress, is_ipv6, ordinary
from tests.dataplane.model_hmac import sign_frame
from tests.dataplane.model_ipv4 import is_ipv4
from tests.dataplane.model_tables import SHOT, Outcome, Selected, Sids, Tables, room_for
from tests.dataplane.model_way_back import AT_ONCE, note_use
from tests.dataplane.scene import COUNTED, DNS, GROUP, HOST_A, HOST_B, HOST_C, NAME, OWN_IPV4, SIDS

ROUND = 250
CAPACITIES = Capacities(policies=11, flows=8192)
ROLES = ("client", "server")
XDP_PASS = 2
SECOND = 1_000_000_000
FRESH = 0.3
"""So many seconds are nothing to what programs remember with a time."""
DOMAINS: list[list[str] | None] = [
    ["::/0"],
    None,
    ["fcbb:bb00::/32", "fcbb:cc00::/32"],
    ["fcbb:bb00::/32", "fcbb:cc00::/32", "2001:db8::/32"],
    ["::/0"],
    [f"{HOST_A}/128", f"{HOST_B}/128", *(f"{sid}/128" for sid in SIDS[:6])],
]
CSID_BLOCKS = [
    Block(IPv6Network("fcbb:bb00::/32")),
    Block(IPv6Network("fcbb:cc00:77::/48"), 0xF000),
    Block(IPv6Network("5f00::/16"), 0x8000),
]
KEYS = [Key(1, b"x"), Key(7, b"correct horse"), Key(0xFEDCBA98, bytes(range(64)))]
TAG = struct.pack("!H", limits()["HW_WAY_BACK_TAG"])
SLOT_BITS, EPOCH_BITS = limits()["HW_SLOT_BITS"], limits()["HW_EPOCH_BITS"]
FINAL = frozenset(reason.name for reason in reasons() if reason.kind != "info")


@dataclass
class Report:
    """What has been run and met."""

    cases: int = 0
    stripped_by_xdp: int = 0
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: By direction and reason: packets of IPv4, and errors that have become such.
    ipv4: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Round:
    """A table set, the same in a bench and in a model, and the cases run on it."""

    def __init__(self, benches: dict[str, Bench], seed: int, number: int) -> None:
        self.seed, self.number = seed, number
        self.random = Random(f"{seed}/{number}")
        self.role = "client" if number % 2 else "server"
        self.bench = benches[self.role]
        self.slots: dict[int, tuple[bytes, ...]] = {}
        here, there = (HOST_A, HOST_B) if self.role == "client" else (HOST_B, HOST_A)
        self.maker = Maker(self.random, here, there)
        self.port = self.bench.namespace.port if self.random.random() < 0.6 else 0
        self.tables = Tables(self.role, MTU if self.port else 65536)
        self._fill(here)
        self.fresh = time.monotonic()

    def _fill(self, here: IPv6Address) -> None:
        bench, tables = self.bench, self.tables
        bench.reset()
        self._set_local(here)
        self._set_domain(self.random.choice(DOMAINS))
        self._set_csid()
        tables.tunnel = HOST_A.packed
        bench.plane.outer_source = lambda _segment: HOST_A
        tables.paths_room = CAPACITIES.policies - 1
        tables.xdp = self.random.random() < 0.7
        bench.plane.set_xdp(tables.xdp)
        self._set_hmac()
        if self.role == "server":
            return
        tables.ipv4 = self.random.random() < 0.9
        bench.plane.set_ipv4_services(tables.ipv4)
        services = zip([HOST_B, HOST_C, *SERVICES_IPV4], [GROUP, GROUP + 1] * 2, strict=True)
        for address, group in services:
            bench.plane.add_service(address, group)
            tables.services[address.packed] = group
        for text, group in ((NAME, GROUP), ("wc.hawk.net", GROUP + 1), ("za.hawk.net", 3), ("za@[.net", 4)):
            bench.name(text, group)
            tables.names[p.name(text)[:-1]] = group
        for port in PORTS:
            count = port - COUNTED if port > COUNTED else self.random.choice([0, 1, 2, 2, 3, 6])
            most = MAX_SIGNED if tables.signer else len(SIDS)
            sids = SIDS[: count if count <= most else 2]
            if port == 82:
                continue
            self.slots[port] = tuple(sid.packed for sid in sids)
            kind = self._kind(self.slots[port])
            for protocol in (p.TCP, p.UDP, p.SCTP):
                for group in (GROUP, GROUP + 1):
                    bench.route(group, protocol, port, self._slot(port), kind(sids))
                    tables.routes[group, port, protocol] = self.slots[port]
        for port in sorted(self.slots):
            if self.random.random() < 0.25:
                self._select(port)
        self._set_next_hops()

    def _kind(self, sids: Sids) -> Callable[[Iterable[IPv6Address]], SidList]:
        """Some paths encapsulate, and some tell a way back; ports with the same list share it."""
        alone = list(self.slots.values()).count(sids) == 1
        if alone and 0 < len(sids) <= MAX_ENCAPSULATED and self.random.random() < 0.5:
            self.tables.encapsulated.add(sids)
        elif alone and sids and self.random.random() < 0.6:
            self.tables.ways_back[sids] = tuple(sid.packed for sid in self.maker.back())
        back = [IPv6Address(sid) for sid in self.tables.ways_back.get(sids, ())]
        if back:
            return lambda listed: Returning(listed, back)
        return Encapsulated if sids in self.tables.encapsulated else tuple

    def _select(self, port: int) -> None:
        """Several paths for a port, one for each bucket of flows."""
        lists = self.random.choices(sorted(self.slots), k=self.random.randint(1, 4))
        buckets = tuple(self.random.choice(lists) for _ in range(1 << limits()["HW_BUCKET_BITS"]))
        selected = Selected(tuple(self.slots[one] for one in buckets))
        number, plane = sorted(self.slots).index(port), self.bench.plane
        slots = [self._slot(one) for one in buckets]
        longest = room_for(self.tables, selected)
        candidates = [*dict.fromkeys(slots)]
        plane.set_selection(number, Contents(slots, candidates, len(candidates), longest))
        for group in (GROUP, GROUP + 1):
            for protocol in (p.TCP, p.UDP, p.SCTP):
                plane.select_route(group, port, [protocol], number)
                self.tables.routes[group, port, protocol] = selected

    def _slot(self, port: int) -> int:
        """One for each list, as the agent does it."""
        return 1 + list(self.slots.values()).index(self.slots[port])

    def _set_local(self, here: IPv6Address) -> None:
        local = [here, DNS] if self.random.random() < 0.3 else [here]
        local += [OWN_IPV4] if self.random.random() < 0.9 else []
        self.bench.local(*local)
        self.tables.local = {address.packed for address in local}

    def _set_domain(self, prefixes: list[str] | None) -> None:
        domain = DEFAULT_SR_DOMAIN if prefixes is None else tuple(map(IPv6Network, prefixes))
        self.bench.plane.set_sr_domain(None if prefixes is None else domain)
        self.tables.domain = [(int(prefix.network_address), int(prefix.netmask)) for prefix in domain]
        self.tables.sids_only = prefixes is None
        self.tables.checked.clear()

    def _set_csid(self) -> None:
        chosen = self.random.choice([[], [], CSID_BLOCKS[:1], CSID_BLOCKS])
        self.bench.plane.set_csid(chosen)
        self.tables.csid = [
            (struct.unpack("!8H", one.prefix.network_address.packed)[: one.prefix.prefixlen // 16], one.local)
            for one in chosen
        ]
        # A flow's list may have another way back now.
        self.tables.checked.clear()

    def _set_hmac(self) -> None:
        """Now and then there are keys, or the interface requires an HMAC."""
        chosen = self.random.sample(KEYS, 2) if self.random.random() < 0.3 else []
        self.bench.plane.set_hmac(chosen)
        self.tables.keys = {key.number: key.secret for key in chosen}
        self.tables.signer = chosen[0].number if chosen else 0
        self.tables.hmac = self.random.random() < 0.05
        self.bench.plane.set_hmac_links([1, self.port] if self.tables.hmac else [])

    def _change(self) -> None:
        """The agent's part: what was found trustworthy before has to be checked once more."""
        if self.random.random() < 0.5:
            self._set_local(self.maker.here)
        if self.role == "server" or self.random.random() < 0.5:
            self._set_domain(self.random.choice(DOMAINS))
        if self.random.random() < 0.3:
            self._set_csid()
        if self.role == "client" and self.random.random() < 0.5:
            self._change_routes()
        if self.role == "client" and self.random.random() < 0.3:
            self._set_next_hops()

    def _set_next_hops(self) -> None:
        """As the agent does it for a client's paths; what a server has learned keeps where it came from."""
        chosen = {
            sids: self.random.choice([*LINK_LAYER[:2], None, None, None])
            for sids in dict.fromkeys(self.slots.values())
        }
        self.tables.next_hops = {sids: (address, True) for sids, address in chosen.items() if address}
        for port, sids in self.slots.items():
            address = chosen[sids]
            next_hop = NextHop(address, self.port or 1) if address else None
            self.bench.set_next_hop(self._slot(port), next_hop)

    def _change_routes(self) -> None:
        """Paths that move, or go: what a program remembers of them must go with them."""
        plane, tables = self.bench.plane, self.tables
        for group, port, protocol in sorted(tables.routes):
            chance, other = self.random.random(), self.random.choice(sorted(self.slots))
            if chance < 0.2:
                plane.remove_route(group, port, [protocol])
                del tables.routes[group, port, protocol]
            elif chance < 0.25 and protocol == p.TCP and group == GROUP:
                self._select(port)
            elif chance < 0.7:
                plane.set_route(group, port, [protocol], self._slot(other))
                tables.routes[group, port, protocol] = self.slots[other]

    def _refresh(self) -> None:
        """However long a round takes: nothing is told again because of time, and what was told is kept."""
        now = time.monotonic()
        if now - self.fresh < FRESH:
            return
        self.fresh = now
        if self.role == "client":
            self._refresh_tellings()
            return
        told = time.monotonic_ns() >> 20
        self.bench.set_told(lambda then: then and told)

    def _refresh_tellings(self) -> None:
        """What is not due remains so, unless it only had no room: then the next packet tries again."""
        table, now = self.bench.plane.maps["tellings"], time.monotonic_ns()
        for key in list(table.each_key()):
            if entry := table.get(key):
                telling = structures()["telling"].from_buffer_copy(entry)
                telling.last = now
                # Until 64 s have passed nothing is told.
                if telling.due > now + 2 * SECOND:
                    continue
                if telling.count >= AT_ONCE:
                    telling.due = now + SECOND
                else:
                    telling.due = 0
                table.set(key, bytes(telling))

    def run(self, report: Report, last: int = ROUND) -> None:
        """The cases up to `last`; ends at the first that differs."""
        before = self.bench.tallies()
        for case in range(last):
            self._refresh()
            if self.random.random() < 0.02:
                self._change()
            direction, frame = self.maker.packet()
            if direction == "ingress" and self.tables.keys and self.random.random() < 0.8:
                frame = sign_frame(frame, self.tables.keys, self.random)
            fault, before = self._case(direction, frame, before, report)
            if self.tables.had_no_room:
                self.tables.had_no_room = False
                self._refresh_tellings()
            report.cases += 1
            if fault:
                number = self.number * ROUND + case
                report.faults.append(
                    f"case {number} of seed {self.seed}, {self.role} {direction}, "
                    f"MTU {self.tables.mtu}: {fault}\n"
                    f"  packet    {frame.hex()}\n"
                    f"  again     python -m tests.dataplane.fuzz --seed {self.seed} --case {number}"
                )
                return
        fault = self._compare_tables()
        if fault:
            report.faults.append(f"round {self.number} of seed {self.seed}, {self.role}: {fault}")

    def _case(
        self, direction: str, frame: bytes, before: list[int], report: Report
    ) -> tuple[str | None, list[int]]:
        bench = self.bench
        quick, quick_expected = None, None
        if direction == "ingress" and self.tables.xdp:
            quick_expected = ordinary(self.tables, frame)
            ended = self.role == "server" and is_ipv6(frame) and end_flow(self.tables, frame[14:])
            result = bpf.test_run(bench.plane.programs["ingress_xdp"], frame)
            quick = result.packet
            if self.role == "server" and self.tables.csid and quick == frame:
                # With compressed SIDs it takes only what is cached.
                quick_expected = None
            if result.verdict != XDP_PASS or quick != (quick_expected or frame):
                return _differ("XDP", (XDP_PASS, quick_expected or frame), (result.verdict, quick)), before
            counted = bench.counted(before, direction)
            wanted = {"FLOW_ENDED": 1} if ended else {"STRIPPED": 1} if quick_expected else {}
            if quick_expected and self.role == "client" and frame[60:62] == TAG:
                wanted["WAY_BACK_USED"] = 1
                note_use(self.tables, quick_expected[14:])
            if counted != wanted:
                return _differ("XDP counts", wanted, counted), before
            before = bench.tallies() if counted else before
        expected = egress(self.tables, frame) if direction == "egress" else ingress(self.tables, frame)
        # bpf_skb_change_tail has the kernel sum up the packet anew.
        complete = direction == "ingress" and bench.complete and not expected.ipv4
        try:
            verdict, packet = bench.run_here(direction, frame, self.port, complete=complete)
        except (AssertionError, OSError) as error:
            return str(error), before
        after = bench.tallies()
        counted = bench.counted(before, direction)
        if verdict == REDIRECT and "NEXT_HOP" in counted:
            # Only in a test run does it not come by once more; another one does.
            bench.run_here("egress", p.ipv6(HOST_C, DNS, p.NO_NEXT, b""))
            after = bench.tallies()
        fault = self._judge(expected, verdict, packet, counted)
        for reason in counted:
            report.outcomes[self.role, direction, reason] += 1
            if is_ipv4(frame) or expected.ipv4:
                report.ipv4[direction, reason] += 1
        if not fault and quick is not None and quick != frame and "OTHER_HOST" not in counted:
            report.stripped_by_xdp += 1
            verdict, again = bench.run_here(direction, quick, self.port, complete=complete)
            if again != packet:
                fault = _differ("XDP and tc, against tc alone", (verdict, packet), (verdict, again))
            after = bench.tallies()
        return fault, after

    def _judge(self, expected: Outcome, verdict: int, packet: bytes, counted: dict[str, int]) -> str | None:
        if verdict == expected.verdict == SHOT:
            packet = expected.packet
        sent = self.bench.namespace.sent(len(expected.sent)) if self.port else []
        told = self.bench.announced() if self.bench.ring and "NAME_LEARNED" in counted else []
        heard = [(address.packed, group, ttl) for address, group, ttl in told]
        # Nobody listens on the loopback, where only a path can have a small MTU.
        wanted, left = [*expected.sent] if self.port else [], expected.packet
        if expected.sent and not self._is_fragment(expected):
            at = 14 + 40 + 8 * (left[55] + 1) + 4
            number = packet[at : at + 4]
            wanted, (left,) = (
                [frame[:at] + number + frame[at + 4 :] for frame in frames] for frames in (wanted, [left])
            )
        if len(FINAL.intersection(counted)) != 1:
            return f"not one final reason: {counted}"
        ours = (expected.verdict, left, dict(expected.counted), wanted, expected.told)
        theirs = (verdict, packet, counted, sent, heard)
        return None if ours == theirs else _differ("tc", ours, theirs)

    @staticmethod
    def _is_fragment(expected: Outcome) -> bool:
        """True where the identification is the packet's own: the model has then written it."""
        frame = expected.sent[0]
        at = 14 + 40 + 8 * (frame[55] + 1) + 4
        return frame[at : at + 4] != bytes(4)

    def _compare_tables(self) -> str | None:
        plane, tables = self.bench.plane, self.tables
        if plane.flows is None:
            services = _services(self.bench)
            return None if services == tables.services else _differ("services", tables.services, services)
        paths = {path.slot: tuple(sid.packed for sid in path.sids) for path in plane.learned_paths()}
        flows = {
            (mark, word >> SLOT_BITS + EPOCH_BITS): paths.get(word % (1 << SLOT_BITS))
            for mark, word in plane.flows.entries()
        }
        wanted = {flow.marked(plane.flow_keys): tuple(path) for flow, path in tables.flows.items()}
        return None if flows == wanted else _differ("flows", wanted, flows)


def _services(bench: Bench) -> dict[bytes, int]:
    table = bench.plane.maps["services"]
    return {key: int.from_bytes((table.get(key) or b"")[:4], sys.byteorder) for key in table.each_key()}


def _differ(what: str, model: object, program: object) -> str:
    def shown(value: object) -> str:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, tuple | list):
            return ", ".join(map(shown, value))
        return str(value)

    return f"{what}\n  the model {shown(model)}\n  program   {shown(program)}"


def run(benches: dict[str, Bench], seed: int, count: int, seconds: float = 0) -> Report:
    """At least `count` cases, or fewer when `seconds` are over; ends with the round of the first fault."""
    report, end = Report(), time.monotonic() + seconds
    namespace = next(iter(benches.values())).namespace

    def work() -> None:
        number = 0
        while report.cases < count and not report.faults and (not seconds or time.monotonic() < end):
            Round(benches, seed, number).run(report, min(ROUND, count - report.cases))
            number += 1

    namespace.do(work)
    return report


def load(namespace: Namespace) -> dict[str, Bench]:
    """Both roles' data planes, with little room for paths."""
    loaders = {role: Loading(role, CAPACITIES, xdp=True) for role in ROLES}
    return {role: Bench(role, loader.result(), namespace) for role, loader in loaders.items()}


def main() -> int:
    """Exits with 1 where something differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long; 0: after COUNT cases")
    parser.add_argument("--case", type=int, help="only this case, and those before it in its round")
    options = parser.parse_args()
    namespace = Namespace()
    benches = load(namespace)
    started = time.monotonic()
    if options.case is not None:
        report = Report()
        single = Round(benches, options.seed, options.case // ROUND)
        namespace.do(lambda: single.run(report, options.case % ROUND + 1))
    else:
        report = run(benches, options.seed, options.count, options.seconds)
    passed = time.monotonic() - started
    namespace.close()
    for (role, direction, reason), times in sorted(report.outcomes.items()):
        print(f"{role:7}{direction:8}{reason:20}{times:9}")
    print(f"{report.cases} cases in {passed:.1f} s, {report.cases / passed:.0f} a second; ", end="")
    print(f"{report.stripped_by_xdp} stripped by XDP")
    print(*report.faults, sep="\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
