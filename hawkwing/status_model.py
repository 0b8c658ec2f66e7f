"""What an agent tells about itself: the keys of `hawkwing status --json`, with their types and meanings.

Those of `drops --json` and `paths --json` are at the end.

The JSON schema and docs/status.md are made from it. Programs read these keys: they stay. New ones may come.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

Role = Literal["client", "server"]
Hook = Literal["tc", "xdp", "xdp-generic"]
Origin = Literal["controller", "backup", "none"]
Time = Annotated[float, "in Unix seconds"]
_Nodes = Annotated[
    list[str],
    "The path by names: the label of each SID, else the SID; containers are unpacked. Only with `labels` in "
    "the configuration.",
]


class Count(TypedDict):
    """Packets, and their bytes."""

    packets: Annotated[int, "Number of packets."]
    bytes: Annotated[int, "Their bytes, as counted at the hook; on egress without the SRH."]


class Counters(TypedDict):
    """Packets by reason, since the agent's start; reasons without packets are left out."""

    egress: Annotated[dict[str, Count], "Packets that the host sends, by the name of the reason."]
    ingress: Annotated[dict[str, Count], "Packets that arrive, by the name of the reason."]


class Attachment(TypedDict):
    """An interface of the agent."""

    interface: Annotated[str, "As it was named on the command line."]
    name: Annotated[str, "Its present name."]
    renamed: Annotated[bool, "Whether the two differ."]
    index: Annotated[int | None, "Its index; null while there is no such interface."]
    attached: Annotated[bool, "Whether the programs are on it."]
    problem: Annotated[str, "Why they are not, or what is wrong although they are; else empty."]
    warnings: Annotated[list[str], "Other programs that may keep packets from the agent's."]
    restored: Annotated[int, "How often filters were put back that another program had removed."]


class Room(TypedDict):
    """How full a table is."""

    count: Annotated[int, "Entries."]
    capacity: Annotated[int, "Maximum number of entries."]


class LearnedPath(TypedDict):
    """A reverse path that a server has learned."""

    sids: Annotated[list[str], "SIDs in travel order."]
    nodes: NotRequired[_Nodes]
    segments: Annotated[list[str], "The same as in the SRH: SIDs of a block are packed into containers."]
    packets: Annotated[int, "Packets sent over it."]
    bytes: Annotated[int, "Their bytes."]


class Steered(TypedDict):
    """An application at one address of its service, and the path of its packets."""

    service: Annotated[str, "Name of the service in the configuration."]
    address: Annotated[str, "IPv6 address of the service."]
    port: Annotated[int, "Destination port."]
    intents: Annotated[list[str], "Intents, as text."]
    origin: Annotated[
        Origin,
        "Where the path comes from: the controller, `sid` in the configuration, or there is no path.",
    ]
    sids: Annotated[
        list[str], "SIDs in travel order, of several paths that of most flows; empty without a path."
    ]
    nodes: NotRequired[_Nodes]
    segments: Annotated[list[str], "The same as in the SRH: SIDs of a block are packed into containers."]
    source: Annotated[str | None, "Source address in the request to the controller; null without one."]
    since: Annotated[Time, "When this path came."]


class Health(TypedDict):
    """What the agent's own probes tell of a path."""

    state: Annotated[
        Literal["unknown", "alive", "dead"],
        "`unknown`: no probes are sent along it, or none has come back yet.",
    ]
    probes_received: Annotated[int, "Probes that came back."]
    rtt_ms: Annotated[float | None, "Round trip in milliseconds, smoothed; null: not known."]
    jitter_ms: Annotated[
        float | None, "Variation of the round trip in milliseconds, smoothed (RFC 3550); null: not known."
    ]
    loss_percent: Annotated[
        float | None,
        "Lost probes of the last 30 seconds or more, in percent; null: not known, or not needed.",
    ]


class Connections(TypedDict):
    """What the host's TCP connections tell of a path; those of applications with several paths only."""

    rtt_ms: Annotated[float | None, "Round trip in milliseconds, smoothed; null: not known."]
    rate_kbps: Annotated[
        float | None,
        "Rate in kbit/s at which connections deliver that have enough to send, smoothed; null: not known.",
    ]
    acknowledged_bytes: Annotated[int, "Bytes that the other side has acknowledged."]
    retransmitted_segments: Annotated[int, "Segments that were sent once more."]


class ActivePath(TypedDict):
    """One of several paths that an application's flows are divided among, or could be."""

    sids: Annotated[list[str], "SIDs in travel order."]
    nodes: NotRequired[_Nodes]
    share_percent: Annotated[float, "Share of the flows, in percent."]
    sent: Annotated[Count, "What was sent over it; applications with the same path share it."]
    health: Annotated[Health, "What probes tell of it."]
    tcp: Annotated[Connections, "What TCP connections tell of it."]
    state: Annotated[str, "Whether it is in use, and why not, as a sentence."]
    name: NotRequired[Annotated[str, "Its name in the configuration."]]


