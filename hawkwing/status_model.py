"""The keys of `hawkwing status --json`, with their types and descriptions.

Those of `drops --json` and `paths --json` are at the end.

The JSON schema and docs/status.md are generated from it. Programs depend on these keys: new ones may be
added, but none is renamed or removed.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

Role = Literal["client", "server"]
Hook = Literal["tc", "xdp", "xdp-generic"]
Origin = Literal["controller", "backup", "none"]
Time = Annotated[float, "in Unix seconds"]
_Nodes = Annotated[
    list[str],
    "The path as node names: the label of each SID, or the SID if it has none; containers are unpacked. Only "
    "with `labels` in the configuration.",
]


class Count(TypedDict):
    """Packets, and their bytes."""

    packets: Annotated[int, "Number of packets."]
    bytes: Annotated[int, "Their bytes, as counted at the hook; on egress without the SRH."]


class Counters(TypedDict):
    """Packets by reason, since the agent's start; reasons without packets are omitted."""

    egress: Annotated[dict[str, Count], "Egress packets, by the name of the reason."]
    ingress: Annotated[dict[str, Count], "Ingress packets, by the name of the reason."]


class Attachment(TypedDict):
    """An interface of the agent."""

    interface: Annotated[str, "Its name on the command line."]
    name: Annotated[str, "Its current name."]
    renamed: Annotated[bool, "Whether the two names differ."]
    index: Annotated[int | None, "Its index; null while the interface does not exist."]
    attached: Annotated[bool, "Whether the programs are attached."]
    problem: Annotated[str, "Why they are not attached, or another problem; empty if there is none."]
    warnings: Annotated[list[str], "Other programs that may hide packets from the agent's."]
    restored: Annotated[int, "How often the agent restored filters that another program had removed."]


class Room(TypedDict):
    """Usage of a table."""

    count: Annotated[int, "Entries."]
    capacity: Annotated[int, "Maximum number of entries."]


class LearnedPath(TypedDict):
    """A reverse path that a server has learned."""

    sids: Annotated[list[str], "SIDs in travel order."]
    nodes: NotRequired[_Nodes]
    segments: Annotated[list[str], "The segments in the SRH: SIDs of a block are packed into containers."]
    told: Annotated[bool, "Whether a client has told it (`return_sid`); else it is a reverse list."]
    packets: Annotated[int, "Packets sent over it."]
    bytes: Annotated[int, "Their bytes."]


class WayBack(TypedDict):
    """What has become of a way back that packets tell the server."""

    packets: Annotated[int, "Packets that have told it."]
    replies: Annotated[int, "Replies over it: of each flow, the first one after a packet that told it."]
    problem: Annotated[str, "Why replies seem not to use it, as a sentence; else empty."]
    state: Annotated[str, "Whether replies use it; if not, why. A sentence."]


_ReturnSids = Annotated[
    list[str], "The way back that packets tell the server, in travel order; absent: the reverse list."
]
_ReturnUse = Annotated[WayBack, "What has become of this way back; absent without one."]


class Steered(TypedDict):
    """An application at one address of its service, and the path of its packets."""

    service: Annotated[str, "Name of the service in the configuration."]
    address: Annotated[str, "Address of the service."]
    port: Annotated[int, "Destination port."]
    intents: Annotated[list[str], "Intents, as text."]
    origin: Annotated[
        Origin,
        "Source of the path: `controller`, `backup` (`sid` or `paths` in the configuration) or `none` (no "
        "path).",
    ]
    sids: Annotated[
        list[str],
        "SIDs in travel order; with several paths, those of the path with the most flows. Empty without a "
        "path.",
    ]
    nodes: NotRequired[_Nodes]
    segments: Annotated[list[str], "The segments in the SRH: SIDs of a block are packed into containers."]
    source: Annotated[
        str | None, "Source address in the request to the controller; null if there is no request."
    ]
    since: Annotated[Time, "When the agent started to use this path."]
    mode: NotRequired[
        Annotated[Literal["encap"], "Packets are encapsulated; without this key the SRH is inserted."]
    ]
    return_sids: NotRequired[_ReturnSids]
    return_nodes: NotRequired[_Nodes]


