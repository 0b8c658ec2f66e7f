/*
 * HawkWing's data plane. Egress puts the SRH of a path on packets of known
 * destinations and ports (client) or of learned flows (server); ingress removes
 * an SRH that ends here, learns (server: paths, client: addresses from DNS) and
 * restores ICMPv6 errors. Whatever is not ours returns TC_ACT_UNSPEC, so that
 * other programs on the interface still run.
 *
 * Built with HW_CLIENT or HW_SERVER; one program per direction and kind of link
 * (`_ethernet`, or `_raw` for interfaces without a link-layer header).
 */
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include "types.h"
#include "reasons.h"

#define HW_REASON_ENUM(name, kind, text) HW_##name,
enum hw_reason { HW_REASONS(HW_REASON_ENUM) HW_REASON_COUNT };
enum hw_direction { HW_EGRESS, HW_INGRESS, HW_DIRECTIONS };

#include "lib/common.h"
#include "maps.h"
#include "lib/walk.h"
#include "lib/srh.h"
#include "lib/flows.h"
#include "lib/tcp.h"
#include "lib/icmp6.h"
#include "lib/split.h"
#include "lib/dns.h"

static __always_inline void count(__u32 direction, __u32 reason, __u32 bytes)
{
	__u32 key = direction * HW_REASON_COUNT + reason;
	struct tally *t = tallies.lookup(&key);

	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline void count_path(__u32 slot, __u32 bytes)
{
	struct tally *t = path_tallies.lookup(&slot);

	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline struct scratch *scratch_room(void)
{
	__u32 zero = 0;

	return scratches.lookup(&zero);
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return settings.lookup(&zero);
}

#ifdef HW_SERVER
/* Looks the flow up; `place` says whether and where it stands. */
static __always_inline void flow_find(const struct flow_key *key, __u64 hash, volatile struct flow_place *place)
{
	__u32 tag = flow_tag(hash), way;
	int home;

	place->found = 0;
	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(hash, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return;
		for (way = 0; way < HW_WAYS; way++) {
			if (bucket->words[way] >> 32 == tag && same_flow(&bucket->keys[way], key)) {
				place->bucket = index;
				place->way = way;
				place->found = 1;
				return;
			}
		}
	}
}

/* The bucket of a place, and its way within bounds. */
static __always_inline struct flow_bucket *flow_at(volatile struct flow_place *place, __u64 *way)
{
	__u32 index = place->bucket;

	*way = place->way & (HW_WAYS - 1);
	return flows.lookup(&index);
}

/* Chooses where a new flow goes: a free way, or that of an idle flow or of the largest source. */
static __always_inline void flow_choose(__u64 hash, const struct settings *set, volatile struct flow_place *place)
{
	__u8 epoch = set->epoch;
	__u32 way;
	int home;

	place->weight = 0;
	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(hash, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return;
		for (way = 0; way < HW_WAYS; way++) {
			__u32 source = HW_NO_SLOT, weight = 0xffffffff, *flows_of;

			if (bucket->words[way]) {
				source = source_index(bucket->keys[way].remote, set->hash_seed);
				flows_of = sources.lookup(&source);
				if (!flows_of)
					return;
				weight = *flows_of;
				if ((__u8)(epoch - bucket->epochs[way]) >= HW_IDLE_EPOCHS)
					weight = 0xfffffffe;
			}
			if (weight > place->weight) {
				place->bucket = index;
				place->way = way;
				place->weight = weight;
				place->source = source;
			}
		}
	}
}

/* Makes an entry for a flow that has none; false where no room can be made for its source. */
static __always_inline bool flow_add(const struct flow_key *key, __u64 hash, __u32 slot, const struct settings *set,
				     volatile struct flow_place *place)
{
	__u32 source = source_index(key->remote, set->hash_seed), *mine, *theirs;
	struct flow_bucket *bucket;
	__u64 way;

	mine = sources.lookup(&source);
	if (!mine)
		return false;
	flow_choose(hash, set, place);
	if (!place->weight || place->weight < *mine)
		return false;
	bucket = flow_at(place, &way);
	if (!bucket)
		return false;
	/* Readers on other CPUs find no flow here until the word stands again. */
	*(volatile __u64 *)&bucket->words[way] = 0;
	source = place->source;
	if (source != HW_NO_SLOT) {
		theirs = sources.lookup(&source);
		if (theirs)
			__sync_fetch_and_add(theirs, -1);
		count(HW_INGRESS, HW_FLOW_REPLACED, 0);
	}
	bucket->keys[way] = *key;
	bucket->epochs[way] = set->epoch;
	*(volatile __u64 *)&bucket->words[way] = (__u64)flow_tag(hash) << 32 | slot;
	__sync_fetch_and_add(mine, 1);
	return true;
}
#endif

/*
 * Which path, if any: its slot, or the reason why there is none. `ip6` points
 * into the packet and `w` has what follows it.
 */
static __always_inline int find_path(struct ipv6_header *ip6, __u32 group, struct scratch *s, __u32 *slot)
{
	struct walk *w = &s->walk;
	__u32 *found = NULL;
#ifdef HW_CLIENT
	struct route_key route = { .group = group, .port = w->destination_port, .protocol = w->protocol };
#endif
#ifdef HW_SERVER
	struct settings *set = get_settings();
	struct flow_bucket *bucket;
	struct flow_key flow = {};
	__u64 way;
#endif
	struct fragment_key fragment;

	if (w->fragment_at) {
		copy16(fragment.source, ip6->source);
		copy16(fragment.destination, ip6->destination);
		fragment.identification = w->identification;
		if (w->later_fragment) {
			found = fragments.lookup(&fragment);
			if (!found)
				return HW_LOST_FRAGMENT;
			*slot = *found;
			return HW_STEERED;
		}
	}
#ifdef HW_CLIENT
	found = routes.lookup(&route);
	if (!found)
		return HW_NO_APPLICATION;
#endif
#ifdef HW_SERVER
	copy16(flow.remote, ip6->destination);
	copy16(flow.local, ip6->source);
	flow.remote_port = w->destination_port;
	flow.local_port = w->source_port;
	flow.protocol = w->protocol;
	if (!set)
		return HW_NO_FLOW;
	flow_find(&flow, flow_hash(&flow, set->hash_seed), &s->place);
	bucket = flow_at(&s->place, &way);
	if (!s->place.found || !bucket)
		return HW_NO_FLOW;
	*slot = (__u32)bucket->words[way];
#else
	*slot = *found;
#endif
	if (w->fragment_at)
		fragments.update(&fragment, slot);
	return HW_STEERED;
}

/* in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X */
static __always_inline int insert_srh(struct __sk_buff *skb, __u32 l3, struct policy *p, __u64 hop_by_hop, __u64 flags)
{
	__u32 at = l3 + IPV6_HEADER, grown;
	__u64 length = p->srh_length;
	struct ipv6_header *ip6;
	struct srh_header *srh;
	struct scratch *s = NULL;
	__u8 next = 0;

	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) ||
	    bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_NET, flags))
		return -1;
	if (hop_by_hop) {
		/* The Hop-by-Hop header stays first; the SRH goes behind it. */
		s = scratch_room();
		if (!s || OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_load_bytes(skb, at + length, s->head, hop_by_hop))
			return -1;
		next = s->head[0];
		s->head[0] = NEXT_ROUTING;
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_store_bytes(skb, at, s->head, hop_by_hop, 0))
			return -1;
		at += hop_by_hop;
	}
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_store_bytes(skb, at, p->srh, length, 0))
		return -1;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return -1;
	if (!hop_by_hop) {
		next = ip6->next_header;
		ip6->next_header = NEXT_ROUTING;
	}
	grown = bpf_ntohs(ip6->payload_length) + length;
	/* 0 stands for a payload above 65,535 bytes (BIG TCP); then nothing is to be counted. */
	ip6->payload_length = ip6->payload_length ? bpf_htons(grown) : 0;
	if (hop_by_hop) {
		if (bpf_skb_store_bytes(skb, at, &next, 1, 0) ||
		    bpf_skb_load_bytes(skb, l3 + 24, s->head, 16) ||
		    bpf_skb_store_bytes(skb, at + HW_SRH_FIXED, s->head, 16, 0) ||
		    bpf_skb_store_bytes(skb, l3 + 24, p->first_segment, 16, 0))
			return -1;
		return 0;
	}
	srh = packet_at(skb, at, HW_SRH_FIXED + 16);
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!srh || !ip6)
		return -1;
	srh->next_header = next;
	copy16((void *)(srh + 1), ip6->destination);
	copy16(ip6->destination, p->first_segment);
	return 0;
}

