/* Puts an SRH into a packet. */
#ifndef HAWKWING_INSERT_H
#define HAWKWING_INSERT_H

#define OPTION_JUMBO 0xc2

/* 0 stands for a payload above 65,535 bytes (BIG TCP), whose length is elsewhere. */
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
	struct scratch *s;

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
	if (likely(!p->signed_as))
		return 0;
	s = scratch_room();
	return s ? write_hmac(skb, at + length, p, s) : -1;
}

/*
 * The Jumbo Payload option (RFC 2675) that these first 8 bytes of a Hop-by-Hop header have: its length in wire order,
 * or NULL. Linux writes it at this place only.
 */
static __always_inline __u32 *jumbo_length(__u8 *options)
{
	return options[2] == OPTION_JUMBO && options[3] == 4 ? (__u32 *)(options + 4) : NULL;
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
	__u32 *jumbo;
	__u8 next;

	if (!s || OUTSIDE(options, 8, HW_MAX_HOP_BY_HOP) || bpf_skb_load_bytes(skb, at + length, s->head, options))
		return -1;
	next = s->head[0];
	s->head[0] = NEXT_ROUTING;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return -1;
	jumbo = jumbo_length(s->head);
	if (jumbo && !ip6->payload_length)
		*jumbo = bpf_htonl(bpf_ntohl(*jumbo) + length);
	add_payload(ip6, length);
	if (OUTSIDE(options, 8, HW_MAX_HOP_BY_HOP) || bpf_skb_store_bytes(skb, at, s->head, options, 0))
		return -1;
	at += options;
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_store_bytes(skb, at, p->srh, length, 0))
		return -1;
	if (bpf_skb_store_bytes(skb, at, &next, 1, 0) || bpf_skb_load_bytes(skb, l3 + 24, s->head, 16) ||
	    bpf_skb_store_bytes(skb, at + HW_SRH_FIXED, s->head, 16, 0) ||
	    bpf_skb_store_bytes(skb, l3 + 24, p->first_segment, 16, 0))
		return -1;
	return write_hmac(skb, at + length, p, s);
}

#ifdef HW_CLIENT
static __always_inline bool is_ipv4(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP);
}

/*
 * in: IPv6(A, B) X            out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv6(A, B) X   one SID: no SRH
 * in: IPv4(a, b) X            out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv4(a, b) X
 * H.Encaps.Red of RFC 8986, section 5.2. As Linux does, the outer header has the traffic class, flow label and hop limit
 * of an inner IPv6 header, and 0, 0 and the host's own hop limit, which is in the policy, around IPv4.
 */
static __always_inline int encapsulate(struct __sk_buff *skb, __u32 l3, struct policy *p, __u64 length, __u64 flags)
{
	bool inner_ipv4 = is_ipv4(skb);
	struct ipv6_header *ip6 = packet_at(skb, l3, inner_ipv4 ? 20 : IPV6_HEADER);
	__u16 payload, ethertype = bpf_htons(ETH_P_IPV6);
	__u8 *srh, hop_limit = 0;
	__u32 first = 0;

	if (!ip6)
		return -1;
	if (inner_ipv4) {
		payload = ((__u16 *)ip6)[1];
	} else {
		payload = ip6->payload_length;
		first = ip6->version_class_label;
		hop_limit = ip6->hop_limit;
	}
	/* 0 stands for more than 65,535 bytes. */
	if (payload)
		payload = bpf_htons(bpf_ntohs(payload) + length - (inner_ipv4 ? IPV6_HEADER : 0));
	if (bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return -1;
	if (OUTSIDE(length, IPV6_HEADER, HW_SRH_MAX) || bpf_skb_store_bytes(skb, l3, p->srh, length, 0))
		return -1;
	if (inner_ipv4 && l3 && bpf_skb_store_bytes(skb, l3 - 2, &ethertype, 2, 0))
		return -1;
	ip6 = packet_at(skb, l3, IPV6_HEADER + 1);
	if (!ip6)
		return -1;
	ip6->payload_length = payload;
	if (!inner_ipv4) {
		ip6->version_class_label = first;
		ip6->hop_limit = hop_limit;
		return 0;
	}
	srh = (void *)(ip6 + 1);
	if (ip6->next_header == NEXT_ROUTING)
		*srh = NEXT_IPV4;
	else
		ip6->next_header = NEXT_IPV4;
	return 0;
}
#endif

/* in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X   or encapsulated */
static __always_inline int insert_srh(struct __sk_buff *skb, __u32 l3, struct policy *p, __u64 hop_by_hop, __u64 flags)
{
	__u64 length = p->srh_length;

#ifdef HW_CLIENT
	if (unlikely(p->encapsulates))
		return encapsulate(skb, l3, p, length, flags);
#endif
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) ||
	    bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_NET, flags))
		return -1;
	if (hop_by_hop)
		return write_srh_behind_options(skb, l3, p, length, hop_by_hop);
	return write_srh(skb, l3, p, length);
}

#endif
