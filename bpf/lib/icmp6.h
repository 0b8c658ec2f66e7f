/*
 * ICMPv6 errors (RFC 4443): the Packet Too Big we tell our own sender, and the
 * errors of routers on the path, which quote our packet with its SRH (RFC 8754,
 * section 5.4).
 */
#ifndef HAWKWING_ICMP6_H
#define HAWKWING_ICMP6_H

#define ICMP6_TOO_BIG 2
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_HEADER 8
#define ICMP6_QUOTED 136		/* bytes we quote: IPv6 and 96 more */

struct icmp6_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 info;
};

/* What the checksum of an ICMPv6 message we make covers, in one piece. */
struct icmp6_message {
	__u8 source[16];
	__u8 destination[16];
	__u32 length;
	__u32 next_header;
	struct icmp6_header icmp;
	struct ipv6_header quoted;
	__u8 rest[ICMP6_QUOTED - IPV6_HEADER];
};

/* Keeps the packet's beginning, which the message will quote. */
static __always_inline int icmp6_quote(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	struct icmp6_message *m = (void *)s->quote;

	return bpf_skb_load_bytes(skb, l3, &m->quoted, ICMP6_QUOTED);
}

/*
 * in:  IPv6(A, B) X                      (anything; `quote` was kept)
 * out: IPv6(B, A) ICMPv6(2, mtu; IPv6(A, B) X ..)   to the local stack
 * It comes from where the packet goes to: a host that verifies sources drops its own address as the source of what
 * arrives. B may be multicast, which is nobody's source; then A it is.
 * A quiet one quotes an echo request: the stack lowers the path's MTU, no socket sees an error.
 */
static __always_inline int icmp6_too_big(struct __sk_buff *skb, __u32 l3, __u32 mtu, bool quiet, struct scratch *s)
{
	struct icmp6_message *m = (void *)s->quote;
	struct ipv6_header ip6 = {};
	__u8 mac[6];

	if (mtu < IPV6_MIN_MTU)
		mtu = IPV6_MIN_MTU;
	if (quiet) {
		m->quoted.next_header = NEXT_ICMPV6;
		__builtin_memset(m->rest, 0, 8);
		m->rest[0] = ICMP6_ECHO_REQUEST;
	}
	copy16(m->source, *(__u8 *)m->quoted.destination == 0xff ? m->quoted.source : m->quoted.destination);
	copy16(m->destination, m->quoted.source);
	m->length = bpf_htonl(ICMP6_HEADER + ICMP6_QUOTED);
	m->next_header = bpf_htonl(NEXT_ICMPV6);
	m->icmp.type = ICMP6_TOO_BIG;
	m->icmp.code = 0;
	m->icmp.checksum = 0;
	m->icmp.info = bpf_htonl(mtu);
	m->icmp.checksum = ~fold(sum_difference(NULL, 0, (void *)m, sizeof(*m), 0));

	ip6.version_class_label = bpf_htonl(6 << 28);
	ip6.payload_length = bpf_htons(ICMP6_HEADER + ICMP6_QUOTED);
	ip6.next_header = NEXT_ICMPV6;
	ip6.hop_limit = 255;
	copy16(ip6.source, m->source);
	copy16(ip6.destination, m->destination);

	if (bpf_skb_change_tail(skb, l3 + IPV6_HEADER + ICMP6_HEADER + ICMP6_QUOTED, 0) ||
	    bpf_skb_store_bytes(skb, l3, &ip6, IPV6_HEADER, 0) ||
	    bpf_skb_store_bytes(skb, l3 + IPV6_HEADER, &m->icmp, ICMP6_HEADER + ICMP6_QUOTED, 0))
		return -1;
	if (l3 && (bpf_skb_load_bytes(skb, 6, mac, 6) || bpf_skb_store_bytes(skb, 0, mac, 6, 0)))
		return -1;
	return 0;
}

/*
 * Have we sent a packet from `source` to `destination`, of kind `next` from `transport` on, with an SRH? Errors about
 * others are none of our business (bpf/quoted.h).
 */
static __always_inline bool is_quote_ours(struct __sk_buff *skb, __u32 first_word, const __u32 *source,
					  const __u32 *destination, __u32 transport, __u8 next, __u32 *slot);

/* The bytes of the header that packets over this path tell their way back in (bpf/way_back.h). */
static __always_inline __u32 told_length(__u32 slot);

/*
 * A router on the path carries less than 1280 bytes, the SRH of `length` bytes and what tells the way back, of `told`
 * bytes; a Packet Too Big can't tell the stack less than 1280. Whatever needs more does not tell it; without that it is
 * cut in two by us, or goes without an SRH (bpf/egress.h).
 */