class Health(TypedDict):
    """Health of a path, measured by the agent's probes."""

    state: Annotated[
        Literal["unknown", "alive", "dead"],
        "`unknown`: no probes are sent along it, or none has returned yet.",
    ]
    probes_received: Annotated[int, "Probes that returned."]
    rtt_ms: Annotated[float | None, "Round trip in milliseconds, smoothed; null: unknown."]
    jitter_ms: Annotated[
        float | None, "Variation of the round trip in milliseconds, smoothed (RFC 3550); null: unknown."
    ]
    loss_percent: Annotated[
        float | None,
        "Lost probes in the last 30 seconds or more, in percent; null: unknown, or not needed.",
    ]


class Connections(TypedDict):
    """Figures of the host's TCP connections on a path; only of applications with several paths."""

    rtt_ms: Annotated[float | None, "Round trip in milliseconds, smoothed; null: unknown."]
    rate_kbps: Annotated[
        float | None,
        "Delivery rate in kbit/s of connections that use at least half of their window, smoothed; null: "
        "unknown.",
    ]
    acknowledged_bytes: Annotated[int, "Bytes that the peers have acknowledged."]
    retransmitted_segments: Annotated[int, "Retransmitted TCP segments."]


class ActivePath(TypedDict):
    """One of several paths of an application, in use or on standby."""

    sids: Annotated[list[str], "SIDs in travel order."]
    nodes: NotRequired[_Nodes]
    segments: Annotated[list[str], "The segments in the SRH: SIDs of a block are packed into containers."]
    share_percent: Annotated[float, "Share of the flows, in percent."]
    sent: Annotated[Count, "Packets sent over it; applications with the same path share this counter."]
    health: Annotated[Health, "Its health, measured by probes."]
    tcp: Annotated[Connections, "Its figures from TCP connections."]
    state: Annotated[str, "Whether it is in use; if not, why. A sentence."]
    name: NotRequired[Annotated[str, "Its name in the configuration."]]
    return_sids: NotRequired[_ReturnSids]
    return_nodes: NotRequired[_Nodes]
    return_use: NotRequired[_ReturnUse]


class Binding(Steered):
    """An application at one address of its service, and the path of its packets."""

    return_use: NotRequired[_ReturnUse]
    path_sent: Annotated[Count, "Packets sent over the path; bindings with the same path share this counter."]
    active: NotRequired[Annotated[list[ActivePath], "With several paths only: the paths in use."]]
    standby: NotRequired[Annotated[list[ActivePath], "With several paths only: the paths not in use."]]
    reason: NotRequired[
        Annotated[
            str,
            "With several paths only: why the active paths were selected, with figures; empty if nothing is "
            "compared.",
        ]
    ]


class Queries(TypedDict):
    """Requests to the controller: each source, address and list of intents once."""

    count: Annotated[int, "All requests."]
    answered: Annotated[int, "Requests with an answer."]
    without_path: Annotated[int, "Requests whose answer has no path."]
    unanswered: Annotated[int, "Requests without an answer."]
    held_back: Annotated[int, "Requests that are not sent for a while, because they ended the stream."]


class Asking(TypedDict):
    """An application that waits for an answer."""

    service: Annotated[str, "Name of the service."]
    port: Annotated[int, "Destination port."]


class Unanswered(TypedDict):
    """A request that the controller has not answered."""

    applications: Annotated[list[Asking], "The applications that wait for the answer."]
    source: Annotated[str, "Source address in the request."]
    address: Annotated[str, "Destination address in the request."]
    intents: Annotated[list[str], "Intents, as text."]
    way_back: Annotated[bool, "Whether it is for a way back (`return_intents`)."]
    requests: Annotated[int, "How often it was sent."]
    next_request: Annotated[Time | None, "When it is sent again; null: not scheduled."]
    held_back: Annotated[bool, "Whether it is held back, because it ended the stream."]
    reason: Annotated[str, "Why it is held back; else empty."]


class Controller(TypedDict):
    """The stream to the controller."""

    target: Annotated[str, "Address and port."]
    state: Annotated[Literal["connecting", "connected"], "State of the stream."]
    retry_at: Annotated[Time | None, "Time of the next attempt; null: none is scheduled."]
    error: Annotated[str, "The last error; empty if there was none."]
    since: Annotated[Time, "When the stream entered its state."]
    counters: Annotated[dict[str, int], "Events on the stream, by name."]
    queries: Annotated[Queries, "Number of requests."]
    unanswered: Annotated[list[Unanswered], "Requests without an answer."]


