/*
 * ICMPv6 errors of routers about packets that a client has encapsulated: to the stack they are about the inner packet,
 * as if there were no outer header. Those that quote IPv4 become errors of IPv4.
 */
#ifndef HAWKWING_RESTORE_H
#define HAWKWING_RESTORE_H

#define QUOTED_IPV4 (IPV4_HEADER + 8)

/* What every error begins with. */
struct quoting {
	struct icmp6_header icmp;
	struct ipv6_header ip6;
} __attribute__((aligned(8)));

/*
 * in:  IPv6(R, T) ICMPv6(error; IPv6(T, S1) SRH(..) IPv4(a, b) X)
 * out: IPv4(b, a) ICMP(error; IPv4(a, b) 8 bytes of X)   MTU, where there is one, less the outer headers
 * `inner` is where IPv4 begins. 1, or 0: none of ours; -1: failed half-way.
 */
static __always_inline int restore_ipv4(struct __sk_buff *skb, __u32 l3, __u32 inner, __u64 length,
					const struct quoting *old, struct scratch *s)
{
	struct icmp4_message *m = (void *)s->head;
	struct ipv4_header *ip = (void *)m->quoted;
	__u16 *ports = (void *)(m->quoted + IPV4_HEADER), ethertype = bpf_htons(ETH_P_IP);
	struct settings *set = get_settings();
	struct fragment_key *key = &s->fragment;
	__u8 type = ICMP4_UNREACHABLE, code = ICMP4_HOST;
	struct service *service;
	__u32 mtu = 0, *found;

	__builtin_memset(m->quoted, 0, ICMP4_QUOTED);
	if (!set || bpf_skb_load_bytes(skb, inner, m->quoted, QUOTED_IPV4) || ip->version_length != 0x45 ||
	    ip->fragment & bpf_htons(IPV4_OFFSET))
		return 0;
	map_ipv4(key->source, ip->source);
	map_ipv4(key->destination, ip->destination);
	service = services.lookup((struct address *)key->destination);
	if (!service || !is_local(set, key->source))
		return 0;
	found = find_route(service->group, ports[1], ip->protocol);
	if (!found)
		return 0;
	if (old->icmp.type == ICMP6_TOO_BIG) {
		mtu = bpf_ntohl(old->icmp.info);
		if (!(*found & HW_SELECTION))
			note_path_mtu(*found, mtu, length, 0);
		mtu -= length;
		/* The field of IPv4 is shorter. */
		if (mtu > 0xffff)
			mtu = 0xffff;
		code = ICMP4_TOO_BIG;
	} else if (old->icmp.type == 3) {
		type = ICMP4_TIME_EXCEEDED;
		code = 0;
	}
	icmp4_error(m, type, code, mtu, QUOTED_IPV4);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return 0;
	/* From here on the kernel sums up the packet by itself. */
	if (bpf_skb_change_tail(skb, l3 + ICMP4_BEFORE + QUOTED_IPV4, 0) ||
	    bpf_skb_store_bytes(skb, l3, m, ICMP4_BEFORE + QUOTED_IPV4, BPF_F_RECOMPUTE_CSUM) ||
	    (l3 && bpf_skb_store_bytes(skb, l3 - 2, &ethertype, 2, 0)))
		return -1;
	return 1;
}

/*
 * in:  IPv6(R, T) ICMPv6(error; IPv6(T, S1) SRH(..) IPv6(A, B) X)
 * out: IPv6(R, T) ICMPv6(error; IPv6(A, B) X)   MTU, where there is one, less the outer headers
 * `length` is that of the outer headers. 1, or 0: none of ours; -1: failed half-way.
 */
static __always_inline int restore_ipv6(struct __sk_buff *skb, __u32 l3, __u64 length, __u16 payload,
					struct quoting *old, struct scratch *s)
{
	__u32 at = l3 + IPV6_HEADER, behind = at + sizeof(*old), mtu, slot = HW_NO_SLOT;
	struct ipv6_header *inner;
	struct quoting new = *old;
	__u16 checksum;
	__s64 sum;

	if (OUTSIDE(length, IPV6_HEADER, HW_SRH_MAX) || bpf_skb_load_bytes(skb, behind, s->head, length))
		return 0;
	inner = (void *)(s->head + length - IPV6_HEADER);
	new.ip6 = *inner;
	if (!is_quote_ours(skb, new.ip6.version_class_label, new.ip6.source, new.ip6.destination, behind + length,
			   new.ip6.next_header, &slot))
		return 0;
	if (old->icmp.type == ICMP6_TOO_BIG) {
		mtu = bpf_ntohl(old->icmp.info);
		note_path_mtu(slot, mtu, length, 0);
		mtu = mtu > IPV6_MIN_MTU + length ? mtu - length : IPV6_MIN_MTU;
		new.icmp.info = bpf_htonl(mtu);
	}
	checksum = old->icmp.checksum;
	old->icmp.checksum = 0;
	new.icmp.checksum = 0;
	sum = sum_difference((void *)old, sizeof(*old), (void *)&new, sizeof(new), (__u16)~checksum);
	if (OUTSIDE(length, IPV6_HEADER, HW_SRH_MAX))
		return 0;
	sum = sum_difference((void *)s->head, length, NULL, 0, sum);
	/* The pseudo-header's length shrinks too. */
	sum = fold(sum) + (__u16)~bpf_htons(payload) + bpf_htons(payload - length);
	new.icmp.checksum = ~fold(sum);
	if (bpf_skb_adjust_room(skb, -(__s32)length, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO))
		return 0;
	payload = bpf_htons(payload - length);
	if (bpf_skb_store_bytes(skb, at, &new, sizeof(new), BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, l3 + 4, &payload, 2, BPF_F_RECOMPUTE_CSUM))
		return -1;
	return 1;
}

/* 1 where the error was about an encapsulated packet of ours, and is about the inner one now; 0: it was not; -1: lost. */
static __always_inline int restore_encapsulated(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	__u32 at = l3 + IPV6_HEADER, behind = at + sizeof(struct quoting);
	struct srh_header *srh = (void *)s->head;
	struct ipv6_header *outer;
	struct quoting old;
	__u64 length = IPV6_HEADER;
	__u16 payload;
	__u8 next;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)) || old.icmp.type < 1 || old.icmp.type > 4)
		return 0;
	next = old.ip6.next_header;
	if (next == NEXT_ROUTING) {
		if (bpf_skb_load_bytes(skb, behind, s->head, HW_SRH_FIXED) || srh->type != 4)
			return 0;
		next = srh->next_header;
		length += (srh->ext_length + 1) * 8;
	}
	if (next != NEXT_IPV6 && next != NEXT_IPV4)
		return 0;
	outer = packet_at(skb, l3, IPV6_HEADER);
	if (!outer || !same16(outer->destination, old.ip6.source))
		return 0;
	payload = bpf_ntohs(outer->payload_length);
	/* Every link carries 1280 bytes (RFC 8200, section 5). */
	if (OUTSIDE(length, IPV6_HEADER, HW_SRH_MAX) || payload < sizeof(old) + length + 8 ||
	    (old.icmp.type == ICMP6_TOO_BIG && bpf_ntohl(old.icmp.info) < IPV6_MIN_MTU))
		return 0;
	if (next == NEXT_IPV4)
		return restore_ipv4(skb, l3, behind + length - IPV6_HEADER, length, &old, s);
	return restore_ipv6(skb, l3, length, payload, &old, s);
}

#endif
