/* What is to be done with a packet that leaves: which path it has, and whether it fits. Nothing is changed here. */
#ifndef HAWKWING_DECIDE_H
#define HAWKWING_DECIDE_H

enum action {
	PASS,				/* it leaves as it is; the reason says why */
	INSERT,				/* the SRH is put in */
	SPLIT,				/* it leaves in two fragments, each with the SRH */
	TELL,				/* its sender is told how much fits */
};

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
 * Which path, if any: the reason why there is none, or its slot in the decision. `ip6` points
 * into the packet, and the walk has what follows it.
 */
static __always_inline int find_path(struct ipv6_header *ip6, __u32 group, struct scratch *s)
{
	struct walk *w = &s->walk;
	__u32 *found = NULL, *slot = &s->decision.slot;
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
	found = find_route(group, w->destination_port, w->protocol);
	if (!found)
		return HW_NO_APPLICATION;
#endif
#ifdef HW_SERVER
	*slot = known_slot(ip6, w->source_port, w->destination_port, w->protocol);
	if (*slot == HW_NO_SLOT)
		return HW_NO_FLOW;
#else
	*slot = s->decision.route = *found;
#endif
	return HW_STEERED;
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
	union stack_word offset;

	if (w->protocol == NEXT_TCP && read_word(skb, w->offset + 12, 1, &offset))
		return w->offset - l3 + (offset.bytes[0] >> 4) * 4;
	return w->offset - l3 + 8;
}

#define SOCKET_FAMILY_INET6 10
#define PMTUDISC_DO 2
#define PMTUDISC_PROBE 3

/* A bit field of the kernel's memory at `base`; 0 where the kernel can't be asked. */
static __always_inline __u32 kernel_field(__u64 base, const struct kernel_field *field)
{
	union stack_word word;

	clear_word(&word);
	if (!field->mask || read_kernel(&word, 1, (void *)(base + field->at)))
		return 0;
	return word.bytes[0] >> (field->shift & 7) & field->mask;
}

/*
 * Does the socket that sends this packet look for the path MTU by itself (IPV6_PMTUDISC_DO, IPV6_PMTUDISC_PROBE,
 * IPV6_DONTFRAG; QUIC does)? It has to be told, where others lose nothing. The context has nothing of it: the agent
 * knows from the kernel's BTF where it is.
 */
static __always_inline bool forbids_fragments(struct __sk_buff *skb, struct scratch *s)
{
	struct settings *set = get_settings();
	struct bpf_sock *sk = skb->sk;
	__u64 socket, more = 0;
	__u32 discovery;

	if (!set || !set->pinet6_at || !sk || sk->family != SOCKET_FAMILY_INET6)
		return false;
	/* As a number: the verifier lets nobody count on from this pointer. */
	*(volatile __u64 *)&s->socket = (__u64)sk;
	socket = *(volatile __u64 *)&s->socket;
	if (read_kernel(&more, 8, (void *)(socket + set->pinet6_at)) || !more)
		return false;
	discovery = kernel_field(more, &set->pmtudisc);
	return discovery == PMTUDISC_DO || discovery == PMTUDISC_PROBE ||
	       kernel_field(set->dontfrag_in_socket ? socket : more, &set->dontfrag);
}

/* Does not fit: in two fragments if it can be, else the sender is told. */
static __always_inline int decide_too_big(struct __sk_buff *skb, __u32 l3, const struct policy *p, struct scratch *s)
{
	struct decision *d = &s->decision;
	struct walk *w = &s->walk;
	__u32 bytes = skb->len - l3, fragment_at = w->fragment_at, whole_udp;

	whole_udp = !fragment_at && w->protocol == NEXT_UDP && w->offset == l3 + IPV6_HEADER;
	if (!p->encapsulates && !skb->gso_size && !w->hop_by_hop && bytes <= d->mtu && bytes <= HW_MAX_SPLIT &&
	    (whole_udp || (fragment_at == l3 + IPV6_HEADER && w->protocol != NEXT_TCP)) &&
	    /* Both fragments leave in this frame. */
	    (!d->link || can_write_next_hop(skb, p)) &&
	    (!whole_udp || !forbids_fragments(skb, s)))
		return SPLIT;
	/* The stack sends 1280 bytes whatever it is told, and has to. */
	if (wire_length(skb, l3, headers_length(skb, l3, w)) <= IPV6_MIN_MTU) {
		d->reason = HW_TOO_BIG_PLAIN;
		return PASS;
	}
	return TELL;
}

#ifdef HW_CLIENT
static __always_inline int decide_ipv4(struct __sk_buff *skb, __u32 l3, struct scratch *s);
#endif

/*
 * For packets of all kinds; what is found is in the scratch room. `s->walk` has been cleared, and `s->decision`.
 */