/* Bytes of the largest packet this skb becomes on the wire, from the IPv6 header on. */
static __always_inline __u32 wire_length(struct __sk_buff *skb, __u32 l3, struct walk *w)
{
	__u8 offset;

	if (!skb->gso_size)
		return skb->len - l3;
	if (w->protocol == NEXT_TCP && !bpf_skb_load_bytes(skb, w->offset + 12, &offset, 1))
		return w->offset - l3 + (offset >> 4) * 4 + skb->gso_size;
	return w->offset - l3 + 8 + skb->gso_size;
}

/* Does not fit: in two fragments if it can be, else the sender is told. */
static __always_inline int too_big(struct __sk_buff *skb, __u32 l3, __u32 mtu, struct policy *p, struct walk *w,
				   __u32 slot, __u8 next)
{
	__u32 bytes = skb->len, fragment_at = w->fragment_at;
	struct scratch *s = scratch_room();
	bool split;

	if (!s || icmp6_quote(skb, l3, s))
		goto silent;
	split = w->protocol != NEXT_TCP && !skb->gso_size && !w->hop_by_hop &&
		(fragment_at == l3 + IPV6_HEADER || (!fragment_at && w->offset == l3 + IPV6_HEADER));
	if (split) {
		if (split_in_two(skb, l3, next, fragment_at, p, s) || bpf_clone_redirect(skb, skb->ifindex, 0))
			goto silent;
		count(HW_EGRESS, HW_SPLIT, bytes);
		count_path(slot, bytes);
		/* Later fragments follow from the stack in any case; they need no second word. */
		if (w->later_fragment)
			return TC_ACT_STOLEN;
	}
	if (icmp6_too_big(skb, l3, mtu - p->srh_length, split, s)) {
		if (split)
			return TC_ACT_SHOT;
		goto silent;
	}
	if (!split)
		count(HW_EGRESS, HW_TOO_BIG, bytes);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
silent:
	count(HW_EGRESS, HW_TOO_BIG_SILENT, bytes);
	return TC_ACT_SHOT;
}

