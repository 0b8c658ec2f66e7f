"""Changes by name: each breaks one thing that HawkWing must do, and says which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_UNIT, _DATAPLANE, _LAB = "tests/unit/", "tests/dataplane/", "tests/integration/"


@dataclass(frozen=True)
class Edit:
    """In `file`, the one place that reads `old` becomes `new`; one of `tests` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """The whole file with the change; ValueError where the text is not there just once."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has the text to be changed {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)

    @property
    def alone(self) -> bool:
        """Do its tests need a lab? Those are not run beside each other."""
        return any(test.startswith(_LAB) for test in self.tests)


def _learning(name: str, old: str, new: str, test: str) -> Edit:
    return Edit(name, "hawkwing/dataplane/flows.py", old, new, (f"{_DATAPLANE}test_learning.py::{test}",))


def _egress(name: str, old: str, new: str, *tests: str) -> Edit:
    return Edit(
        name, "bpf/egress.h", old, new, tuple(_DATAPLANE + test for test in tests or ("test_mtu.py",))
    )


def _decision(name: str, old: str, new: str, test: str) -> Edit:
    return Edit(name, "bpf/decide.h", old, new, (_DATAPLANE + test,))


def _ingress(name: str, old: str, new: str, *tests: str) -> Edit:
    return Edit(name, "bpf/ingress.h", old, new, tuple(_DATAPLANE + test for test in tests))


#: In Python, whose changes one after the other are no such sentences.
_OF_THE_AGENT = (
    _learning(
        "a slot that a flow has is given back",
        "for slot in self._leaving - used:",
        "for slot in set(self._leaving):",
        "test_a_slot_that_a_flow_has_is_not_given_back",
    ),
    _learning(
        "a path that a flow has is made unknown",
        "if slot not in used:",
        "if slot:",
        "test_learned_paths_of_flows_stay_and_others_go",
    ),
    _learning(
        "slots of learned paths are never given back",
        "            self.give_back(slot)\n            yield 1",
        "            yield 1",
        "test_learned_paths_of_flows_stay_and_others_go",
    ),
    Edit(
        "learned paths are never swept",
        "hawkwing/dataplane/plane.py",
        "return iter(()) if self.flows is None else self.sweeper.sweeping()",
        "return iter(())",
        (_DATAPLANE + "test_learning.py::test_learned_paths_of_flows_stay_and_others_go",),
    ),
    Edit(
        "a server's agent never sweeps",
        "hawkwing/agent.py",
        "            await in_turns(self._plane.sweeping())\n",
        "",
        (_DATAPLANE + "test_learning.py::test_an_agent_lets_paths_go_by_itself",),
    ),
    Edit(
        "slots of old lists are never freed",
        "hawkwing/policies.py",
        "            self._released.append((self._now(), self._slots.pop(sids)))",
        "            self._slots.pop(sids)",
        (_UNIT + "test_policies.py",),
    ),
    Edit(
        "a slot is used again at once",
        "hawkwing/policies.py",
        "_GRACE = 1.0",
        "_GRACE = 0.0",
        (_UNIT + "test_policies.py",),
    ),
    Edit(
        "reload ignores sr_domain",
        "hawkwing/agent.py",
        "            self._plane.set_sr_domain(domain)\n",
        "            pass\n",
        (_DATAPLANE + "test_reload.py::test_a_reload_changes_the_sr_domain",),
    ),
    Edit(
        "reload accepts unreadable TLS files",
        "hawkwing/pem.py",
        "    if tls is None:\n        return\n",
        "    if tls is None or tls:\n        return\n",
        (_DATAPLANE + "test_reload.py::test_a_reload_with_unreadable_tls_files_is_refused",),
    ),
    Edit(
        "no grace after a DNS TTL",
        "hawkwing/steering.py",
        "min(ttl, LONGEST_TTL) + GRACE",
        "min(ttl, LONGEST_TTL)",
        (_DATAPLANE + "test_steering.py",),
    ),
    Edit(
        "the longest TTL of a CNAME chain",
        "hawkwing/resolver.py",
        "ttl = min((rrset.ttl",
        "ttl = max((rrset.ttl",
        (_UNIT + "test_resolver.py",),
    ),
    Edit(
        "a TTL of 83 hours is waited for",
        "hawkwing/resolver.py",
        "_SHORTEST, _LONGEST = 1.0, 300.0",
        "_SHORTEST, _LONGEST = 1.0, 300_000.0",
        (_UNIT + "test_resolver.py",),
    ),
    Edit(
        "an address from DNS is good for 83 hours",
        "hawkwing/steering.py",
        "min(ttl, LONGEST_TTL) + GRACE",
        "min(ttl, 300_000.0) + GRACE",
        (_DATAPLANE + "test_steering.py",),
    ),
    Edit(
        "/etc/hosts is ignored",
        "hawkwing/resolver.py",
        "    if listed:\n",
        "    if not listed and listed:\n",
        (_UNIT + "test_resolver.py",),
    ),
    Edit(
        "stale hand-over state is used",
        "hawkwing/handover.py",
        "    if left and not attach.left_behind(role, interface):\n",
        "    if left and not left:\n",
        (_DATAPLANE + "test_tc.py::test_state_counts_only_while_the_filters_are_there",),
    ),
    Edit(
        "gRPC keepalive of 10 s",
        "hawkwing/controller/channel.py",
        '("grpc.keepalive_time_ms", 330_000)',
        '("grpc.keepalive_time_ms", 10_000)',
        (_UNIT + "test_channel.py",),
    ),
    Edit(
        "http_proxy is followed",
        "hawkwing/controller/channel.py",
        '("grpc.enable_http_proxy", 0)',
        '("grpc.enable_http_proxy", 1)',
        (_UNIT + "test_channel.py",),
    ),
    Edit(
        "a hold is never doubled",
        "hawkwing/controller/questions.py",
        "min(culprit.hold * 2 or HOLD_FIRST, most)",
        "min(culprit.hold or HOLD_FIRST, most)",
        (_UNIT + "test_questions.py",),
    ),
    Edit(
        "the back-off is never reset",
        "hawkwing/controller/backoff.py",
        "        self._delay = self._first\n",
        "        pass\n",
        (_UNIT + "test_controller.py",),
    ),
    Edit(
        "somebody's XDP program is removed",
        "hawkwing/dataplane/attach.py",
        "if number and self._may_drop_xdp(number, by_name):",
        "if number:",
        (_DATAPLANE + "test_tc.py::test_the_xdp_program_of_somebody_stays",),
    ),
    Edit(
        "the roles' priorities swapped on ingress",
        "hawkwing/dataplane/attach.py",
        '    ("server", INGRESS): _FIRST,\n    ("client", INGRESS): _LAST,\n',
        '    ("server", INGRESS): _LAST,\n    ("client", INGRESS): _FIRST,\n',
        (_DATAPLANE + "test_tc.py::test_the_roles_keep_their_order",),
    ),
    Edit(
        "the control socket is for everybody",
        "hawkwing/control.py",
        "self._path.chmod(0o600)",
        "self._path.chmod(0o666)",
        (_UNIT + "test_control.py",),
    ),
    Edit(
        "any address counts as global",
        "hawkwing/addresses.py",
        "is_global = int(scope, 16) == _GLOBAL_SCOPE",
        "is_global = bool(scope)",
        (_UNIT + "test_addresses.py",),
    ),
    Edit(
        "any source address is told to the controller",
        "hawkwing/addresses.py",
        "    return None if source.is_link_local or source.is_loopback or source.is_unspecified else source",
        "    return source",
        (_UNIT + "test_addresses.py",),
    ),
    Edit(
        "address changes aren't followed",
        "hawkwing/agent.py",
        "            stack.callback(addresses.watch(self._addresses_changed))\n",
        "",
        (_LAB + "test_sources.py",),
    ),
    Edit(
        "clsact is removed with others' filters in it",
        "hawkwing/dataplane/attach.py",
        "if marker.exists() and not left:",
        "if marker.exists():",
        (_DATAPLANE + "test_tc.py::test_letting_go_leaves_what_others_have",),
    ),
    Edit(
        "the cache is never pruned",
        "hawkwing/dataplane/bytecode.py",
        "files[:-_MOST_CACHED]",
        "files[:0]",
        (_UNIT + "test_bytecode.py::test_the_cache_keeps_the_latest_few",),
    ),
)

#: In C. Each is compiled, which takes its time: few, and each of another kind.
_OF_THE_DATA_PLANE = (
    _decision(
        "TCP segmentation keeps its size though the packet is too big",
        "\td->resize = 1;\n",
        "",
        "test_mtu.py::test_a_bundle_of_segments_is_cut_so_that_all_fit",
    ),
    _egress(
        "the fast path asks for the MTU above 1500 only",
        "if (grown > IPV6_MIN_MTU) {",
        "if (grown > 1500) {",
        "test_mtu.py::test_nobody_can_be_told_less_than_1280",
    ),
    _decision(
        "the slow path asks for the MTU above 1500 only",
        "if (bytes - l3 + p->srh_length <= IPV6_MIN_MTU)",
        "if (bytes - l3 + p->srh_length <= 1500)",
        "test_mtu.py::test_nobody_can_be_told_less_than_1280",
    ),
    _egress(
        "the fast path takes more than 65,535 bytes",
        " || grown > IPV6_HEADER + 0xffff))",
        "))",
        "test_mtu.py::test_a_bundle_longer_than_65535_bytes_gets_no_srh",
    ),
    _decision(
        "the slow path takes more than 65,535 bytes",
        "if (bytes - l3 - IPV6_HEADER + p->srh_length > 0xffff &&",
        "if (!bytes &&",
        "test_mtu.py::test_a_bundle_longer_than_65535_bytes_gets_no_srh",
    ),
    _egress(
        "the fragments of a datagram are steered once more",
        "\t*(volatile __u32 *)&s->cloning = 1;\n",
        "\t*(volatile __u32 *)&s->cloning = 0;\n",
        "test_mtu.py::test_udp_leaves_in_two_fragments",
    ),
    _egress(
        "after two fragments nothing is steered any more",
        "\t*(volatile __u32 *)&s->cloning = 0;\n",
        "",
        "test_mtu.py::test_udp_leaves_in_two_fragments",
    ),
    _decision(
        "what the host forwards is steered",
        "\tif (!is_local(set, ip6->source))\n\t\treturn PASS;\n",
        "",
        "test_egress.py::test_what_the_host_forwards_is_left_alone",
    ),
    _decision(
        "a small link inside the path is forgotten",
        "\tif (p->path_mtu && p->path_mtu < mtu)\n\t\tmtu = p->path_mtu;\n",
        "",
        "test_errors.py::test_a_path_that_carries_less_than_1280_and_the_srh",
    ),
    _egress(
        "a packet for another next hop leaves as it is",
        "\treturn redirect_neigh(link, NULL, 0, 0);",
        "\treturn TC_ACT_UNSPEC;",
        "test_next_hop.py::test_another_next_hop_is_the_kernels_to_find",
    ),
    _ingress(
        "an SRH for another host is removed",
        "\tif (!is_local(set, ip6->destination))\n\t\treturn HW_NOT_LOCAL;\n",
        "",
        "test_ingress.py::test_not_an_address_of_this_host",
    ),
    _ingress(
        "an SRH with segments left is removed",
        "\tif (srh->segments_left)\n\t\treturn HW_SEGMENTS_LEFT;\n",
        "",
        "test_ingress.py::test_segments_left",
    ),
    _ingress(
        "frames for other hosts are read",
        "if (unlikely(skb->pkt_type == PACKET_OTHERHOST) && !is_shared()) {",
        "if (unlikely(skb->pkt_type == PACKET_OTHERHOST) && !skb->len) {",
        "test_ingress.py::test_frames_for_another_host",
    ),
    Edit(
        "the source of an SRH may be outside the SR domain",
        "bpf/trust.h",
        "\tif (!set->sids_only && !trusted_slowly(set, source))\n\t\treturn false;\n",
        "",
        (_DATAPLANE + "test_ingress.py::test_a_source_outside_the_domain",),
    ),
    Edit(
        "DNS answers teach that nobody asked for",
        "bpf/names.h",
        "if (!group || !was_asked(&s->question, group))",
        "if (!group)",
        (_DATAPLANE + "test_dns.py::test_an_answer_that_nobody_asked_for",),
    ),
    Edit(
        "a changed path is not used while the old one is cached",
        "bpf/learn.h",
        "\t\tinvalidate_flow_cache();\n\t} else if (!flow_add(",
        "\t} else if (!flow_add(",
        (_DATAPLANE + "test_flow_cache.py",),
    ),
    Edit(
        "a slot that is given back is never used again",
        "bpf/sweep.h",
        "\tfree_slots.push(&slot, 0);\n",
        "",
        (_DATAPLANE + "test_learning.py::test_learned_paths_of_flows_stay_and_others_go",),
    ),
    Edit(
        "errors about packets of others are restored",
        "bpf/lib/icmp6.h",
        "behind + length, srh->next_header, &slot))\n\t\treturn 0;",
        "behind + length, srh->next_header, &slot) && !length)\n\t\treturn 0;",
        (_DATAPLANE + "test_errors.py::test_about_nobodys_packet",),
    ),
    Edit(
        "a SYN announces as much as without an SRH",
        "bpf/lib/tcp.h",
        "\tif (bpf_ntohs(old) <= limit)",
        "\tif (bpf_ntohs(old) <= limit || limit)",
        (_DATAPLANE + "test_mss.py::test_clamped_on_egress",),
    ),
    Edit(
        "another flow label changes no path",
        "bpf/select.h",
        "(bpf_ntohl(first_word) & FLOW_LABEL)",
        "(bpf_ntohl(first_word) & 0)",
        (_DATAPLANE + "test_select.py::test_a_flow_keeps_its_path_and_another_label_can_have_another",),
    ),
    Edit(
        "the MSS leaves room for the present path only",
        "bpf/decide.h",
        "\t\tlength = longest_srh(d->route);",
        "\t\tlength = p->srh_length;",
        (_DATAPLANE + "test_select.py::test_the_mss_leaves_room_for_the_longest",),
    ),
    Edit(
        "a path without answers is used all the same",
        "bpf/select.h",
        "\treturn is_dead(slot, prober, now);",
        "\treturn is_dead(slot, prober, now) && !prober;",
        (_DATAPLANE + "test_health.py::test_a_silent_path_is_left_for_one_of_its_preference",),
    ),
    Edit(
        "a prober that has stopped makes all paths dead",
        "bpf/select.h",
        "\tif (now > prober->beat && now - prober->beat > prober->silence)\n\t\treturn false;\n",
        "",
        (_DATAPLANE + "test_health.py::test_a_prober_that_has_stopped_makes_nothing_dead",),
    ),
    Edit(
        "a probe that was kept proves that its path is alive",
        "bpf/health.h",
        "!h || probe->sent <= h->sent",
        "!h",
        (_DATAPLANE + "test_health.py::test_one_that_was_sent_before_the_last_proves_nothing",),
    ),
    Edit(
        "anybody's probe counts",
        "bpf/health.h",
        "prober->silence && probe->key == prober->key",
        "prober->silence",
        (_DATAPLANE + "test_health.py::test_what_is_none_of_ours_is_treated_as_ever",),
    ),
    Edit(
        "the time in a STAMP reflector counts",
        "bpf/health.h",
        "kept < taken ? taken - kept : taken",
        "kept < taken ? taken : taken",
        (_DATAPLANE + "test_health.py::test_the_reflectors_time_does_not_count",),
    ),
    Edit(
        "two STAMP reflectors answer each other for ever",
        "hawkwing/reflector.py",
        "if sender[1] in (self.port, stamp.PORT):",
        "if sender[1] in ():",
        (_UNIT + "test_stamp.py::test_reflectors_do_not_answer_each_other",),
    ),
    Edit(
        "one probe is enough for a path to return",
        "bpf/types.h",
        "#define HW_GOOD_PROBES 5",
        "#define HW_GOOD_PROBES 1",
        (_DATAPLANE + "test_health.py::test_a_path_returns_after_five_probes_in_a_row",),
    ),
    Edit(
        "the probe of a path whose turn it is is sent twice",
        "bpf/send_probes.h",
        "index % request.every == request.turn",
        "index % request.every == request.every",
        (_DATAPLANE + "test_send_probes.py::test_those_whose_turn_it_is_are_left_out",),
    ),
    Edit(
        "a packet for encapsulation is split",
        "bpf/decide.h",
        "if (!p->encapsulates && !skb->gso_size",
        "if (!skb->gso_size",
        (_DATAPLANE + "test_encap.py::test_the_sender_of_ipv6_is_told",),
    ),
    Edit(
        "forwarded IPv4 is encapsulated",
        "bpf/ipv4.h",
        "	if (!is_local(set, key->source))\n		return PASS;",
        "	if (!set)\n		return PASS;",
        (_DATAPLANE + "test_encap.py::test_insertion_is_as_before",),
    ),
    Edit(
        "the outer header has a hop limit of its own",
        "bpf/insert.h",
        "		ip6->hop_limit = hop_limit;\n",
        "",
        (_DATAPLANE + "test_encap.py::test_every_byte_with_one_to_fourteen_sids",),
    ),
    Edit(
        "senders of IPv4 are told the MTU of the outer packet",
        "bpf/restore.h",
        "		mtu -= length;\n",
        "",
        (_DATAPLANE + "test_encap.py::test_errors_of_routers_about_ipv4",),
    ),
)

EDITS: tuple[Edit, ...] = (*_OF_THE_AGENT, *_OF_THE_DATA_PLANE)