static __always_inline int decide(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	struct decision *d = &s->decision;
	struct walk *w = &s->walk;
	__u32 bytes = skb->len, group = 0, link, mtu = 0, slot, length;
	struct ipv6_header *ip6;
	struct policy *p;
#ifdef HW_CLIENT
	struct settings *set = get_settings();
	struct service *service;
	__u64 generation;
#endif
	union stack_word option;

	d->reason = HW_NOT_IPV6;
#ifdef HW_CLIENT
	if (unlikely(skb->protocol == bpf_htons(ETH_P_IP)))
		return decide_ipv4(skb, l3, s);
#endif
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return PASS;
	d->reason = HW_TRUNCATED;
	ip6 = packet_pull(skb, l3, IPV6_HEADER);
	if (!ip6)
		return PASS;
	d->next = ip6->next_header;
#ifdef HW_CLIENT
	if (!set)
		return PASS;
	/* Before anything is looked up: what is then cached is at least as old. */
	generation = *(volatile __u64 *)&set->generation;
	d->reason = HW_NO_SERVICE;
	service = services.lookup((struct address *)ip6->destination);
	if (!service)
		return PASS;
	d->reason = HW_NOT_FROM_HOST;
	if (!is_local(set, ip6->source))
		return PASS;
	group = service->group;
#endif
	w->result = walk(skb, l3 + IPV6_HEADER, d->next, w);
	switch (READ_BACK(w->result)) {
	case WALK_OK:
		break;
	case WALK_ROUTING:
		d->reason = HW_HAS_ROUTING_HEADER;
		return PASS;
	case WALK_CHAIN:
		d->reason = HW_EXTENSION_CHAIN;
		return PASS;
	default:
		d->reason = HW_TRUNCATED;
		return PASS;
	}
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return PASS;
	/* The length of a jumbogram has to be found. */
	if (unlikely(w->hop_by_hop && !ip6->payload_length)) {
		d->reason = HW_EXTENSION_CHAIN;
		if (!read_word(skb, l3 + IPV6_HEADER, 8, &option) || !jumbo_length(option.bytes))
			return PASS;
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return PASS;
	}
	d->reason = find_path(ip6, group, s);
	if (READ_BACK(d->reason) != HW_STEERED)
		return PASS;
#ifdef HW_CLIENT
	if (unlikely(d->route & HW_SELECTION)) {
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return PASS;
		d->bucket = bucket_of(ip6->version_class_label, (void *)ip6->source, (void *)ip6->destination,
				      w->source_port, w->destination_port, w->protocol);
		d->slot = select_living_path(READ_BACK(d->route), READ_BACK(d->bucket), s);
	}
#endif
	slot = READ_BACK(d->slot);
	if (w->fragment_at && !w->later_fragment)
		fragments.update(&s->fragment, &d->slot);
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return PASS;
#ifdef HW_CLIENT
	if (w->offset == l3 + IPV6_HEADER)
		cache_route(ip6, w->destination_port, w->protocol, generation, d->route);
#endif
	d->reason = HW_NO_PATH;
	p = get_policy(slot);
	if (!p || !p->srh_length)
		return PASS;
	link = goes_elsewhere(skb, l3, p) ? next_hop_link(skb, p) : 0;
	/* The interface may have gone since. */
	if (link && !mtu_of(skb, link))
		link = 0;
	*(volatile __u32 *)&d->link = link;
	link = *(volatile __u32 *)&d->link;

	if (w->protocol == NEXT_TCP && !w->later_fragment && tcp_is_syn(skb, w->offset)) {
		mtu = mtu_of(skb, link);
#ifdef HW_CLIENT
		length = longest_srh(d->route);
#else
		length = p->srh_length;
#endif
		if (mtu > IPV6_HEADER + 20 + length)
			d->mss = mtu - IPV6_HEADER - 20 - length;
	}
	/* Every link carries 1280 bytes: most packets need no question about the MTU. */
	if (bytes - l3 + p->srh_length <= IPV6_MIN_MTU)
		return INSERT;
	length = wire_length(skb, l3, headers_length(skb, l3, w)) + p->srh_length;
	mtu = mtu_of(skb, link);
	if (p->path_mtu && p->path_mtu < mtu)
		mtu = p->path_mtu;
	d->mtu = mtu;
	if (bytes - l3 - IPV6_HEADER + p->srh_length > 0xffff && bytes - l3 - IPV6_HEADER <= 0xffff)
		return decide_too_big(skb, l3, p, s);
	if (length <= mtu)
		return INSERT;
	/* TCP segmentation can be told to cut smaller pieces. */
	if (!skb->gso_size || w->protocol != NEXT_TCP)
		return decide_too_big(skb, l3, p, s);
	d->resize = 1;
	return INSERT;
}

#endif