static __always_inline int egress(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason, slot = HW_NO_SLOT, mtu = 0, group = 0;
	struct ipv6_header *ip6;
	struct scratch *s = scratch_room();
	struct walk *w;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	struct policy *p;
	__u8 next;

	if (!s)
		return TC_ACT_UNSPEC;
	w = &s->walk;
	if (skb->protocol != bpf_htons(ETH_P_IPV6)) {
		count(HW_EGRESS, HW_NOT_IPV6, bytes);
		return TC_ACT_UNSPEC;
	}
	ip6 = packet_pull(skb, l3, IPV6_HEADER);
	if (!ip6) {
		reason = HW_TRUNCATED;
		goto left;
	}
#ifdef HW_CLIENT
	{
		struct service *service = services.lookup((struct address *)ip6->destination);

		if (!service) {
			reason = HW_NO_SERVICE;
			goto left;
		}
		group = service->group;
	}
#endif
	next = ip6->next_header;
	__builtin_memset(w, 0, sizeof(*w));
	switch (walk(skb, l3 + IPV6_HEADER, next, w)) {
	case WALK_OK:
		break;
	case WALK_ROUTING:
		reason = HW_HAS_ROUTING_HEADER;
		goto left;
	case WALK_CHAIN:
		reason = HW_EXTENSION_CHAIN;
		goto left;
	default:
		reason = HW_TRUNCATED;
		goto left;
	}
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return TC_ACT_UNSPEC;
	reason = find_path(ip6, group, s, &slot);
	if (reason != HW_STEERED)
		goto left;
	p = policies.lookup(&slot);
	if (!p || !p->srh_length) {
		reason = HW_NO_PATH;
		goto left;
	}

	if (w->protocol == NEXT_TCP && !w->later_fragment && tcp_is_syn(skb, w->offset) &&
	    !bpf_check_mtu(skb, 0, &mtu, 0, 0) &&
	    tcp_clamp_mss(skb, w->offset, mtu - IPV6_HEADER - 20 - p->srh_length))
		count(HW_EGRESS, HW_MSS_CLAMPED, bytes);
	/* Every link carries 1280 bytes: most packets need no question about the MTU. */
	if (bytes - l3 + p->srh_length > IPV6_MIN_MTU) {
		__u32 length = wire_length(skb, l3, w) + p->srh_length;

		mtu = 0;
		bpf_check_mtu(skb, 0, &mtu, 0, 0);
		if (length > mtu) {
			/* TCP segmentation can be told to cut smaller pieces; all else is too big. */
			if (!skb->gso_size || w->protocol != NEXT_TCP)
				return too_big(skb, l3, mtu, p, w, slot, next);
			flags = 0;
		}
		if (bytes - l3 - IPV6_HEADER + p->srh_length > 0xffff &&
		    bytes - l3 - IPV6_HEADER <= 0xffff)
			return too_big(skb, l3, mtu, p, w, slot, next);
	}
	if (insert_srh(skb, l3, p, w->hop_by_hop, flags)) {
		count(HW_EGRESS, HW_NO_ROOM, bytes);
		return TC_ACT_SHOT;
	}
	count(HW_EGRESS, HW_STEERED, bytes);
	count_path(slot, bytes);
	return TC_ACT_UNSPEC;
left:
	count(HW_EGRESS, reason, bytes);
	return TC_ACT_UNSPEC;
}

