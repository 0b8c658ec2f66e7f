/* What arrives: the SRH removed, errors restored, SYNs told how much fits. */
#ifndef HAWKWING_INGRESS_H
#define HAWKWING_INGRESS_H

/*
 * The transport checksum covers nothing of the SRH: what the device has verified stays verified. Else the
 * stack would sum up every byte once more.
 */
#define STRIP_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

/*
 * Writes payload length (host order) and next header. They are one word with the hop limit: what the device
 * summed over the packet is kept right.
 */
static __always_inline void correct_header(struct __sk_buff *skb, struct ipv6_header *ip6, __u16 payload, __u8 next)
{
	__u32 before, after, *first = (__u32 *)ip6;
	__u16 length = bpf_htons(payload);
	__u8 word[4];

	before = first[1];
	__builtin_memcpy(word, &before, 4);
	__builtin_memcpy(word, &length, 2);
	word[2] = next;
	__builtin_memcpy(&after, word, 4);
	first[1] = after;
	bpf_csum_update(skb, csum_difference(before, after));
}

/*
 * The IPv6 header of a packet with a routing header behind it, all of which, and a UDP header behind that, is brought
 * into the linear part; NULL: there is none, or it can't be brought.
 */
static __always_inline struct ipv6_header *pull_routing_header(struct __sk_buff *skb, __u32 l3)
{
	struct ipv6_header *ip6 = packet_pull(skb, l3, IPV6_HEADER + HW_SRH_FIXED);
	struct srh_header *srh = (void *)(ip6 + 1);

	__u32 length;

	if (!ip6 || ip6->next_header != NEXT_ROUTING)
		return NULL;
	length = IPV6_HEADER + (srh->ext_length + 1) * 8 + 8;
	if (likely(within(ip6, length, packet_end(skb))))
		return ip6;
	return packet_pull(skb, l3, length);
}

/* The fast path; HW_REASON_COUNT: the slow path has to decide. */
static __always_inline int strip_fast(struct __sk_buff *skb, __u32 l3)
{
	struct ipv6_header *ip6 = pull_routing_header(skb, l3);
	struct fast_strip a;

	if (!ip6 || unlikely(!takes_fast_path(ip6, packet_end(skb), &a)))
		return HW_REASON_COUNT;
	if (bpf_skb_adjust_room(skb, -(__s32)a.length, BPF_ADJ_ROOM_NET, STRIP_FLAGS))
		return HW_NOT_STRIPPED;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_NO_ROOM;
	correct_header(skb, ip6, a.payload, a.next);
#ifdef HW_CLIENT
	if (unlikely(a.told_back)) {
		note_use(ip6, (void *)&a.ports, a.next);
		count(HW_INGRESS, HW_WAY_BACK_USED, skb->len);
	}
#endif
	return HW_STRIPPED;
}

/*
 * in: IPv6(C, D) SRH(D, Sk .. S1; SL=0) X   out: IPv6(C, D) X
 * Returns what became of it; `removed` is set to the bytes taken out.
 */
