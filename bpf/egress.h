/* What leaves: the path is found, the SRH written, what doesn't fit cut or refused. */
#ifndef HAWKWING_EGRESS_H
#define HAWKWING_EGRESS_H

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
	__u64 length = p->srh_length, *words, *ready = (void *)p->srh;
	struct ipv6_header *ip6;
	struct srh_header *srh;
	int i;
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
	words = hop_by_hop ? NULL : packet_at(skb, at, HW_SRH_SHORT);
	if (words && length <= HW_SRH_SHORT) {
		/* A list of up to three SIDs costs less as words than the helper's call. */
#pragma unroll
		for (i = 0; i < HW_SRH_SHORT / 8; i++) {
			if (i * 8 < length)
				words[i] = ready[i];
		}
	} else if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) ||
		   bpf_skb_store_bytes(skb, at, p->srh, length, 0)) {
		return -1;
	}
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
	split = !skb->gso_size && !w->hop_by_hop &&
		(fragment_at ? fragment_at == l3 + IPV6_HEADER && w->protocol != NEXT_TCP :
			       w->protocol == NEXT_UDP && w->offset == l3 + IPV6_HEADER);
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
#ifdef HW_CLIENT
	struct settings *set = get_settings();
	struct service *service;
	__u64 hash = 0, *word;
	__u16 *ports;
#endif
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
	next = ip6->next_header;
	__builtin_memset(w, 0, sizeof(*w));
#ifdef HW_CLIENT
	ports = packet_at(skb, l3 + IPV6_HEADER, 4);
	if (set && ports && (next == NEXT_TCP || next == NEXT_UDP)) {
		hash = route_hash(ip6, ports[1], next, set->memory_seed);
		word = recall(hash);
		if (word && !((*word ^ hash) & ~SLOT_MASK)) {
			slot = *word & SLOT_MASK;
			w->protocol = next;
			w->offset = l3 + IPV6_HEADER;
			goto found;
		}
	}
	service = services.lookup((struct address *)ip6->destination);
	if (!service) {
		reason = HW_NO_SERVICE;
		goto left;
	}
	group = service->group;
#endif
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
#ifdef HW_CLIENT
	if (hash)
		remember(hash, slot);
found:
#endif
	p = policies.lookup(&slot);
	if (!p || !p->srh_length) {
		reason = HW_NO_PATH;
		goto left;
	}

	if (w->protocol == NEXT_TCP && !w->later_fragment && tcp_is_syn(skb, w->offset) &&
	    !bpf_check_mtu(skb, 0, &mtu, 0, 0) &&
	    tcp_clamp_mss(skb, w->offset, mtu - IPV6_HEADER - 20 - p->srh_length, &s->position))
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

#endif