class Unresolved(TypedDict):
    """A configured name without a known address."""

    service: Annotated[str, "Name of the service."]
    name: Annotated[str, "The DNS name."]
    error: Annotated[str | None, "Error of the last look-up; null if no look-up has failed."]


class Trouble(TypedDict):
    """Background work that has failed."""

    work: Annotated[str, "Name of the work."]
    error: Annotated[str, "The last error."]
    times: Annotated[int, "How often it failed."]
    last: Annotated[Time, "When it last failed."]
    restarts_at: Annotated[Time | None, "When it restarts; null: it runs again, or has ended."]


class Reloads(TypedDict):
    """Reloads of the configuration since the start."""

    good: Annotated[int, "Reloads that were applied."]
    refused: Annotated[int, "Reloads that were refused; they changed nothing."]


class DataPlaneStatus(TypedDict):
    """The data plane's part of a summary."""

    sr_domain: Annotated[list[str], "Configured prefixes of the SR domain; empty: the default."]
    trusted: Annotated[str, "Which SRHs are accepted, as a sentence."]
    csid_blocks: Annotated[list[str], "Blocks of compressed SIDs (RFC 9800)."]
    hmac_keys: Annotated[list[int], "Numbers of the keys of HMACs; the first one signs. Empty: no HMACs."]
    counters: Annotated[Counters, "Packets by reason; reasons.md explains the reasons."]
    flows: NotRequired[Annotated[Room, "Learned flows (server)."]]


class Summary(DataPlaneStatus):
    """The keys whose cost does not depend on the number of paths."""

    role: Annotated[Role, "Role of the agent."]
    pid: Annotated[int, "Process ID."]
    version: Annotated[str, "Version of HawkWing."]
    interfaces: Annotated[list[str], "Interfaces, with their names at the start."]
    started: Annotated[Time, "When the agent started."]
    ready: Annotated[bool, "Whether the agent has finished its start."]
    ingress_hook: Annotated[Hook, "Hook for ingress packets."]
    attachments: Annotated[list[Attachment], "Each interface."]


class Work(TypedDict):
    """State of the agent's background work."""

    troubles: Annotated[list[Trouble], "Background work that has failed."]
    tasks: Annotated[int, "Number of running asyncio tasks."]
    restarts: Annotated[dict[str, int], "How often background work was restarted, by its kind."]
    reloads: Annotated[Reloads, "Reloads of the configuration."]


class ClientPart(TypedDict):
    """Keys of a client only."""

    bindings: Annotated[list[Binding], "Each application and address, with its path."]
    unresolved: Annotated[list[Unresolved], "Names without an address."]
    controller: NotRequired[Annotated[Controller, "The stream to the controller, if one is enabled."]]


class Reflecting(TypedDict):
    """A server that answers STAMP packets."""

    port: Annotated[int, "Its UDP port."]
    answered: Annotated[int, "Packets answered since the start, or since the port was configured."]
    refused: Annotated[
        int, "Packets without an answer: too short, from outside the SR domain, or from a reflector."
    ]


class DecapSid(TypedDict):
    """A SID of a server that removes outer headers."""

    sid: Annotated[str, "The SID."]
    carries: Annotated[Literal["ipv6", "ipv4"], "Packets in the outer header."]
    behavior: Annotated[str, "Behavior of the SID (RFC 8986): End.DT6 or End.DX4."]
    installed: Annotated[bool, "Whether its rules and routes are in the kernel, and packets reach them."]
    problem: Annotated[str, "Why packets to it are not decapsulated; empty if they are."]
    packets: Annotated[int, "Packets decapsulated since its route was set, by the kernel's counter."]
    errors: Annotated[int, "Packets that the kernel has dropped instead, by its counter."]


class Decapsulation(TypedDict):
    """A server that removes outer headers, by the kernel's SRv6."""

    sources: Annotated[list[str], "Prefixes of the outer source; packets from others are dropped."]
    table: Annotated[int, "Routing table of the SIDs; the next one has the host's addresses for End.DT6."]
    restored: Annotated[int, "How often the agent restored rules or routes that were missing."]
    sids: Annotated[list[DecapSid], "The SIDs."]