static __always_inline int strip_srh(struct __sk_buff *skb, __u32 l3, __u64 hop_by_hop, __u32 *removed)
{
	__u32 at, length, last_entry, read_back;
	struct settings *set = get_settings();
	struct scratch *s = scratch_room();
	struct ipv6_header *ip6;
	struct srh_header *srh;
	__u32 *jumbo;
	__u16 payload;
	__u8 next, *list;

	if (!set || !s)
		return HW_TRUNCATED;
	/* Read back: to the verifier packets with options and without look alike. */
	*(volatile __u32 *)&s->position = hop_by_hop;
	hop_by_hop = *(volatile __u32 *)&s->position & (2 * HW_MAX_HOP_BY_HOP - 1);
	at = l3 + IPV6_HEADER + hop_by_hop;
	if (bpf_skb_load_bytes(skb, at, s->srh, HW_SRH_FIXED))
		return HW_TRUNCATED;
	srh = (void *)s->srh;
	if (srh->type != 4)
		return HW_ROUTING_TYPE;
	if (srh->segments_left)
		return HW_SEGMENTS_LEFT;
	length = (srh->ext_length + 1) * 8;
	last_entry = srh->last_entry;
	next = srh->next_header;
	if ((last_entry + 1) * 16 + HW_SRH_FIXED > length || at + length > skb->len)
		return HW_SRH_MALFORMED;
	if (!load_list(skb, at, last_entry, s))
		return HW_TRUNCATED;
	list = s->srh + HW_SRH_FIXED;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return HW_TRUNCATED;
#ifdef HW_SERVER
	/* For a client's program behind this one. */
	if (srh->tag == bpf_htons(HW_PROBE_TAG) && same16(ip6->source, ip6->destination))
		return HW_PROBE;
#endif
	payload = bpf_ntohs(ip6->payload_length);
	if (payload && payload < hop_by_hop + length)
		return HW_SRH_MALFORMED;
	if (!same16(list, ip6->destination))
		return HW_SRH_MALFORMED;
	if (unlikely(hop_by_hop && !payload)) {
		/* The length of a jumbogram has to be found. */
		if (bpf_skb_load_bytes(skb, l3 + IPV6_HEADER, s->head, 8))
			return HW_TRUNCATED;
		jumbo = jumbo_length(s->head);
		if (!jumbo)
			return HW_EXTENSION_CHAIN;
		if (bpf_ntohl(*jumbo) < hop_by_hop + length)
			return HW_SRH_MALFORMED;
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return HW_TRUNCATED;
	}
	/* Read back once more: options, a jumbogram, or neither made three ways of what follows. */
	*(volatile __u32 *)&s->position = hop_by_hop << 16 | payload;
	read_back = *(volatile __u32 *)&s->position;
	payload = read_back;
	hop_by_hop = read_back >> 16 & (2 * HW_MAX_HOP_BY_HOP - 1);
	if (!is_local(set, ip6->destination))
		return HW_NOT_LOCAL;
	if (next == NEXT_IPV6 || next == NEXT_IPV4 || next == NEXT_ETHERNET)
		return HW_ENCAPSULATED;
	/* Read once: it may change at any time. */
	*(volatile __u32 *)&s->hmac.signer = set->hmac_key;
	if (!READ_BACK(s->hmac.signer) && requires_hmac(set, skb->ifindex))
		return HW_HMAC_REQUIRED;
	if (!trusted_list(set, ip6->source, list, last_entry, &s->last_entry, HW_MAX_LIST))
		return HW_UNTRUSTED;
	if (READ_BACK(s->hmac.signer)) {
		int found = look_up_hmac(skb, ip6, at, length, last_entry, s);

		if (found != HW_STRIPPED)
			return found;
	}

#ifdef HW_SERVER
	*(volatile __u32 *)&s->told.count = 0;
	*(volatile __u32 *)&s->told.bytes = 0;
	/* There is no room in a jumbogram, whose length is elsewhere. */
	if (next == NEXT_DESTINATION)
		read_way_back(skb, at + length, ip6, (__s32)payload - (__s32)(hop_by_hop + length), set, s);
	learn_from(skb, set, s, l3, at + length, next, list, last_entry);
	if (READ_BACK(s->told.bytes))
		next = READ_BACK(s->told.next);
	*(volatile __u32 *)&s->position = length + READ_BACK(s->told.bytes);
	length = READ_BACK(s->position);
#endif
	if (hop_by_hop) {
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_load_bytes(skb, l3 + IPV6_HEADER, s->head, hop_by_hop))
			return HW_TRUNCATED;
		s->head[0] = next;
		jumbo = jumbo_length(s->head);
		if (jumbo && !payload)
			*jumbo = bpf_htonl(bpf_ntohl(*jumbo) - length);
	}
	if (bpf_skb_adjust_room(skb, -(__s32)length, BPF_ADJ_ROOM_NET, STRIP_FLAGS))
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
	correct_header(skb, ip6, payload ? payload - length : 0, hop_by_hop ? NEXT_HOP_BY_HOP : next);
	return HW_STRIPPED;
}

#ifdef HW_CLIENT
/* The peer's SYN says how much it takes; what we send has to carry the SRH besides. */
static __always_inline __u32 overhead_towards(struct ipv6_header *ip6, __u16 port)
{
	struct service *service = services.lookup((struct address *)ip6->source);
	__u32 *found;

	if (!service)
		return 0;
	found = find_route(service->group, port, NEXT_TCP);
	return found ? longest_headers(*found) : 0;
}
#endif

static __always_inline void clamp_incoming(struct __sk_buff *skb, __u32 tcp, __u32 overhead, struct scratch *s)
{
	__u32 mtu = overhead ? mtu_of(skb, 0) : 0;

	if (mtu > IPV6_HEADER + 20 + overhead &&
	    tcp_clamp_mss(skb, tcp, mtu - IPV6_HEADER - 20 - overhead, &s->position))
		count(HW_INGRESS, HW_MSS_CLAMPED, skb->len);
}

