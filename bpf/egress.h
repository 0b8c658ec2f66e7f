/* What leaves: the path is found, the SRH written, what doesn't fit cut or refused. */
#ifndef HAWKWING_EGRESS_H
#define HAWKWING_EGRESS_H

#ifdef HW_SERVER
/* The slot of the flow that a packet with these ports (wire order) belongs to, or HW_NO_SLOT. */
static __always_inline __u32 known_slot(struct ipv6_header *ip6, __u16 source_port, __u16 destination_port,
					__u8 protocol)
{
	__u32 ports = flow_ports(destination_port, source_port), slot;
	struct cached_flow *r = flow_cache_at(ip6->destination, ports);
	struct settings *set;
	__u64 word, valid;
	struct flow_id id;

	if (likely(r) &&
	    likely(!(cached_flow_difference(r, ip6->destination, ip6->source, ports) | (r->protocol ^ protocol))))
		return r->slot;
	set = get_settings();
	if (!set)
		return HW_NO_SLOT;
	id = flow_identify(set, ip6->destination, ip6->source, ports, protocol);
	valid = flow_cache_version();
	word = flow_known(&id);
	if (!word)
		return HW_NO_SLOT;
	slot = word & HW_SLOT_MASK;
	cache_flow(ip6->destination, ip6->source, ports, protocol, slot, valid);
	return slot;
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
	struct fragment_key *fragment = &s->fragment;

	if (w->fragment_at) {
		copy16(fragment->source, ip6->source);
		copy16(fragment->destination, ip6->destination);
		fragment->identification = w->identification;
		if (w->later_fragment) {
			found = fragments.lookup(fragment);
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
	*slot = known_slot(ip6, w->source_port, w->destination_port, w->protocol);
	if (*slot == HW_NO_SLOT)
		return HW_NO_FLOW;
#else
	*slot = *found;
#endif
	if (w->fragment_at)
		fragments.update(fragment, slot);
	return HW_STEERED;
}

/* 0 stands for a payload above 65,535 bytes (BIG TCP); then nothing is to be counted. */
static __always_inline void add_payload(struct ipv6_header *ip6, __u32 length)
{
	if (ip6->payload_length)
		ip6->payload_length = bpf_htons(bpf_ntohs(ip6->payload_length) + length);
}

/*
 * in: IPv6(A, B) room X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X
 * Of up to three SIDs, and all of it within reach: single words cost less than the helper's call.
 */
static __always_inline bool write_short_srh(struct __sk_buff *skb, __u32 l3, struct policy *p, __u32 length)
{
	struct ipv6_header *ip6 = packet_at(skb, l3, IPV6_HEADER + HW_SRH_SHORT);
	__u64 *words = (void *)(ip6 + 1), *ready = (void *)p->srh, *destination = (void *)ip6->destination;
	__u64 *first_segment = (void *)p->first_segment;

	if (unlikely(!ip6 || length > HW_SRH_SHORT))
		return false;
	words[0] = ready[0];
	*(__u8 *)words = ip6->next_header;
	words[1] = destination[0];
	words[2] = destination[1];
	words[3] = ready[3];
	words[4] = ready[4];
	if (length > HW_SRH_FIXED + 2 * 16) {
		words[5] = ready[5];
		words[6] = ready[6];
	}
	if (length > HW_SRH_FIXED + 3 * 16) {
		words[7] = ready[7];
		words[8] = ready[8];
	}
	destination[0] = first_segment[0];
	destination[1] = first_segment[1];
	ip6->next_header = NEXT_ROUTING;
	add_payload(ip6, length);
	return true;
}

/* The same of any length; 0, or -1 where a write failed. */
static __always_inline int write_srh(struct __sk_buff *skb, __u32 l3, struct policy *p, __u64 length)
{
	__u32 at = l3 + IPV6_HEADER;
	struct ipv6_header *ip6;
	struct srh_header *srh;

	if (likely(write_short_srh(skb, l3, p, length)))
		return 0;
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_store_bytes(skb, at, p->srh, length, 0))
		return -1;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	srh = packet_at(skb, at, HW_SRH_FIXED + 16);
	if (!ip6 || !srh)
		return -1;
	srh->next_header = ip6->next_header;
	copy16(srh + 1, ip6->destination);
	copy16(ip6->destination, p->first_segment);
	ip6->next_header = NEXT_ROUTING;
	add_payload(ip6, length);
	return 0;
}

/*
 * in: IPv6(A, B) room Hop-by-Hop X   out: IPv6(A, S1) Hop-by-Hop SRH(B, Sk .. S1; SL=k) X
 * The Hop-by-Hop header stays first (RFC 8200, section 4.1). 0, or -1 where a write failed.
 */
static __always_inline int write_srh_behind_options(struct __sk_buff *skb, __u32 l3, struct policy *p,
						    __u64 length, __u64 options)
{
	__u32 at = l3 + IPV6_HEADER;
	struct scratch *s = scratch_room();
	struct ipv6_header *ip6;
	__u8 next;

	if (!s || OUTSIDE(options, 8, HW_MAX_HOP_BY_HOP) || bpf_skb_load_bytes(skb, at + length, s->head, options))
		return -1;
	next = s->head[0];
	s->head[0] = NEXT_ROUTING;
	if (OUTSIDE(options, 8, HW_MAX_HOP_BY_HOP) || bpf_skb_store_bytes(skb, at, s->head, options, 0))
		return -1;
	at += options;
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_store_bytes(skb, at, p->srh, length, 0))
		return -1;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return -1;
	add_payload(ip6, length);
	if (bpf_skb_store_bytes(skb, at, &next, 1, 0) || bpf_skb_load_bytes(skb, l3 + 24, s->head, 16) ||
	    bpf_skb_store_bytes(skb, at + HW_SRH_FIXED, s->head, 16, 0) ||
	    bpf_skb_store_bytes(skb, l3 + 24, p->first_segment, 16, 0))
		return -1;
	return 0;
}

