/* What arrives: the SRH removed, errors restored, SYNs told how much fits. */
#ifndef HAWKWING_INGRESS_H
#define HAWKWING_INGRESS_H

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
	__u32 before, after, *first;
	__u16 payload, field;
	__u8 word[4];
	__u8 next;
#ifdef HW_SERVER
	volatile __u32 *learnable = &s->learnable;
	struct flow_bucket *bucket;
	struct flow_key flow = {};
	__u64 hash = 0, flows_hash = 0, way;
	struct walk *w;
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
#ifdef HW_CLIENT
	if (!local_addresses.lookup((struct address *)ip6->destination))
		return HW_NOT_LOCAL;
#endif

#ifdef HW_SERVER
	w = &s->walk;
	__builtin_memset(w, 0, sizeof(*w));
	*learnable = walk(skb, at + length, next, w) == WALK_OK && w->source_port && !w->later_fragment &&
		     last_entry > 0;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_TRUNCATED;
	if (*learnable) {
		copy16(flow.remote, ip6->source);
		copy16(flow.local, ip6->destination);
		flow.remote_port = w->source_port;
		flow.local_port = w->destination_port;
		flow.protocol = w->protocol;
		segment = packet_at(skb, list, 16);
		if (!segment)
			return HW_TRUNCATED;
		hash = srh_hash(segment, (void *)(long)skb->data_end, last_entry, set->hash_seed);
		flows_hash = flow_hash(&flow, set->hash_seed);
		flow_find(&flow, flows_hash, &s->place);
		bucket = flow_at(&s->place, &way);
		if (s->place.found && bucket) {
			__u32 slot = (__u32)bucket->words[way];
			struct policy *p = policies.lookup(&slot);

			/*
			 * Seen in this epoch with this list: the address is ours and the list was
			 * found trustworthy. A new epoch begins when an address or the domain changes.
			 */
			if (p && p->list_hash == hash && bucket->epochs[way] == (__u8)set->epoch)
				goto strip;
		}
	}
#endif
#ifdef HW_SERVER
	if (!local_addresses.lookup((struct address *)ip6->destination))
		return HW_NOT_LOCAL;
	if (set->prefixes && !trusted_list(skb, set, l3, list, last_entry))
		return HW_UNTRUSTED;
#else
	if (set->prefixes && !trusted_before(skb, set, l3, list, last_entry))
		return HW_UNTRUSTED;
#endif
#ifdef HW_SERVER
	if (*learnable)
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
		return HW_NOT_STRIPPED;
	*removed = length;
	if (hop_by_hop) {
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_store_bytes(skb, l3 + IPV6_HEADER, s->head, hop_by_hop, BPF_F_RECOMPUTE_CSUM))
			return HW_NO_ROOM;
	}
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_NO_ROOM;
	/* Payload length, next header and hop limit are one word: the sum over the packet is kept right. */
	first = (__u32 *)ip6;
	__builtin_memcpy(word, first + 1, 4);
	__builtin_memcpy(&before, word, 4);
	field = payload ? bpf_htons(payload - length) : 0;
	__builtin_memcpy(word, &field, 2);
	word[2] = hop_by_hop ? NEXT_HOP_BY_HOP : next;
	__builtin_memcpy(&after, word, 4);
	first[1] = after;
	bpf_csum_update(skb, csum_difference(before, after));
	return HW_STRIPPED;
}

#ifdef HW_CLIENT
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

static __always_inline void clamp_incoming(struct __sk_buff *skb, __u32 tcp, __u32 overhead, struct scratch *s)
{
	__u32 mtu = 0;

	if (overhead && !bpf_check_mtu(skb, 0, &mtu, 0, 0) && mtu > IPV6_HEADER + 20 + overhead &&
	    tcp_clamp_mss(skb, tcp, mtu - IPV6_HEADER - 20 - overhead, &s->position))
		count(HW_INGRESS, HW_MSS_CLAMPED, skb->len);
}

static __always_inline int meet(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	__u32 bytes = skb->len, reason = HW_NO_ROUTING_HEADER, removed = 0, hop_by_hop = 0, at = l3 + IPV6_HEADER;
	struct ipv6_header *ip6;
	__u8 next, ip6_next, *header;

	if (skb->protocol != bpf_htons(ETH_P_IPV6)) {
#ifdef HW_CLIENT
		if (skb->protocol == bpf_htons(ETH_P_IP)) {
			header = packet_pull(skb, l3, 20);
			if (header && (header[0] & 0x0f) >= 5 && header[9] == NEXT_UDP && !(header[6] & 0x3f) && !header[7])
				s->dns_at = l3 + (header[0] & 0x0f) * 4;
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
	ip6_next = next = ip6->next_header;
	if (next == NEXT_HOP_BY_HOP || next == NEXT_DESTINATION) {
		header = packet_pull(skb, at, 8);
		if (!header) {
			count(HW_INGRESS, HW_TRUNCATED, bytes);
			return TC_ACT_UNSPEC;
		}
		if (header[0] == NEXT_ROUTING) {
			hop_by_hop = (header[1] + 1) * 8;
			next = NEXT_ROUTING;
			if (ip6_next != NEXT_HOP_BY_HOP || hop_by_hop > HW_MAX_HOP_BY_HOP) {
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
			clamp_incoming(skb, at, overhead, s);
#else
			clamp_incoming(skb, at, removed, s);
#endif
		}
	} else if (next == NEXT_ICMPV6) {
		int restored = icmp6_restore(skb, l3, s);

		if (restored > 0)
			count(HW_INGRESS, HW_ERROR_RESTORED, bytes);
		if (restored < 0) {
			count(HW_INGRESS, HW_NO_ROOM, bytes);
			return TC_ACT_SHOT;
		}
	}
#ifdef HW_CLIENT
	else if (next == NEXT_UDP)
	{
		__u16 *port = packet_at(skb, at, 2);

		if (!port || *port == bpf_htons(DNS_PORT))
			s->dns_at = at;
	}
#endif
	count(HW_INGRESS, reason, bytes);
	return TC_ACT_UNSPEC;
}

static __always_inline int ingress(struct __sk_buff *skb, __u32 l3)
{
	struct scratch *s = scratch_room();
	int verdict;

	if (!s)
		return TC_ACT_UNSPEC;
	*(volatile __u32 *)&s->dns_at = 0;
	verdict = meet(skb, l3, s);
#ifdef HW_CLIENT
	/* Here, once, and not where it was found: the verifier goes through it only once. */
	if (*(volatile __u32 *)&s->dns_at)
		look_for_names(skb, s->dns_at);
#endif
	return verdict;
}

#endif
