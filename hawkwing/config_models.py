"""The models of the configuration: its keys with their descriptions, and rules across keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, TypeAdapter, model_validator

from hawkwing.config_base import Mapped, Rules
from hawkwing.config_labels import label_faults
from hawkwing.config_types import (
    ClientAddress,
    ControllerAddress,
    ControllerPort,
    CsidLength,
    DomainName,
    FileName,
    Flag,
    FlexAlgo,
    KeyId,
    Kind,
    Limit,
    LocalCsid,
    Mode,
    NodeLabels,
    Port,
    Preference,
    Prefix,
    ProbeInterval,
    SecretFile,
    ServiceAddress,
    ServiceAddress4,
    Sid,
    Text,
    Weight,
)
from hawkwing.config_values import forget_values, shown
from hawkwing.csid import BLOCK_LENGTHS, FIRST_LOCAL, LENGTH, MAX_BLOCKS, Block
from hawkwing.hmac_keys import MAX_KEYS
from hawkwing.intents import Intent, IntentType, order_problem
from hawkwing.selections import MAX_CANDIDATES, PREFERENCE, WEIGHT, Candidate
from hawkwing.sids import (
    MAX_ENCAPSULATED,
    MAX_PREFIXES,
    MAX_SIDS,
    MAX_WAY_BACK,
    Encapsulated,
    Returning,
    SidList,
)
from hawkwing.srh_hmac import MAX_SECRET
from hawkwing.target import address_of
from hawkwing.yaml_lines import Place

PROBE_INTERVAL = 100
_T = TypeVar("_T")
_limit: Callable[[object], int] = TypeAdapter(Limit).validate_python
_key_id: Callable[[object], int] = TypeAdapter(KeyId).validate_python
_port: Callable[[object], int] = TypeAdapter(Port).validate_python
_prefix: Callable[[object], IPv6Network] = TypeAdapter(Prefix).validate_python
_address: Callable[[object], object] = TypeAdapter(ServiceAddress).validate_python
_address4: Callable[[object], object] = TypeAdapter(ServiceAddress4).validate_python
_sid: Callable[[object], object] = TypeAdapter(Sid).validate_python
_name: Callable[[object], object] = TypeAdapter(DomainName).validate_python


def _try(parse: Callable[[object], _T], value: object) -> _T | None:
    try:
        return parse(value)
    except ValueError:
        return None


def _get(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else getattr(item, key, None)


def _list(item: object, key: str) -> Sequence[Any]:
    value = _get(item, key)
    return value if isinstance(value, (list, tuple)) else ()


def _absent(item: object, key: str) -> bool:
    value = _get(item, key)
    return value is None or (isinstance(value, (list, tuple, dict)) and not value)


def forget_what_was_read() -> None:
    """Clears the caches of values that can occur more than once in a file."""
    forget_values()
    _intents_read.clear()


class IntentEntry(Mapped):
    """An intent in a configuration file."""

    title = "an intent"
    shape = "for example `- intent: low-latency`"

    intent: Kind = Field(description="Kind of intent.")
    functions: tuple[Text, ...] = Field(
        default=(), description="Service functions in travel order; for sfc only."
    )
    flex_algo_number: FlexAlgo | None = Field(
        default=None,
        description="Number of the Flex-Algorithm; for flex-algo only. HawkEye accepts 128 to 255.",
    )
    min_value: Limit | None = Field(
        default=None,
        description="Lower limit in HawkEye's units: microseconds, percent, kbit/s. HawkEye uses it with "
        "high-bandwidth.",
    )
    max_value: Limit | None = Field(
        default=None,
        description="Upper limit in HawkEye's units: microseconds, percent, kbit/s. HawkEye uses it with "
        "low-latency, low-jitter and low-packet-loss. With several `paths`, the agent uses it, too: latency "
        "is half of the measured round trip.",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        kind = _try(IntentType, raw.get("intent"))
        for key, owner in (("functions", IntentType.SFC), ("flex_algo_number", IntentType.FLEX_ALGO)):
            if kind is owner and _absent(raw, key):
                yield (key,), f"is missing, {owner.value} needs it"
            elif kind not in (owner, None) and not _absent(raw, key):
                yield (key,), f"is valid with {owner.value} only"
        if kind in (IntentType.SFC, IntentType.FLEX_ALGO):
            for key in ("min_value", "max_value"):
                if key in raw:
                    yield (key,), f"is not valid with {kind.value}"
        low, high = (_try(_limit, raw.get(key)) for key in ("min_value", "max_value"))
        if low is not None and high is not None and low > high:
            yield ("min_value",), f"{low} is above the max_value {high}"


_intents_read: dict[str, Intent] = {}  # by their text in the file: a large file has few different ones


def _read_intent(raw: object) -> Intent:
    if isinstance(raw, Intent):
        return raw
    written = repr(raw)
    intent = _intents_read.get(written)
    if intent is None:
        entry = IntentEntry.model_validate(raw)
        intent = _intents_read[written] = Intent(
            entry.intent, entry.min_value, entry.max_value, entry.functions, entry.flex_algo_number
        )
    return intent


def _type_of(raw: object) -> IntentType | None:
    return raw.type if isinstance(raw, Intent) else _try(IntentType, _get(raw, "intent"))


class CandidatePath(Mapped):
    """A candidate path of an application (RFC 9256, section 2)."""

    title = "a path"
    shape = "for example `- sid: [fcbb:bb00:1::2]`"

    name: Text | None = Field(default=None, description="Name of the path, for `status` and `paths`.")
    sid: tuple[Sid, ...] = Field(
        max_length=MAX_SIDS,
        description=f"Segment list: SIDs in travel order, without the destination; {MAX_SIDS} at most.",
    )
    return_sid: tuple[Sid, ...] = Field(
        default=(),
        max_length=MAX_WAY_BACK,
        description="The way back of this path, instead of the application's return_sid.",
    )
    preference: Preference = Field(
        default=PREFERENCE,
        description="The agent uses the usable paths with the highest preference. A path is usable if there "
        "is a route to its first SID. If no path has one, all count as usable. Default: 100.",
    )
    weight: Weight = Field(
        default=WEIGHT,
        description="Share of the flows among paths with the same preference. A change of weights moves as "
        "few flows as possible. Default: 1.",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if raw.get("sid") == []:
            yield ("sid",), "is empty, a path needs at least one SID"


class Application(Mapped):
    """A port of a service, with its segment list, candidate paths or intents."""

    title = "an application"
    shape = "for example `- port: 80`"

    port: Port = Field(description="Destination port, of TCP and UDP.")
    sid: tuple[Sid, ...] = Field(
        default=(),
        max_length=MAX_SIDS,
        description=f"Segment list: SIDs in travel order, without the destination; {MAX_SIDS} at most. With "
        "a controller it is the backup until the controller has sent a path.",
    )
    paths: tuple[CandidatePath, ...] = Field(
        default=(),
        max_length=MAX_CANDIDATES,
        description=f"Several candidate paths instead of sid, {MAX_CANDIDATES} at most. The paths with the "
        "highest preference share the flows by weight. A flow keeps its path, but a TCP connection can get "
        "another one after each retransmission time-out. A path from the controller has priority over all "
        "of them.",
    )
    return_sid: tuple[Sid, ...] = Field(
        default=(),
        max_length=MAX_WAY_BACK,
        description="Segment list of the replies: SIDs in travel order from the server to this host, "
        f"{MAX_WAY_BACK} at most. Packets tell it to `hawkwing server`, which uses it if all SIDs are in its "
        "SR domain. Default: the reverse list.",
    )
    return_intents: tuple[
        Annotated[Intent, PlainValidator(_read_intent, json_schema_input_type=IntentEntry)], ...
    ] = Field(
        default=(),
        description="Requirements for the way back: the controller is asked for a path from the destination "
        "to this host, and packets with the controller's path tell it, instead of return_sid.",
    )
    mode: Mode | None = Field(
        default=None,
        description="How packets get the segment list. insert (default): the SRH is inserted. encap: the "
        "packet gets an outer IPv6 header with a reduced SRH (H.Encaps.Red), or without an SRH if one SID is "
        "enough. The last SID has to remove the outer header (End.DT6, End.DT4, End.DT46, End.DX6, End.DX4).",
    )
    decap_sid: Sid | None = Field(
        default=None,
        description="With mode encap: this SID is appended to all lists, also to those of the controller. "
        "Without it, the last SID of each list removes the outer header.",
    )
    intents: tuple[
        Annotated[Intent, PlainValidator(_read_intent, json_schema_input_type=IntentEntry)], ...
    ] = Field(
        default=(),
        description="Requirements for the path. The order matters: sfc must be first; flex-algo must be "
        "first, or second after sfc. The controller gets all intents. If there are several `paths`, the "
        "agent measures them. It uses the best one for the first intent of low-latency, low-jitter, "
        "low-packet-loss and high-bandwidth, and stops using a path that exceeds a max_value.",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if all(_absent(raw, key) for key in ("sid", "paths", "intents")):
            yield (), "needs sid, paths or intents"
        if not _absent(raw, "sid") and not _absent(raw, "paths"):
            yield ("paths",), "can't be given together with sid: write sid as one of the paths"
        yield from _twice(_list(raw, "paths"))
        for key in ("intents", "return_intents"):
            types = [_type_of(intent) for intent in _list(raw, key)]
            if problem := order_problem(types):
                culprit = next(index for index in range(len(types)) if order_problem(types[: index + 1]))
                yield (key, culprit), problem
        if not _absent(raw, "return_intents") and _absent(raw, "intents"):
            yield (
                ("return_intents",),
                "need intents, packets with the controller's path tell its way back",
            )

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The configured paths; `sid` is a single one."""
        if self.sid:
            return (Candidate(self.as_sent(self.sid)),)
        return tuple(
            Candidate(self.as_sent(path.sid, path.return_sid), path.name or "", path.preference, path.weight)
            for path in self.paths
        )

    def as_sent(self, sids: SidList, back: SidList = ()) -> SidList:
        """A list as packets of this application get it: for encapsulation with the SID that ends it.

        Otherwise with the way `back` that they tell, by default `return_sid`.
        """
        if self.mode != "encap" or not sids:
            told = back or self.return_sid
            return Returning(sids, told) if sids and told else sids
        return Encapsulated(sids if self.decap_sid is None else (*sids, self.decap_sid))