/* in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X */
static __always_inline int insert_srh(struct __sk_buff *skb, __u32 l3, struct policy *p, __u64 hop_by_hop, __u64 flags)
{
	__u64 length = p->srh_length;

	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) ||
	    bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_NET, flags))
		return -1;
	if (hop_by_hop)
		return write_srh_behind_options(skb, l3, p, length, hop_by_hop);
	return write_srh(skb, l3, p, length);
}

/*
 * Bytes of the largest packet this skb becomes on the wire, from the IPv6 header on; `headers` are those in front
 * of the payload.
 */
static __always_inline __u32 wire_length(struct __sk_buff *skb, __u32 l3, __u32 headers)
{
	return skb->gso_size ? headers + skb->gso_size : skb->len - l3;
}

/* From the IPv6 header to the payload. */
static __always_inline __u32 headers_length(struct __sk_buff *skb, __u32 l3, struct walk *w)
{
	__u8 offset;

	if (w->protocol == NEXT_TCP && !bpf_skb_load_bytes(skb, w->offset + 12, &offset, 1))
		return w->offset - l3 + (offset >> 4) * 4;
	return w->offset - l3 + 8;
}

/* Does not fit: in two fragments if it can be, else the sender is told. */
static __always_inline int too_big(struct __sk_buff *skb, __u32 l3, __u32 mtu, struct policy *p, struct walk *w,
				   __u32 slot, __u8 next, __u32 link)
{
	__u32 bytes = skb->len, fragment_at = w->fragment_at;
	struct scratch *s = scratch_room();
	bool split;

	if (!s || icmp6_quote(skb, l3, s))
		goto silent;
	split = !skb->gso_size && !w->hop_by_hop && bytes - l3 <= mtu && bytes - l3 <= HW_MAX_SPLIT &&
		(fragment_at ? fragment_at == l3 + IPV6_HEADER && w->protocol != NEXT_TCP :
			       w->protocol == NEXT_UDP && w->offset == l3 + IPV6_HEADER);
	/* Both fragments leave in this frame. */
	if (split && link)
		split = write_next_hop(skb, p);
	/* The stack sends 1280 bytes whatever it is told, and has to. */
	if (!split && wire_length(skb, l3, headers_length(skb, l3, w)) <= IPV6_MIN_MTU) {
		count(HW_EGRESS, HW_TOO_BIG_PLAIN, bytes);
		return TC_ACT_UNSPEC;
	}
	if (split) {
		*(volatile __u32 *)&s->cloning = 1;
		if (split_in_two(skb, l3, next, fragment_at, p, s) || bpf_clone_redirect(skb, skb->ifindex, 0)) {
			*(volatile __u32 *)&s->cloning = 0;
			goto silent;
		}
		*(volatile __u32 *)&s->cloning = 0;
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

/* What becomes of a packet whose path isn't known at once: a client has tables to ask. */
#ifdef HW_CLIENT
#define HW_NOT_KNOWN HW_REASON_COUNT
#endif
#ifdef HW_SERVER
#define HW_NOT_KNOWN HW_NO_FLOW
#endif

/*
 * The fast path: TCP except SYN, or UDP, directly after the IPv6 header, with a cached path, and short enough as it is.
 * HW_REASON_COUNT: the slow path has to decide.
 */
static __always_inline int steer_fast(struct __sk_buff *skb, __u32 l3, __u32 *slot)
{
	struct ipv6_header *ip6 = packet_at(skb, l3, IPV6_HEADER + 8);
	__u8 *transport = (void *)(ip6 + 1), next;
	__u32 headers = IPV6_HEADER + 8, grown, mtu = 0;
	struct policy *p;
	__u64 length;
	__u16 *ports;

	if (unlikely(!ip6))
		return HW_REASON_COUNT;
	next = ip6->next_header;
	if (likely(next == NEXT_TCP)) {
		if (unlikely(!packet_at(skb, l3, IPV6_HEADER + 14) || (transport[13] & TCP_FLAG_SYN)))
			return HW_REASON_COUNT;
		headers = IPV6_HEADER + (transport[12] >> 4) * 4;
	} else if (unlikely(next != NEXT_UDP)) {
		return HW_REASON_COUNT;
	}
	ports = (void *)transport;
#ifdef HW_CLIENT
	/* A question to a name server has to be noted. */
	if (unlikely(ports[1] == bpf_htons(DNS_PORT)))
		return HW_REASON_COUNT;
#endif
	*slot = known_slot(ip6, ports[0], ports[1], next);
	if (unlikely(*slot == HW_NO_SLOT))
		return HW_NOT_KNOWN;
	p = policies.lookup(slot);
	if (unlikely(!p || !p->srh_length || goes_elsewhere(skb, l3, p)))
		return HW_REASON_COUNT;
	length = p->srh_length;
	grown = skb->len - l3 + length;
	/* Every link carries 1280 bytes: most packets need no question about the MTU. */
	if (grown > IPV6_MIN_MTU) {
		check_mtu(skb, 0, &mtu, 0, 0);
		if (unlikely(p->path_mtu) && p->path_mtu < mtu)
			mtu = p->path_mtu;
		if (unlikely(wire_length(skb, l3, headers) + length > mtu || grown > IPV6_HEADER + 0xffff))
			return HW_REASON_COUNT;
	}
	if (unlikely(insert_srh(skb, l3, p, 0, BPF_F_ADJ_ROOM_FIXED_GSO)))
		return HW_NO_ROOM;
	return HW_STEERED;
}

/* The slow path: packets that are split, refused, behind other headers, or the first of their kind. */
static __always_inline int steer_slow(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason, slot = HW_NO_SLOT, mtu = 0, group = 0, link, again;
#ifdef HW_CLIENT
	struct settings *set = get_settings();
	struct service *service;
	__u64 generation;
	__u32 at;
#endif
	struct ipv6_header *ip6;
	struct scratch *s = scratch_room();
	struct walk *w;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	struct policy *p;
	__u8 next;

	/* Our own fragments come by here while the packet that they are of waits, and what is known of it. */
	if (!s || *(volatile __u32 *)&s->cloning)
		return TC_ACT_UNSPEC;
	w = &s->walk;
#ifdef HW_CLIENT
	at = find_dns(skb, l3, s, true);
	if (unlikely(at))
		note_question(skb, at, s);
#endif
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
	if (!set)
		return TC_ACT_UNSPEC;
	/* Before anything is looked up: what is then cached is at least as old. */
	generation = *(volatile __u64 *)&set->generation;
	service = services.lookup((struct address *)ip6->destination);
	if (!service) {
		reason = HW_NO_SERVICE;
		w->protocol = next;
		goto left;
	}
	if (!is_local(set, ip6->source)) {
		reason = HW_NOT_FROM_HOST;
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
	if (w->offset == l3 + IPV6_HEADER)
		cache_route(ip6, w->destination_port, w->protocol, generation, slot);
#endif
	p = policies.lookup(&slot);
	if (!p || !p->srh_length) {
		reason = HW_NO_PATH;
		goto left;
	}
	link = goes_elsewhere(skb, l3, p) ? next_hop_link(skb, p) : 0;
	/* The interface may have gone since. */
	if (link && check_mtu(skb, link, &mtu, 0, 0) < 0)
		link = 0;
	mtu = 0;
	*(volatile __u32 *)&s->link = link;
	link = *(volatile __u32 *)&s->link;

	if (w->protocol == NEXT_TCP && !w->later_fragment && tcp_is_syn(skb, w->offset) &&
	    !check_mtu(skb, link, &mtu, 0, 0) &&
	    tcp_clamp_mss(skb, w->offset, mtu - IPV6_HEADER - 20 - p->srh_length, &s->position))
		count(HW_EGRESS, HW_MSS_CLAMPED, bytes);
	/* Every link carries 1280 bytes: most packets need no question about the MTU. */
	if (bytes - l3 + p->srh_length > IPV6_MIN_MTU) {
		__u32 length = wire_length(skb, l3, headers_length(skb, l3, w)) + p->srh_length;

		mtu = 0;
		check_mtu(skb, link, &mtu, 0, 0);
		if (p->path_mtu && p->path_mtu < mtu)
			mtu = p->path_mtu;
		if (length > mtu) {
			/* TCP segmentation can be told to cut smaller pieces; all else is too big. */
			if (!skb->gso_size || w->protocol != NEXT_TCP)
				return too_big(skb, l3, mtu, p, w, slot, next, link);
			flags = 0;
		}
		if (bytes - l3 - IPV6_HEADER + p->srh_length > 0xffff &&
		    bytes - l3 - IPV6_HEADER <= 0xffff)
			return too_big(skb, l3, mtu, p, w, slot, next, link);
	}
	if (insert_srh(skb, l3, p, w->hop_by_hop, flags))
		goto dropped;
	count(HW_EGRESS, HW_STEERED, bytes);
	count_path(slot, bytes);
	link = *(volatile __u32 *)&s->link;
	if (!link)
		return TC_ACT_UNSPEC;
	count(HW_EGRESS, HW_NEXT_HOP, bytes);
	if (p->next_hop & HW_CAME_FROM_THERE) {
		write_next_hop(skb, p);
		return TC_ACT_UNSPEC;
	}
	*(volatile __u32 *)&s->redirected = 1;
	return redirect_neigh(link, NULL, 0, 0);
dropped:
	count(HW_EGRESS, HW_NO_ROOM, bytes);
	return TC_ACT_SHOT;
left:
	again = *(volatile __u32 *)&s->redirected;
	*(volatile __u32 *)&s->redirected = 0;
	if (again && (reason == HW_HAS_ROUTING_HEADER || (reason == HW_NO_SERVICE && w->protocol == NEXT_ROUTING)))
		return TC_ACT_UNSPEC;
	count(HW_EGRESS, reason, bytes);
	return TC_ACT_UNSPEC;
}

static __always_inline int egress(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason = HW_REASON_COUNT, slot = HW_NO_SLOT;

	if (likely(skb->protocol == bpf_htons(ETH_P_IPV6)))
		reason = steer_fast(skb, l3, &slot);
	if (unlikely(reason == HW_REASON_COUNT))
		return steer_slow(skb, l3);
	count(HW_EGRESS, reason, bytes);
	if (likely(reason == HW_STEERED))
		count_path(slot, bytes);
	return unlikely(reason == HW_NO_ROOM) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

#endif