/* Is the address inside the SR domain? Words are compared in wire order. */
static __always_inline bool trusted(const struct settings *set, const __u32 *a)
{
	int i;

	for (i = 0; i < HW_MAX_PREFIXES; i++) {
		const struct prefix *p = &set->sr_domain[i];

		if (i >= set->prefixes)
			break;
		if (!(((a[0] & p->mask[0]) ^ p->network[0]) | ((a[1] & p->mask[1]) ^ p->network[1]) |
		      ((a[2] & p->mask[2]) ^ p->network[2]) | ((a[3] & p->mask[3]) ^ p->network[3])))
			return true;
	}
	return false;
}

/* Source and every segment have to be inside the SR domain (RFC 8754, section 5.1). */
static __always_inline bool trusted_list(struct __sk_buff *skb, struct settings *set, __u32 l3, __u32 list,
					 __u32 last_entry)
{
	__u32 a[4];
	int i;

	if (bpf_skb_load_bytes(skb, l3 + 8, a, 16) || !trusted(set, a))
		return false;
	for (i = 0; i < 2 * HW_MAX_SEGMENTS; i++) {
		if (i > last_entry)
			return true;
		if (bpf_skb_load_bytes(skb, list + i * 16, a, 16) || !trusted(set, a))
			return false;
	}
	return false;
}

#ifdef HW_SERVER
/* The slot of the way back over the list that arrived; made where it is new. */
static __always_inline __u32 path_slot(struct __sk_buff *skb, __u32 list, __u32 last_entry, __u64 hash)
{
	__u32 *known = paths.lookup(&hash), slot;
	struct scratch *s;

	if (known)
		return *known;
	s = scratch_room();
	if (!s || srh_reverse(skb, list, last_entry, &s->policy))
		return HW_NO_SLOT;
	s->policy.list_hash = hash;
	if (free_slots.pop(&slot))
		return HW_NO_SLOT;
	policies.update(&slot, &s->policy);
	if (!paths.insert(&hash, &slot))
		return slot;
	/* Another CPU was faster with the same path, or there is no room. */
	free_slots.push(&slot, 0);
	known = paths.lookup(&hash);
	return known ? *known : HW_NO_SLOT;
}