def _twice(paths: Sequence[Any]) -> Rules:
    """Reports names and segment lists that several of these paths have in common."""
    for key in ("name", "sid"):
        seen: dict[str, int] = {}
        for index, path in enumerate(paths):
            value = _get(path, key)
            if value is None or (key == "sid" and not isinstance(value, (list, tuple))):
                continue
            first = seen.setdefault(_as_addresses(value) if key == "sid" else repr(value), index)
            if first != index:
                subject, what = ("", "segment list") if key == "sid" else (f"{shown(value)} ", "name")
                yield ("paths", index, key), f"{subject}is already the {what} of paths[{first}]"


def _as_addresses(sids: Sequence[Any]) -> str:
    """The same text for the same addresses in any notation."""
    return repr([_try(_sid, sid) or sid for sid in sids])


_EACH_ONCE = AfterValidator(lambda listed: tuple(dict.fromkeys(listed)))


class Service(Mapped):
    """A destination, by name or by addresses, and its applications; `domain_name` is in lower case."""

    title = "a service"
    shape = "with domain_name or ipv6_addresses, and applications"

    domain_name: DomainName | None = Field(
        default=None, description="DNS name. The agent resolves it again according to its TTL."
    )
    ipv6_addresses: Annotated[tuple[ServiceAddress, ...], _EACH_ONCE] = Field(
        default=(), description="IPv6 addresses of the service."
    )
    ipv4_addresses: Annotated[tuple[ServiceAddress4, ...], _EACH_ONCE] = Field(
        default=(), description="IPv4 addresses of the service; with mode encap only."
    )
    mode: Mode | None = Field(default=None, description="The mode of all applications without their own.")
    decap_sid: Sid | None = Field(
        default=None, description="The decap_sid of all applications without their own."
    )
    applications: tuple[Application, ...] = Field(
        default=(), description="Applications of the service, one per port."
    )

    @property
    def addresses(self) -> tuple[IPv6Address, ...]:
        """All addresses, those of IPv4 mapped (RFC 4291, section 2.5.5.2)."""
        return (*self.ipv6_addresses, *(address_of(str(one)) for one in self.ipv4_addresses))

    @model_validator(mode="after")
    def _hand_down(self) -> Service:
        """Applications have the service's mode and decap_sid unless they have their own."""
        if self.mode is not None or self.decap_sid is not None:
            handed = tuple(self._handed_down(one) for one in self.applications)
            object.__setattr__(self, "applications", handed)
        return self

    def _handed_down(self, application: Application) -> Application:
        mode = application.mode or self.mode
        decap_sid = application.decap_sid or (self.decap_sid if mode == "encap" else None)
        return application.model_copy(update={"mode": mode, "decap_sid": decap_sid})

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        targets = ("domain_name", "ipv6_addresses", "ipv4_addresses")
        if all(_absent(raw, key) for key in targets):
            yield (), "needs domain_name or ipv6_addresses"
        yield from _modes(raw)
        if _absent(raw, "applications"):
            yield (("applications",) if "applications" in raw else ()), "needs at least one application"
        first: dict[int, int] = {}
        for index, application in enumerate(_list(raw, "applications")):
            port = _try(_port, _get(application, "port"))
            if port is not None and first.setdefault(port, index) != index:
                yield (
                    ("applications", index, "port"),
                    f"{port} is already the port of applications[{first[port]}]",
                )