class Binding(Steered):
    """An application at one address of its service, and the path of its packets."""

    path_sent: Annotated[Count, "What was sent over the path; bindings with the same path share it."]
    active: NotRequired[Annotated[list[ActivePath], "With several paths only: those in use at present."]]
    standby: NotRequired[Annotated[list[ActivePath], "With several paths only: the others."]]
    reason: NotRequired[
        Annotated[
            str, "With several paths only: why these are in use, with figures; empty if nothing is compared."
        ]
    ]


class Queries(TypedDict):
    """Requests to the controller: each source, address and list of intents once."""

    count: Annotated[int, "All of them."]
    answered: Annotated[int, "Those with an answer."]
    without_path: Annotated[int, "Those whose answer has no path."]
    unanswered: Annotated[int, "Those without an answer."]
    held_back: Annotated[int, "Those that are not sent for a while, because they ended the stream."]


class Asking(TypedDict):
    """An application that waits for an answer."""

    service: Annotated[str, "Name of the service."]
    port: Annotated[int, "Destination port."]


class Unanswered(TypedDict):
    """A request that the controller has not answered."""

    applications: Annotated[list[Asking], "The applications that wait for it."]
    source: Annotated[str, "Source address in the request."]
    address: Annotated[str, "Destination address in the request."]
    intents: Annotated[list[str], "Intents, as text."]
    requests: Annotated[int, "How often it was sent."]
    next_request: Annotated[Time | None, "When it is sent again; null: not planned."]
    held_back: Annotated[bool, "Whether it is held back, because it ended the stream."]
    reason: Annotated[str, "Why it is held back; else empty."]


class Controller(TypedDict):
    """The stream to the controller."""

    target: Annotated[str, "Address and port."]
    state: Annotated[Literal["connecting", "connected"], "State of the stream."]
    retry_at: Annotated[Time | None, "When the next attempt begins; null: none is planned."]
    error: Annotated[str, "The last error; empty if there was none."]
    since: Annotated[Time, "When the stream entered its state."]
    counters: Annotated[dict[str, int], "Events on the stream, by name."]
    queries: Annotated[Queries, "How many requests there are."]
    unanswered: Annotated[list[Unanswered], "Requests without an answer."]


class Unresolved(TypedDict):
    """A configured name without a known address."""

    service: Annotated[str, "Name of the service."]
    name: Annotated[str, "The DNS name."]
    error: Annotated[str | None, "Why the last look-up failed; null if none has failed."]


class Trouble(TypedDict):
    """Background work that has failed."""

    work: Annotated[str, "What it is."]
    error: Annotated[str, "The last error."]
    times: Annotated[int, "How often it failed."]
    last: Annotated[Time, "When it failed last."]
    restarts_at: Annotated[Time | None, "When it starts again; null: it runs again, or is over."]


class Reloads(TypedDict):
    """Reloads of the configuration since the start."""

    good: Annotated[int, "Applied."]
    refused: Annotated[int, "Refused: nothing was changed."]


class DataPlaneStatus(TypedDict):
    """The part of a summary that the data plane knows."""

    sr_domain: Annotated[list[str], "Configured prefixes of the SR domain; empty: the default."]
    trusted: Annotated[str, "Which SRHs are accepted, as a sentence."]
    csid_blocks: Annotated[list[str], "Blocks of compressed SIDs (RFC 9800)."]
    counters: Annotated[Counters, "What became of packets; the reasons are explained in reasons.md."]
    flows: NotRequired[Annotated[Room, "Learned flows (server)."]]


class Summary(DataPlaneStatus):
    """What costs the same for any number of paths."""

    role: Annotated[Role, "Role of the agent."]
    pid: Annotated[int, "Process ID."]
    version: Annotated[str, "Version of HawkWing."]
    interfaces: Annotated[list[str], "Interfaces, as they were called at the start."]
    started: Annotated[Time, "When the agent started."]
    ready: Annotated[bool, "Whether the agent has finished its start."]
    ingress_hook: Annotated[Hook, "Hook for ingress packets."]
    attachments: Annotated[list[Attachment], "Each interface."]


class Work(TypedDict):
    """How the agent itself is doing."""

    troubles: Annotated[list[Trouble], "Background work that has failed."]
    tasks: Annotated[int, "Number of running asyncio tasks."]
    restarts: Annotated[dict[str, int], "How often background work was restarted, by its kind."]
    reloads: Annotated[Reloads, "Reloads of the configuration."]


class ClientPart(TypedDict):
    """What only a client has."""

    bindings: Annotated[list[Binding], "Each application and address, with its path."]
    unresolved: Annotated[list[Unresolved], "Names without an address."]
    controller: NotRequired[Annotated[Controller, "The stream to the controller, if one is enabled."]]