/* Remembers the way back for this flow, which may be known with another one. */
static __always_inline void learn(struct __sk_buff *skb, const struct settings *set, struct flow_key *flow,
				  __u64 flow_hash, struct scratch *s, __u32 list, __u32 last_entry, __u64 list_hash)
{
	struct flow_bucket *bucket;
	__u32 slot;
	__u64 way;

	if (last_entry >= HW_MAX_SEGMENTS) {
		count(HW_INGRESS, HW_LIST_TOO_LONG, skb->len);
		return;
	}
	slot = path_slot(skb, list, last_entry, list_hash);
	if (slot == HW_NO_SLOT) {
		count(HW_INGRESS, HW_PATHS_FULL, skb->len);
		return;
	}
	if (s->place.found) {
		bucket = flow_at(&s->place, &way);
		if (bucket)
			bucket->words[way] = (__u64)flow_tag(flow_hash) << 32 | slot;
	} else if (!flow_add(flow, flow_hash, slot, set, &s->place)) {
		count(HW_INGRESS, HW_FLOWS_FULL, skb->len);
		return;
	}
	count(HW_INGRESS, HW_LEARNED, skb->len);
}
#endif

/*
 * in: IPv6(C, D) SRH(D, Sk .. S1; SL=0) X   out: IPv6(C, D) X
 * Returns what became of it; `removed` is set to the bytes taken out.
 */
static __always_inline int strip_srh(struct __sk_buff *skb, __u32 l3, __u64 hop_by_hop, __u32 *removed)
{
	__u32 at = l3 + IPV6_HEADER + hop_by_hop, length, last_entry, list = at + HW_SRH_FIXED;
	struct settings *set = get_settings();
	struct ipv6_header *ip6;
	struct srh_header *srh;
	struct address *segment;
	struct scratch *s = scratch_room();
	__u16 payload, field;
	__u8 next;
#ifdef HW_SERVER
	struct flow_bucket *bucket;
	struct flow_key flow = {};
	__u64 hash = 0, flows_hash = 0, way;
	struct walk *w;
	bool learnable = false;
#endif

	srh = packet_pull(skb, at, HW_SRH_FIXED);
	if (!srh || !set || !s)
		return HW_TRUNCATED;
	if (srh->type != 4)
		return HW_ROUTING_TYPE;
	if (srh->segments_left)
		return HW_SEGMENTS_LEFT;
	length = (srh->ext_length + 1) * 8;
	last_entry = srh->last_entry;
	next = srh->next_header;
	if ((last_entry + 1) * 16 + HW_SRH_FIXED > length || at + length > skb->len)
		return HW_SRH_MALFORMED;
	segment = packet_pull(skb, list, 16 * HW_MAX_SEGMENTS < length ? 16 * HW_MAX_SEGMENTS : length - HW_SRH_FIXED);
	segment = packet_at(skb, list, 16);
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!segment || !ip6)
		return HW_TRUNCATED;
	payload = bpf_ntohs(ip6->payload_length);
	if (payload && payload < hop_by_hop + length)
		return HW_SRH_MALFORMED;
	if (!same16(segment, ip6->destination))
		return HW_SRH_MALFORMED;
	if (!local_addresses.lookup((struct address *)ip6->destination))
		return HW_NOT_LOCAL;

#ifdef HW_SERVER
	w = &s->walk;
	__builtin_memset(w, 0, sizeof(*w));
	if (walk(skb, at + length, next, w) == WALK_OK && w->source_port && !w->later_fragment)
		learnable = last_entry > 0;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_TRUNCATED;
	if (learnable) {
		copy16(flow.remote, ip6->source);
		copy16(flow.local, ip6->destination);
		flow.remote_port = w->source_port;
		flow.local_port = w->destination_port;
		flow.protocol = w->protocol;
		hash = srh_hash(skb, list, last_entry, set->hash_seed);
		flows_hash = flow_hash(&flow, set->hash_seed);
		flow_find(&flow, flows_hash, &s->place);
		bucket = flow_at(&s->place, &way);
		if (s->place.found && bucket) {
			__u32 slot = (__u32)bucket->words[way];
			struct policy *p = policies.lookup(&slot);

			if (bucket->epochs[way] != (__u8)set->epoch)
				bucket->epochs[way] = set->epoch;
			/* Nothing has changed since this flow was found trustworthy. */
			if (p && p->list_hash == hash)
				goto strip;
		}
	}
