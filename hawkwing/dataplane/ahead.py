"""Other programs that run before ours: one that ends the chain of filters hides packets from us.

A tcx program runs before all tc filters, and a filter of a lower priority before ours. The kernel runs the
next one only after TCX_NEXT or TC_ACT_UNSPEC ("continue"); otherwise our program does not get the packet.
"""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.attach import is_ours, priorities
from hawkwing.dataplane.netlink import Netlink, attributes, each_attribute, text_of
from hawkwing.dataplane.tc import Filter

_ETH_P_IPV6 = 0x86DD
_TCX = {"egress": bpf.TCX_EGRESS, "ingress": bpf.TCX_INGRESS}
_ACTIONS = {"u32": 7, "flower": 3, "matchall": 2, "basic": 3, "fw": 4}
"""The attribute with the actions, for each classifier."""
_U32_SELECTOR = 5
_ACTION_KIND, _ACTION_OPTIONS, _GACT_PARAMETERS = 1, 2, 2
_CONTINUE = -1


class Ahead(NamedTuple):
    """A program or filter that runs before ours in one direction."""

    direction: str
    what: str
    #: The effect on steering, as the end of a sentence.
    effect: str

    def __str__(self) -> str:
        return f"{self.direction}: {self.what} runs before HawkWing's, {self.effect}"


def of_interface(ip: Netlink, index: int) -> list[Ahead]:
    """All programs and filters that may end the chain before our filters, or before their place."""
    return [one for direction in ("egress", "ingress") for one in _of_direction(ip, index, direction)]


def _of_direction(ip: Netlink, index: int, direction: str) -> Iterator[Ahead]:
    for number in bpf.programs_on(index, _TCX[direction]):
        yield Ahead(
            direction,
            f"the tcx program {_named(number)}",
            "which has to return TCX_NEXT: other packets are not steered",
        )
    parent = tc.PARENTS[direction]
    found = [one for one in tc.filters(ip, index, parent) if not one.chain]
    place = min(
        (one.priority for one in found if is_ours(one)), default=next(priorities("server", tc.INGRESS))
    )
    for one in found:
        if one.priority >= place or is_ours(one) or one.protocol not in (tc.ETH_P_ALL, _ETH_P_IPV6):
            continue
        if one.kind == "bpf":
            name = f" {one.name}" if one.name else ""
            yield Ahead(
                direction,
                f"the BPF filter{name} at priority {one.priority}",
                "which has to return TC_ACT_UNSPEC: other packets are not steered",
            )
        elif _ends(one):
            yield Ahead(
                direction,
                f"a {one.kind} filter at priority {one.priority}",
                'without the action "continue": packets that match it are not steered',
            )


def _named(number: int) -> str:
    """The name of a program if the kernel reports it (CAP_SYS_ADMIN), otherwise its id."""
    try:
        program = bpf.program_by_id(number)
    except OSError:
        return f"with id {number}"
    try:
        return f"{bpf.program_info(program).name or 'without a name'} (id {number})"
    finally:
        os.close(program)


def _ends(one: Filter) -> bool:
    """Whether matching packets end the chain; a filter without actions ends it, too."""
    options = attributes(one.options)
    if one.kind == "u32" and _U32_SELECTOR not in options:
        # A hash table: the kernel lists it with the filters.
        return False
    actions = options.get(_ACTIONS.get(one.kind, 0), b"")
    verdicts = [_verdict(attributes(action)) for _order, action in each_attribute(actions)]
    return not verdicts or verdicts[-1] != _CONTINUE


def _verdict(action: dict[int, bytes]) -> int:
    """Whether the generic action continues; we assume that any other action ends the chain."""
    if text_of(action.get(_ACTION_KIND, b"")) != "gact":
        return 0
    parameters = attributes(action.get(_ACTION_OPTIONS, b"")).get(_GACT_PARAMETERS, b"")
    return int(struct.unpack_from("=IIi", parameters)[2]) if len(parameters) >= 12 else 0