class ServerPart(TypedDict):
    """Keys of a server only."""

    paths: Annotated[list[LearnedPath], "Learned reverse paths."]
    learned_paths: Annotated[Room, "Number of reverse paths."]
    stamp: NotRequired[Annotated[Reflecting, "With `stamp_port` only."]]
    decap: NotRequired[Annotated[Decapsulation, "With `decap` only."]]


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
    """An agent's packets by reason."""

    time: Annotated[Time, "When they were counted."]
    role: Annotated[Role, "Role of the agent."]
    interfaces: Annotated[list[str], "Its interfaces."]
    pid: Annotated[int, "Process ID."]
    seconds: Annotated[float | None, "Duration of the count; null: since the agent's start."]
    reasons: Annotated[list[ReasonCount], "Reasons that have packets in this time, drops first."]


class RoundTrips(TypedDict):
    """Round trips of probes, in milliseconds."""

    last: Annotated[float, "The last one."]
    min: Annotated[float, "The shortest one."]
    avg: Annotated[float, "The mean."]
    max: Annotated[float, "The longest one."]
    mdev: Annotated[float, "The standard deviation."]


class Problem(TypedDict):
    """Why a probe did not return."""

    text: Annotated[str, "The reason, in a few words."]
    reporter: Annotated[
        str | None, "Sender of the ICMPv6 error; null: the error is from this host, or there was none."
    ]
    active_segment: Annotated[
        str | None, "The probe's destination (active segment) when the error occurred; null: unknown."
    ]
    mtu: Annotated[int | None, "MTU of the next link, if the probe was too large for it; else null."]


class Measured(TypedDict):
    """Results of the probes along a path and back."""

    sent: Annotated[int, "Probes sent."]
    received: Annotated[int, "Probes that returned."]
    duplicates: Annotated[int, "Probes that returned again."]
    loss_percent: Annotated[float, "Probes that did not return, in percent."]
    rtt_ms: Annotated[RoundTrips | None, "Round trips; null if no probe returned."]
    problem: Annotated[
        Problem | None,
        "The last reason why a probe did not return; `no answer` if none returned and no error was reported; "
        "else null.",
    ]


class Candidate(TypedDict):
    """A path that packets could take."""

    origin: Annotated[
        Literal["controller", "backup"],
        "Source of the path: `controller`, or `backup` (`sid` or `paths` in the configuration).",
    ]
    sids: Annotated[list[str], "SIDs in travel order; empty: there is no such path at present."]
    nodes: NotRequired[_Nodes]
    return_sids: NotRequired[_ReturnSids]
    return_nodes: NotRequired[_Nodes]
    return_use: NotRequired[_ReturnUse]
    in_use: Annotated[bool, "Whether packets take it."]
    state: Annotated[str, "Whether it is in use; if not, why. A sentence."]
    name: NotRequired[Annotated[str, "Its name in the configuration."]]
    preference: NotRequired[Annotated[int, "Its preference; with several paths only."]]
    weight: NotRequired[Annotated[int, "Its weight; with several paths only."]]
    share_percent: NotRequired[
        Annotated[float, "Its share of the flows in percent; with several paths only."]
    ]
    packets: NotRequired[Annotated[int, "Packets sent over it; with several paths only."]]
    health: NotRequired[Annotated[Health, "Its health, measured by probes; with several paths only."]]
    tcp: NotRequired[Annotated[Connections, "Its figures from TCP connections; with several paths only."]]
    measured: NotRequired[
        Annotated[
            Measured | None,
            "With `--measure` only; null if the path has no SIDs, or is newer than the probes.",
        ]
    ]


class Choice(Steered):
    """An application at one address of its service, and all paths of its packets."""

    why: Annotated[str, "Why the path is in use, as a sentence."]
    packets: Annotated[int, "Packets sent over the path in use."]
    packets_per_second: Annotated[
        float | None, "Packet rate on this path; null if the path is newer than a second."
    ]
    candidates: Annotated[list[Candidate], "All paths, the preferred one first."]


class CsidBlock(TypedDict):
    """A block of compressed SIDs (RFC 9800)."""

    block: Annotated[str, "Its prefix."]
    local: Annotated[int, "C-SIDs from this value on identify a link."]


class Paths(TypedDict):
    """The paths of a destination, of one client."""

    interfaces: Annotated[list[str], "Interfaces of the client."]
    pid: Annotated[int, "Its process ID."]
    problems: Annotated[list[str], "Problems of its interfaces, as sentences."]
    bindings: Annotated[list[Choice], "Each application and address."]
    notes: Annotated[list[str], "Why there are no bindings, as sentences."]
    csid: Annotated[list[CsidBlock], "Blocks of compressed SIDs."]