#endif
	if (set->prefixes && !trusted_list(skb, set, l3, list, last_entry))
		return HW_UNTRUSTED;
#ifdef HW_SERVER
	if (learnable)
		learn(skb, set, &flow, flows_hash, s, list, last_entry, hash);
	else if (!w->later_fragment)
		count(HW_INGRESS, HW_NOTHING_TO_LEARN, skb->len);
strip:
#endif
	if (hop_by_hop) {
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_load_bytes(skb, l3 + IPV6_HEADER, s->head, hop_by_hop))
			return HW_TRUNCATED;
		s->head[0] = next;
	}
	if (bpf_skb_adjust_room(skb, -(__s32)length, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO))
		return HW_TRUNCATED;
	*removed = length;
	if (hop_by_hop) {
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_store_bytes(skb, l3 + IPV6_HEADER, s->head, hop_by_hop, BPF_F_RECOMPUTE_CSUM))
			return HW_NO_ROOM;
	}
	/* payload length, next header and hop limit are one word: written with the sum kept right. */
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_NO_ROOM;
	{
		__u8 word[4];

		field = payload ? bpf_htons(payload - length) : 0;
		__builtin_memcpy(word, &field, 2);
		word[2] = hop_by_hop ? NEXT_HOP_BY_HOP : next;
		word[3] = ip6->hop_limit;
		if (bpf_skb_store_bytes(skb, l3 + 4, word, 4, BPF_F_RECOMPUTE_CSUM))
			return HW_NO_ROOM;
	}
	return HW_STRIPPED;
}

#ifdef HW_CLIENT
/* A DNS answer of `length` bytes at `offset`: its addresses belong to the service asked for. */
static __always_inline void learn_names(struct __sk_buff *skb, __u32 offset, __u64 length)
{
	struct settings *set = get_settings();
	struct scratch *s = scratch_room();
	__u32 i, ttl = 0;
	__u32 *group;
	__u64 hash;
	__u8 *m;

	if (!s || !set)
		return;
	if (length > HW_MAX_DNS)
		length = HW_MAX_DNS;
	if (OUTSIDE(length, DNS_HEADER, HW_MAX_DNS) || bpf_skb_load_bytes(skb, offset, s->dns, length))
		return;
	m = s->dns;
	hash = dns_question(m, length, set->hash_seed, &s->position);
	if (!hash)
		return;
	group = names.lookup(&hash);
	if (!group)
		return;
	for (i = 0; i < HW_MAX_ANSWERS; i++) {
		struct service service = { .group = *group, .origin = 2 };
		struct learned_name name = {};
		struct address a;
		int at;

		if (i >= dns_u16(m, 6))
			return;
		at = dns_record(m, length, &s->position, &ttl);
		if (at < 0)
			return;
		if (!at)
			continue;
		at &= 0x7ff;
		__builtin_memcpy(&a, m + at, 16);
		/* What the agent has set stays; the agent hears of it either way. */
		services.insert(&a, &service);
		copy16(name.address, &a);
		name.group = *group;
		name.ttl = ttl;
		learned_names.ringbuf_output(&name, sizeof(name), 0);
		count(HW_INGRESS, HW_NAME_LEARNED, skb->len);
	}
}

static __always_inline void look_for_names(struct __sk_buff *skb, __u32 udp)
{
	__u16 ports[3];

	if (bpf_skb_load_bytes(skb, udp, ports, 6) || ports[0] != bpf_htons(DNS_PORT))
		return;
	learn_names(skb, udp + 8, bpf_ntohs(ports[2]) - 8);
}

/* The peer's SYN says how much it takes; what we send has to carry the SRH besides. */
static __always_inline __u32 overhead_towards(struct ipv6_header *ip6, __u16 port)
{
	struct service *service = services.lookup((struct address *)ip6->source);
	struct route_key route = { .port = port, .protocol = NEXT_TCP };
	struct policy *p;
	__u32 *slot;

	if (!service)
		return 0;
	route.group = service->group;
	slot = routes.lookup(&route);
	if (!slot)
		return 0;
	p = policies.lookup(slot);
	return p ? p->srh_length : 0;
}
#endif