def _modes(service: Mapping[str, Any]) -> Rules:
    """Errors in how the applications of a service send their packets."""
    listed = _list(service, "applications")
    used = _get(service, "mode")
    modes = [_get(one, "mode") or used for one in listed]
    if not all(mode in (None, "insert", "encap") for mode in (used, *modes)):
        # This alone is told.
        return
    if not _absent(service, "decap_sid") and "encap" not in modes:
        yield ("decap_sid",), "is valid with mode: encap only"
    lacking = False
    for index, (application, mode) in enumerate(zip(listed, modes, strict=True)):
        place = ("applications", index)
        if mode == "encap":
            yield from _told_in_vain(application, place)
        if mode != "encap":
            if not _absent(application, "decap_sid"):
                yield (*place, "decap_sid"), "is valid with mode: encap only"
            if not _absent(service, "ipv4_addresses") and not lacking:
                lacking = True
                port = shown(_get(application, "port"))
                yield ("ipv4_addresses",), f"need mode: encap, which the application with port {port} lacks"
            continue
        ends = not (_absent(application, "decap_sid") and _absent(service, "decap_sid"))
        lists: list[tuple[Place, Sequence[Any]]] = [(("sid",), _list(application, "sid"))]
        lists += [
            (("paths", number, "sid"), _list(path, "sid"))
            for number, path in enumerate(_list(application, "paths"))
        ]
        for key, sids in lists:
            if len(sids) + ends > MAX_ENCAPSULATED:
                with_it = f"{len(sids)} SIDs and decap_sid" if ends else f"{len(sids)} SIDs"
                yield (*place, *key), f"has {with_it}, at most {MAX_ENCAPSULATED} SIDs fit with mode: encap"
        if not ends and not _absent(application, "intents") and not any(sids for _key, sids in lists):
            yield (*place, "intents"), "with mode: encap need a decap_sid, the controller's paths have none"