class ServerPart(TypedDict):
    """What only a server has."""

    paths: Annotated[list[LearnedPath], "Learned reverse paths."]
    learned_paths: Annotated[Room, "How many reverse paths there are."]


class Client(Summary, Work, ClientPart):
    """The status of a client."""


class Server(Summary, Work, ServerPart):
    """The status of a server."""


class ReasonCount(TypedDict):
    """Packets of one reason and direction."""

    reason: Annotated[str, "Name of the reason, see reasons.md."]
    kind: Annotated[str, "Kind of the reason: drop, unchanged, ok or info."]
    direction: Annotated[str, "egress or ingress."]
    meaning: Annotated[str, "The reason in words."]
    packets: Annotated[int, "Number of packets."]
    bytes: Annotated[int, "Their bytes."]
    packets_per_second: Annotated[float | None, "Rate; null where `seconds` is null."]


class Drops(TypedDict):
    """What became of an agent's packets."""

    time: Annotated[Time, "When they were counted."]
    role: Annotated[Role, "Role of the agent."]
    interfaces: Annotated[list[str], "Its interfaces."]
    pid: Annotated[int, "Process ID."]
    seconds: Annotated[float | None, "Time that the counts are for; null: since the agent's start."]
    reasons: Annotated[list[ReasonCount], "Reasons with packets in this time, drops first."]


class RoundTrips(TypedDict):
    """Round trips of probes, in milliseconds."""

    last: Annotated[float, "The last one."]
    min: Annotated[float, "The shortest one."]
    avg: Annotated[float, "Their mean."]
    max: Annotated[float, "The longest one."]
    mdev: Annotated[float, "Their standard deviation."]


class Problem(TypedDict):
    """Why a probe did not come back."""

    text: Annotated[str, "The reason, in a few words."]
    reporter: Annotated[str | None, "Who sent the ICMPv6 error; null: this host says it, or nobody."]
    active_segment: Annotated[str | None, "Where the probe was sent to at that time; null: not known."]
    mtu: Annotated[int | None, "What the next link carries, if the probe was too large for it; else null."]


class Measured(TypedDict):
    """What became of the probes along a path and back."""

    sent: Annotated[int, "Probes sent."]
    received: Annotated[int, "Those that came back."]
    duplicates: Annotated[int, "Those that came back once more."]
    loss_percent: Annotated[float, "Those that did not come back, in percent."]
    rtt_ms: Annotated[RoundTrips | None, "Round trips; null if none came back."]
    problem: Annotated[
        Problem | None,
        "The last reason why one did not come back; `no answer` if none did and nobody says why; else null.",
    ]


class Candidate(TypedDict):
    """A path that packets could take."""

    origin: Annotated[
        Literal["controller", "backup"], "Where it comes from: the controller, or `sid` in the configuration."
    ]
    sids: Annotated[list[str], "SIDs in travel order; empty: there is no such path at present."]
    nodes: NotRequired[_Nodes]
    in_use: Annotated[bool, "Whether packets take it."]
    state: Annotated[str, "Why they do not, as a sentence."]
    name: NotRequired[Annotated[str, "Its name in the configuration."]]
    preference: NotRequired[Annotated[int, "Its preference, where there are several paths."]]
    weight: NotRequired[Annotated[int, "Its weight, where there are several paths."]]
    share_percent: NotRequired[
        Annotated[float, "Share of the flows that have it, in percent; where there are several paths."]
    ]
    packets: NotRequired[Annotated[int, "Packets sent over it; where there are several paths."]]
    health: NotRequired[Annotated[Health, "What probes tell of it; where there are several paths."]]
    tcp: NotRequired[
        Annotated[Connections, "What TCP connections tell of it; where there are several paths."]
    ]
    measured: NotRequired[
        Annotated[Measured | None, "With `--measure`; null without SIDs, or if it is newer than the probes."]
    ]


class Choice(Steered):
    """An application at one address of its service, and all paths of its packets."""

    why: Annotated[str, "Why the path is in use, as a sentence."]
    packets: Annotated[int, "Packets sent over the path in use."]
    packets_per_second: Annotated[float | None, "Rate over this path; null if it is newer than a second."]
    candidates: Annotated[list[Candidate], "All paths, the preferred one first."]


class CsidBlock(TypedDict):
    """A block of compressed SIDs (RFC 9800)."""

    block: Annotated[str, "Its prefix."]
    local: Annotated[int, "C-SIDs from this one on name a link."]


class Paths(TypedDict):
    """The paths of a destination, of one client."""

    interfaces: Annotated[list[str], "Interfaces of the client."]
    pid: Annotated[int, "Its process ID."]
    problems: Annotated[list[str], "What is wrong with its interfaces, as sentences."]
    bindings: Annotated[list[Choice], "Each application and address."]
    notes: Annotated[list[str], "Why there are none, as sentences."]
    csid: Annotated[list[CsidBlock], "Blocks of compressed SIDs."]