static __always_inline void clamp_incoming(struct __sk_buff *skb, __u32 tcp, __u32 overhead)
{
	__u32 mtu = 0;

	if (overhead && !bpf_check_mtu(skb, 0, &mtu, 0, 0) && mtu > IPV6_HEADER + 20 + overhead &&
	    tcp_clamp_mss(skb, tcp, mtu - IPV6_HEADER - 20 - overhead))
		count(HW_INGRESS, HW_MSS_CLAMPED, skb->len);
}

static __always_inline int ingress(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason = HW_NO_ROUTING_HEADER, removed = 0, hop_by_hop = 0, at = l3 + IPV6_HEADER;
	struct ipv6_header *ip6;
	struct scratch *s;
	__u8 next, *header;

	if (skb->protocol != bpf_htons(ETH_P_IPV6)) {
#ifdef HW_CLIENT
		if (skb->protocol == bpf_htons(ETH_P_IP)) {
			header = packet_pull(skb, l3, 20);
			if (header && header[9] == NEXT_UDP && !(header[6] & 0x3f) && !header[7])
				look_for_names(skb, l3 + (header[0] & 0x0f) * 4);
		}
#endif
		count(HW_INGRESS, HW_NOT_IPV6, bytes);
		return TC_ACT_UNSPEC;
	}
	ip6 = packet_pull(skb, l3, IPV6_HEADER);
	if (!ip6) {
		count(HW_INGRESS, HW_TRUNCATED, bytes);
		return TC_ACT_UNSPEC;
	}
	next = ip6->next_header;
	if (next == NEXT_HOP_BY_HOP) {
		header = packet_pull(skb, at, 8);
		if (header && header[0] == NEXT_ROUTING) {
			hop_by_hop = (header[1] + 1) * 8;
			next = NEXT_ROUTING;
			if (hop_by_hop > HW_MAX_HOP_BY_HOP) {
				count(HW_INGRESS, HW_EXTENSION_CHAIN, bytes);
				return TC_ACT_UNSPEC;
			}
		}
	}
	if (next == NEXT_ROUTING) {
		reason = strip_srh(skb, l3, hop_by_hop, &removed);
		if (reason != HW_STRIPPED) {
			count(HW_INGRESS, reason, bytes);
			return reason == HW_NO_ROOM ? TC_ACT_SHOT : TC_ACT_UNSPEC;
		}
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return TC_ACT_UNSPEC;
		next = ip6->next_header;
	}
	count(HW_INGRESS, reason, bytes);

	if (next == NEXT_TCP) {
		if (tcp_is_syn(skb, at)) {
#ifdef HW_CLIENT
			__u16 *port = packet_at(skb, at, 2);
			__u32 overhead = 0;

			ip6 = packet_at(skb, l3, IPV6_HEADER);
			if (port && ip6)
				overhead = overhead_towards(ip6, *port);
			if (removed > overhead)
				overhead = removed;
			clamp_incoming(skb, at, overhead);
#else
			clamp_incoming(skb, at, removed);
#endif
		}
	} else if (next == NEXT_ICMPV6) {
		s = scratch_room();
		if (s) {
			int restored = icmp6_restore(skb, l3, s);

			if (restored > 0)
				count(HW_INGRESS, HW_ERROR_RESTORED, bytes);
			if (restored < 0) {
				count(HW_INGRESS, HW_NO_ROOM, bytes);
				return TC_ACT_SHOT;
			}
		}
	}
#ifdef HW_CLIENT
	else if (next == NEXT_UDP)
		look_for_names(skb, at);
#endif
	return TC_ACT_UNSPEC;
}

int egress_ethernet(struct __sk_buff *skb)
{
	return egress(skb, ETH_HLEN);
}

int ingress_ethernet(struct __sk_buff *skb)
{
	return ingress(skb, ETH_HLEN);
}

#ifdef HW_RAW_LINKS
int egress_raw(struct __sk_buff *skb)
{
	return egress(skb, 0);
}

int ingress_raw(struct __sk_buff *skb)
{
	return ingress(skb, 0);
}
#endif