def _told_in_vain(application: Any, place: Place) -> Rules:
    """Keys for a way back of packets that are encapsulated: nobody learns from those."""
    for key in ("return_sid", "return_intents"):
        if not _absent(application, key):
            yield (*place, key), "is valid with mode: insert only"
    for number, path in enumerate(_list(application, "paths")):
        if not _absent(path, "return_sid"):
            yield (*place, "paths", number, "return_sid"), "is valid with mode: insert only"


class Tls(Mapped):
    """TLS to the controller: PEM files, relative to the configuration file."""

    title = "hawkeye.tls"
    shape = "with the keys ca, certificate and key"

    ca: FileName | None = Field(
        default=None,
        description="PEM file with the CA certificates for the controller's certificate. Relative to the "
        "configuration file.",
    )
    certificate: FileName | None = Field(
        default=None, description="PEM file with the client's certificate, for mutual TLS."
    )
    key: FileName | None = Field(
        default=None, description="PEM file with the client's private key, for mutual TLS."
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if not _absent(raw, one) and _absent(raw, other):
                yield (other,), f"is missing, {one} requires {other} as well"

    def beside(self, folder: Path) -> Tls:
        """A copy with file names relative to this folder resolved."""
        paths = {name: folder / path for name, path in self if path is not None}
        return self.model_copy(update=paths)


class Hawkeye(Mapped):
    """The controller; `port` is a TCP port. With `tls`, even an empty one, the connection is encrypted."""

    title = "hawkeye"
    shape = "with the keys enabled, address and port"

    enabled: Flag = Field(
        default=False, description="Whether to request paths from the controller. Default: false."
    )
    address: ControllerAddress | None = Field(default=None, description="IPv6 address of the controller.")
    port: ControllerPort | None = Field(default=None, description="TCP port of the controller.")
    tls: Tls | None = Field(
        default=None,
        description="TLS to the controller. An empty mapping enables TLS with the system's CA certificates. "
        "Without this key the stream is plaintext.",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        for key in ("address", "port"):
            if raw.get("enabled") is True and _absent(raw, key):
                yield (key,), "is missing, it is needed when hawkeye.enabled is true"


class CsidBlock(Mapped):
    """A block of compressed SIDs (RFC 9800)."""

    title = "csid"
    shape = "for example `- block: fcbb:bb00::/32`"

    block: Prefix = Field(description="Prefix of the block: 16, 32 or 48 bits.")
    length: CsidLength = Field(
        default=LENGTH, description="Length of a C-SID (NEXT-C-SID) in bits; only 16 is supported."
    )
    local: LocalCsid = Field(
        default=FIRST_LOCAL,
        description="C-SIDs from this value on identify a link of a router, so they are valid in one "
        "direction only. A server does not learn lists that contain them. Default: 57344 (0xe000).",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        prefix = _try(_prefix, raw.get("block"))
        if prefix is not None and prefix.prefixlen not in BLOCK_LENGTHS:
            known = "16, 32 or 48"
            yield ("block",), f"{prefix} has {prefix.prefixlen} bits, a block of C-SIDs has {known}"

    @property
    def read(self) -> Block:
        """The block, for packing and unpacking."""
        return Block(self.block, self.local)


class HmacKey(Mapped):
    """A key for the HMAC of SRHs (RFC 8754, section 2.1.2)."""

    title = "hmac"
    shape = "with the keys key_id and secret_file"

    key_id: KeyId = Field(description="Number of the key; each SRH has the number of the key that signed it.")
    secret_file: SecretFile = Field(
        description=f"File with the secret of 1 to {MAX_SECRET} bytes; one line break at its end does not "
        "count. Relative to the configuration file.",
    )

    def beside(self, folder: Path) -> HmacKey:
        """A copy whose file name is relative to this folder."""
        return self.model_copy(update={"secret_file": folder / self.secret_file})


class Probes(Mapped):
    """Probes along the paths of applications that have several."""

    title = "probes"
    shape = "for example `interval: 100`"

    interval: ProbeInterval = Field(
        default=PROBE_INTERVAL,
        description="Milliseconds between two probes of a path. A path is dead if no probe has returned "
        "for three intervals. Default: 100.",
    )
    stamp_port: Port | None = Field(
        default=None,
        description="Send the probes as STAMP packets (RFC 8762) to this UDP port of the destinations, where "
        "`hawkwing server` or another reflector answers, instead of back to this host. For networks whose "
        "routers drop packets with this host's source address.",
    )


class Decap(Mapped):
    """The SIDs with which a server removes outer headers (End.DT6, End.DX4)."""

    title = "decap"
    shape = "for example `ipv6: fcbb:cc00:2::d6`"

    ipv6: Sid | None = Field(
        default=None,
        description="SID for IPv6 packets in an outer header (End.DT6). They are only delivered to global "
        "addresses of this host.",
    )
    ipv4: Sid | None = Field(
        default=None,
        description="SID for IPv4 packets in an outer header (End.DX4). They are never forwarded.",
    )

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        if all(_absent(raw, key) for key in ("ipv6", "ipv4")):
            yield (), "needs ipv6 or ipv4, each with a SID"
        one, other = (_try(_sid, raw.get(key)) for key in ("ipv6", "ipv4"))
        if one is not None and one == other:
            yield ("ipv4",), f"{other} is already the SID of ipv6, use another one"


def decap_faults(
    sids: Mapping[str, Any], domain: Sequence[IPv6Network], unread: bool = False
) -> Iterator[tuple[Place, str]]:
    """SIDs outside the SR domain, or without one: key and error message of each; `unread`: parts of it."""
    if not domain and not unread:
        yield (), "needs sr_domain: only packets from inside the SR domain are decapsulated"
    for key in ("ipv6", "ipv4") if domain and not unread else ():
        sid = sids.get(key)
        if sid is not None and not any(sid in prefix for prefix in domain):
            yield (key,), f"{sid} is outside the SR domain"


def csid_faults(
    blocks: Sequence[IPv6Network | None], domain: Sequence[IPv6Network]
) -> Iterator[tuple[int, str]]:
    """Blocks that overlap, or are outside the SR domain: index and error message of each."""
    for index, block in enumerate(blocks):
        if block is None:
            continue
        for other in blocks[:index]:
            if other is not None and block.overlaps(other):
                yield index, f"{block} overlaps with the block {other}"
        if domain and not any(block.subnet_of(prefix) for prefix in domain):
            yield index, f"{block} is not inside the SR domain, which has to contain the whole block"


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _key_ids_twice(entries: object) -> Rules:
    first: dict[int, int] = {}
    for index, entry in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
        number = _try(_key_id, _get(entry, "key_id"))
        if number is not None and first.setdefault(number, index) != index:
            yield ("hmac", index, "key_id"), f"{number} is already the key_id of hmac[{first[number]}]"


class Config(Mapped):
    """A complete configuration; `sr_domain` has the prefixes whose SRHs are trusted."""

    title = "the top level"
    shape = "with the key services"

    client_ipv6_address: ClientAddress | None = Field(
        default=None,
        description="Source address in requests to the controller. Default: the address that the kernel "
        "selects for the destination.",
    )
    hawkeye: Hawkeye = Field(default=Hawkeye(), description="The HawkEye controller.")
    services: dict[str, Service] = Field(
        default={},
        description="Destinations by name, with their applications. A client needs at least one.",
        json_schema_extra={"propertyNames": {"pattern": r"\S"}},
    )
    sr_domain: tuple[Prefix, ...] = Field(
        default=(),
        max_length=MAX_PREFIXES,
        description=f"Prefixes with lengths, {MAX_PREFIXES} at most: only SRHs whose source and segments are "
        "inside are accepted. Default: any source, SIDs in fc00::/7 or 5f00::/16.",
    )

    csid: Annotated[tuple[CsidBlock, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        max_length=MAX_BLOCKS,
        description="Blocks of compressed SIDs (RFC 9800, NEXT-C-SID): one block, or a list. A client packs "
        "the SIDs of a block into containers. A server reverses the containers that it receives. Addresses "
        "outside the blocks are not treated as containers.",
    )
    hmac: Annotated[tuple[HmacKey, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        max_length=MAX_KEYS,
        description="Keys for the HMAC of SRHs (RFC 8754, section 2.1.2): one key, or a list. The first one "
        "signs, all of them verify. Default: SRHs are sent without an HMAC.",
    )
    labels: NodeLabels = Field(
        default={},
        description="Names of nodes by SID, shown by status, paths, explain, ping and trace. In a block of "
        "compressed SIDs, label each C-SID separately: write the block followed by one C-SID.",
    )

    probes: Probes | None = Field(
        default=None,
        description="Send probes along the paths of applications that have several, and back to this host. "
        "If a path is dead, its flows move to another path at once. They return after five probes in a row "
        "have returned. Routers must forward packets with this host's source address, and probes must "
        "return on an interface of the agent. An empty mapping is enough.",
    )
    stamp_port: Port | None = Field(
        default=None,
        description="UDP port where a server answers STAMP packets (RFC 8762) of clients with "
        "`probes: {stamp_port: ...}`; the standard port is 862. With an SR domain only sources inside get an "
        "answer. Default: none.",
    )

    decap: Decap | None = Field(
        default=None,
        description="SIDs with which a server removes the outer header of encapsulated packets whose source "
        "is in `sr_domain`, by the kernel's SRv6. Default: none.",
    )

    @classmethod
    def misplaced(cls, key: str, value: object) -> str | None:
        if isinstance(value, dict) and value.keys() & Service.model_fields.keys():
            return "is not a known key; services are indented below services"
        if re.match(r"x?[._]|x$", key):
            known = ", ".join(cls.model_fields)
            return f"is not a known key, use one of {known}; keys for anchors begin with x-"
        return None

    @classmethod
    def rules(cls, raw: Mapping[str, Any]) -> Rules:
        listed = _one_or_more(raw.get("csid"))
        blocks = [_try(_prefix, _get(item, "block")) for item in listed] if isinstance(listed, list) else []
        prefixes = (_try(_prefix, item) for item in _list(raw, "sr_domain"))
        domain = [prefix for prefix in prefixes if prefix is not None]
        for index, fault in csid_faults(blocks, domain):
            yield ("csid", index, "block"), fault
        if not _absent(raw, "decap"):
            sids = {key: _try(_sid, _get(raw["decap"], key)) for key in ("ipv6", "ipv4")}
            for key, fault in decap_faults(sids, domain, len(domain) < len(_list(raw, "sr_domain"))):
                yield ("decap", *key), fault
        yield from _key_ids_twice(_one_or_more(raw.get("hmac")))
        yield from label_faults(
            raw.get("labels"), [one for one in blocks if one is not None and one.prefixlen in BLOCK_LENGTHS]
        )
        taken: dict[tuple[object, int], str] = {}
        services = raw.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if not str(name).strip():
                yield ("services", name), "has an empty name"
            places: list[tuple[Place, object]] = [
                ((key, index), _try(parse, address))
                for key, parse in (("ipv6_addresses", _address), ("ipv4_addresses", _address4))
                for index, address in enumerate(_list(service, key))
            ]
            places.append((("domain_name",), _try(_name, _get(service, "domain_name"))))
            parsed = (_try(_port, _get(item, "port")) for item in _list(service, "applications"))
            ports = dict.fromkeys(port for port in parsed if port is not None)
            for place, target in places:
                for port in ports if target is not None else ():
                    other = taken.setdefault((target, port), name)
                    if other != name:
                        text = f"{target} with port {port} is already in the service {shown(other)}"
                        yield ("services", name, *place), text