static __always_inline void note_path_mtu(__u32 slot, __u32 mtu, __u64 length, __u32 told)
{
	struct policy *p = policies.lookup(&slot);

	if (p && p->srh_length == length && mtu < IPV6_MIN_MTU + length + told)
		*(volatile __u32 *)&p->path_mtu = mtu;
}

/*
 * in:  IPv6(R, A) ICMPv6(error; IPv6(A, S1) SRH(B, .. S1; SL=n) X)
 * out: IPv6(R, A) ICMPv6(error; IPv6(A, B) X)   MTU, where there is one, less the SRH and what tells the way back
 * A Hop-by-Hop header in the quote stays before X. Returns the bytes removed; 0: not about
 * a packet of ours, or nothing that a router may say; -1: failed half-way.
 */
static __always_inline int icmp6_restore(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	/* Addresses are compared in words of 64 bits. */
	struct {
		struct icmp6_header icmp;
		struct ipv6_header ip6;
	} old __attribute__((aligned(8))), new __attribute__((aligned(8)));
	__u32 at = l3 + IPV6_HEADER, behind = at + sizeof(old), mtu, options = 0, slot = HW_NO_SLOT, told;
	struct srh_header *srh = (void *)s->head;
	__u64 length, hop_by_hop = 0;
	struct ipv6_header *outer;
	__u16 payload, quoted, checksum;
	__s64 sum;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return 0;
	if (old.icmp.type < 1 || old.icmp.type > 4)
		return 0;
	if (old.ip6.next_header == NEXT_HOP_BY_HOP) {
		if (bpf_skb_load_bytes(skb, behind, s->chunk, 8) || s->chunk[0] != NEXT_ROUTING)
			return 0;
		hop_by_hop = (s->chunk[1] + 1) * 8;
		if (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
		    bpf_skb_load_bytes(skb, behind, s->chunk, hop_by_hop))
			return 0;
		behind += hop_by_hop;
	} else if (old.ip6.next_header != NEXT_ROUTING) {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, behind, s->head, HW_SRH_FIXED + 16))
		return 0;
	length = (srh->ext_length + 1) * 8;
	if (srh->type != 4 || OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) ||
	    (srh->last_entry + 1) * 16 + HW_SRH_FIXED > length)
		return 0;
	outer = packet_at(skb, l3, IPV6_HEADER);
	if (!outer || !same16(outer->destination, old.ip6.source))
		return 0;
	payload = bpf_ntohs(outer->payload_length);
	quoted = bpf_ntohs(old.ip6.payload_length);
	if (payload < sizeof(old) + hop_by_hop + length + 8 || (quoted && quoted < hop_by_hop + length))
		return 0;
	/* Every link carries 1280 bytes (RFC 8200, section 5). */
	if (old.icmp.type == ICMP6_TOO_BIG && bpf_ntohl(old.icmp.info) < IPV6_MIN_MTU)
		return 0;
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_load_bytes(skb, behind, s->head, length))
		return 0;
	if (!is_quote_ours(skb, old.ip6.version_class_label, old.ip6.source, (void *)(s->head + HW_SRH_FIXED),
			   behind + length, srh->next_header, &slot))
		return 0;

	new = old;
	copy16(new.ip6.destination, s->head + HW_SRH_FIXED);
	if (!hop_by_hop)
		new.ip6.next_header = srh->next_header;
	/* 0 stands for a payload above 65,535 bytes, and remains. */
	new.ip6.payload_length = quoted ? bpf_htons(quoted - length) : 0;
	if (old.icmp.type == ICMP6_TOO_BIG) {
		mtu = bpf_ntohl(old.icmp.info);
		told = told_length(slot);
		note_path_mtu(slot, mtu, length, told);
		mtu = mtu > IPV6_MIN_MTU + length + told ? mtu - length - told : IPV6_MIN_MTU;
		new.icmp.info = bpf_htonl(mtu);
	}
	checksum = old.icmp.checksum;
	old.icmp.checksum = 0;
	new.icmp.checksum = 0;
	sum = (__u16)~checksum;
	if (hop_by_hop) {
		__builtin_memcpy(&options, s->chunk, 4);
		s->chunk[0] = srh->next_header;
		sum = sum_difference(&options, 4, (void *)s->chunk, 4, sum);
	}
	sum = sum_difference((void *)&old, sizeof(old), (void *)&new, sizeof(new), sum);
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX))
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
	if (hop_by_hop && (OUTSIDE(hop_by_hop, 8, HW_MAX_HOP_BY_HOP) ||
			   bpf_skb_store_bytes(skb, at + sizeof(new), s->chunk, hop_by_hop, BPF_F_RECOMPUTE_CSUM)))
		return -1;
	return length;
}

#endif
