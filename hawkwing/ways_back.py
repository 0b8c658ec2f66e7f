"""Whether servers use the ways back that a client's packets tell, as sentences. No I/O."""

from __future__ import annotations

from typing import NamedTuple

SOON = 10
"""So many packets may be on their way before one has told the way back, or a reply has used it."""
_IDLE = 10.0
"""Seconds; replies that use it have come until so long before a packet last told it."""

_NO_AGENT = (
    "the server has no agent, or not all SIDs of the way back are in its sr_domain (WAY_BACK_REFUSED there) "
    "or in the one here (UNTRUSTED here)"
)


class Use(NamedTuple):
    """What has become of a path's way back; times in seconds of one clock, 0: never."""

    told: int
    """Packets that have told it."""
    replies: int
    """Replies over it: of each flow the first one after a packet that told it."""
    last_told: float = 0.0
    last_reply: float = 0.0

    def problem(self, sent: int) -> str:
        """Why it seems not to be used, after `sent` packets over the path; empty: no problem."""
        if not self.told:
            if sent <= SOON:
                return ""
            return (
                "no packet has told the way back: with it they are larger than the MTU, or they are fragments"
            )
        if self.told <= SOON or (self.replies and self.last_told - self.last_reply <= _IDLE):
            return ""
        since = " since" if self.replies else ""
        return f"{self.told} packets have told the way back, but no reply has used it{since}: {_NO_AGENT}"

    def state(self, sent: int) -> str:
        """The same as a sentence in any case."""
        if problem := self.problem(sent):
            return problem
        if self.replies:
            return "replies use it"
        return "no reply has used it yet" if self.told else "no packet has told it yet"