static __always_inline int ingress_slow(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	__u32 bytes = skb->len, reason = HW_NO_ROUTING_HEADER, removed = 0, hop_by_hop = 0, at = l3 + IPV6_HEADER;
	struct ipv6_header *ip6;
	__u8 next, ip6_next, *header;
	struct settings *set;

	if (skb->protocol != bpf_htons(ETH_P_IPV6)) {
#ifdef HW_CLIENT
		if (skb->protocol == bpf_htons(ETH_P_IP))
			clamp_incoming_ipv4(skb, l3, s);
#endif
		count(HW_INGRESS, HW_NOT_IPV6, bytes);
		return TC_ACT_UNSPEC;
	}
	ip6 = packet_pull(skb, l3, IPV6_HEADER);
	if (!ip6) {
		count(HW_INGRESS, HW_TRUNCATED, bytes);
		return TC_ACT_UNSPEC;
	}
#ifdef HW_SERVER
	set = get_settings();
	if (set && unlikely(is_decap_sid(set, ip6->destination))) {
		*(volatile __u32 *)&s->position = judge_decapsulated(skb, ip6, l3, set, s);
		reason = *(volatile __u32 *)&s->position;
		if (reason == HW_REASON_COUNT) {
			s->hmac.back = l3 ? HW_INGRESS_ETHERNET : HW_INGRESS_RAW;
			programs.call(skb, HW_AUTHENTICATE);
			reason = HW_DECAP_UNSIGNED;
		}
		count(HW_INGRESS, reason, bytes);
		return reason == HW_ENCAPSULATED ? TC_ACT_UNSPEC : TC_ACT_SHOT;
	}
#endif
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
#ifdef HW_CLIENT
	if (ip6_next == NEXT_ROUTING && take_probe(skb, at, s)) {
		count(HW_INGRESS, HW_PROBE, bytes);
		return TC_ACT_SHOT;
	}
	set = get_settings();
	if (set && set->stamp_port && (ip6_next == NEXT_ROUTING || ip6_next == NEXT_UDP) &&
	    take_reflected(skb, at, ip6_next, set, s)) {
		count(HW_INGRESS, HW_PROBE, bytes);
		return TC_ACT_SHOT;
	}
#endif
#ifdef HW_CLIENT
	if (next == NEXT_ROUTING) {
		*(volatile __u32 *)&s->told.next = 0;
		/* Its tag. Where the packet ends before, it is not stripped anyway. */
		bpf_skb_load_bytes(skb, at + hop_by_hop + 6, &s->told.next, 2);
	}
#endif
	if (next == NEXT_ROUTING) {
		reason = strip_srh(skb, l3, hop_by_hop, &removed);
		if (reason == HW_REASON_COUNT) {
			s->hmac.back = l3 ? HW_INGRESS_ETHERNET : HW_INGRESS_RAW;
			programs.call(skb, HW_AUTHENTICATE);
			reason = HW_HMAC_MISSING;
		}
		if (reason != HW_STRIPPED) {
			count(HW_INGRESS, reason, bytes);
			return reason == HW_NO_ROOM ? TC_ACT_SHOT : TC_ACT_UNSPEC;
		}
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return TC_ACT_UNSPEC;
		next = ip6->next_header;
#ifdef HW_CLIENT
		if (READ_BACK(*(__u16 *)&s->told.next) == bpf_htons(HW_WAY_BACK_TAG)) {
			if (!bpf_skb_load_bytes(skb, l3 + IPV6_HEADER, &s->told.count, 4))
				note_use(ip6, (void *)&s->told.count, next);
			count(HW_INGRESS, HW_WAY_BACK_USED, bytes);
		}
#endif
	}

#ifdef HW_SERVER
	if (reason == HW_NO_ROUTING_HEADER && (next == NEXT_TCP || next == NEXT_UDP)) {
		ip6 = packet_at(skb, l3, IPV6_HEADER + 4);
		/* What the XDP program has stripped looks plain here: it ends flows itself. */
		if (ip6 && set && !set->xdp)
			end_flow(set, ip6, (void *)(ip6 + 1), next, bytes);
	}
#endif
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
		int restored = 0;

#ifdef HW_CLIENT
		restored = restore_encapsulated(skb, l3, s);
#endif
		if (!restored)
			restored = icmp6_restore(skb, l3, s);
		if (restored > 0)
			count(HW_INGRESS, HW_ERROR_RESTORED, bytes);
		if (restored < 0) {
			count(HW_INGRESS, HW_NO_ROOM, bytes);
			return TC_ACT_SHOT;
		}
	}
	count(HW_INGRESS, reason, bytes);
	return TC_ACT_UNSPEC;
}

/* A frame for another link-layer address may be for an interface upon this one, and this host. */
static __always_inline bool is_shared(void)
{
	struct settings *set = get_settings();

	return set && set->shared;
}

static __always_inline int ingress(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason = HW_REASON_COUNT;
	struct scratch *s;
#ifdef HW_CLIENT
	__u32 udp;
#endif
	int verdict;

	/* A switch floods, or mirrors: the stack drops it, and it teaches nothing. */
	if (unlikely(skb->pkt_type == PACKET_OTHERHOST) && !is_shared()) {
		count(HW_INGRESS, HW_OTHER_HOST, bytes);
		return TC_ACT_UNSPEC;
	}
	if (likely(skb->protocol == bpf_htons(ETH_P_IPV6)))
		reason = strip_fast(skb, l3);
	if (reason != HW_REASON_COUNT) {
		count(HW_INGRESS, reason, bytes);
		return reason == HW_NO_ROOM ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	s = scratch_room();
	if (!s)
		return TC_ACT_UNSPEC;
	verdict = ingress_slow(skb, l3, s);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
#ifdef HW_CLIENT
	/* Here, once: the verifier goes through it only once. */
	s = scratch_room();
	if (!s)
		return TC_ACT_UNSPEC;
	udp = find_dns(skb, l3, s, false);
	if (udp)
		learn_names(skb, udp);
#endif
	return TC_ACT_UNSPEC;
}

#endif
