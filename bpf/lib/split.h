/*
 * A datagram that would not fit the MTU with its SRH leaves as two fragments, so
 * that nothing is lost. The stack keeps one path MTU for all that goes to a destination, by
 * whatever path: it is told only where it cuts datagrams itself, into pieces that all are
 * too big. The first fragment carries the `moved` bytes
 * that SRH and Fragment header are written over; what follows is kept in memory
 * while it is sent, and then put back. A checksum that the device was to fill in
 * is filled in here; what it will then write lands in the SRH's tag, at the very
 * place where the UDP checksum was (both at offset 6).
 */
#ifndef HAWKWING_SPLIT_H
#define HAWKWING_SPLIT_H

/* Sum of `length` bytes at `offset`; -1 where the packet ends or 20 chunks are not enough. */
static __always_inline __s64 packet_sum(struct __sk_buff *skb, __u32 offset, __u64 length, struct scratch *s)
{
	__s64 sum = 0;
	int i;

#pragma unroll
	for (i = 0; i < 20; i++) {
		if (length < 512)
			break;
		if (bpf_skb_load_bytes(skb, offset, s->chunk, 512))
			return -1;
		sum = sum_difference(NULL, 0, (void *)s->chunk, 512, sum);
		offset += 512;
		length -= 512;
	}
	if (!length)
		return sum;
	if (length >= 512)
		return -1;
	__builtin_memset(s->chunk, 0, 512);
	/* 1 to 511 as it is, for a verifier that learns nothing of "!= 0". */
	length--;
	BARRIER(length);
	length = (length & 511) + 1;
	if (bpf_skb_load_bytes(skb, offset, s->chunk, length))
		return -1;
	return sum_difference(NULL, 0, (void *)s->chunk, 512, sum);
}

/* Puts the final UDP checksum where only the pseudo-header's sum was. */
static __always_inline int udp_finish_checksum(struct __sk_buff *skb, __u32 l3, __u32 udp, struct scratch *s)
{
	struct {
		__u32 addresses[8];
		__u32 length;
		__u32 next_header;
	} pseudo;
	__u32 length = skb->len - udp;
	__u16 checksum;
	__s64 data;

	if (bpf_skb_load_bytes(skb, l3 + 8, pseudo.addresses, 32) || bpf_skb_load_bytes(skb, udp + 6, &checksum, 2))
		return -1;
	pseudo.length = bpf_htonl(length);
	pseudo.next_header = bpf_htonl(NEXT_UDP);
	/* Only a checksum still to be filled in is ours: right, wrong or none, all others stay. */
	if (checksum != fold(sum_difference(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0)))
		return 0;
	data = packet_sum(skb, udp, length, s);
	if (data < 0)
		return -1;
	if (fold((__u64)checksum + fold(data)) == 0xffff)
		return 0;
	checksum = ~fold(data);
	if (!checksum)
		checksum = 0xffff;
	return bpf_skb_store_bytes(skb, udp + 6, &checksum, 2, 0);
}

/* Writes what differs between both fragments: payload length, place, and whether more follow. */
static __always_inline int write_fragment(struct __sk_buff *skb, __u32 l3, __u32 end, __u64 length,
					  struct ipv6_header *ip6, struct fragment_header *fragment, __u16 offset_flags)
{
	__u32 at = l3 + IPV6_HEADER;

	ip6->payload_length = bpf_htons(end - at);
	fragment->offset_flags = bpf_htons(offset_flags);
	return bpf_skb_store_bytes(skb, l3, ip6, IPV6_HEADER, 0) ||
	       bpf_skb_store_bytes(skb, at + length, fragment, FRAGMENT_HEADER, 0);
}

/*
 * in:  IPv6(A, B) X, or IPv6(A, B) Fragment X; L bytes
 * out: IPv6(A, S1) SRH(B, .. S1; SL=k) Fragment(0, more) X[..n]              sent
 *      IPv6(A, S1) SRH(B, .. S1; SL=k) Fragment(n, last) X[n..]     L bytes, left in skb
 * `fragment_at` is 0 or the offset of the Fragment header right behind IPv6; where it is 0, `s->fragment` has the
 * identification to be used.
 */
static __always_inline int split_in_two(struct __sk_buff *skb, __u32 l3, __u8 next, __u32 fragment_at,
					struct policy *p, struct scratch *s)
{
	__u64 length = p->srh_length, moved, rest;
	__u32 at = l3 + IPV6_HEADER, first, body, end = skb->len;
	struct fragment_header fragment = { .next_header = next };
	struct ipv6_header ip6;
	__u16 offset = 0, more = 0;

	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || bpf_skb_load_bytes(skb, l3, &ip6, IPV6_HEADER))
		return -1;
	moved = length + FRAGMENT_HEADER;
	body = at + length + FRAGMENT_HEADER;
	if (end < body + moved)
		return -1;
	if (fragment_at) {
		if (fragment_at != at || bpf_skb_load_bytes(skb, at, &fragment, FRAGMENT_HEADER))
			return -1;
		offset = bpf_ntohs(fragment.offset_flags) & 0xfff8;
		more = bpf_ntohs(fragment.offset_flags) & 1;
		first = at + FRAGMENT_HEADER;
		moved = length;
	} else {
		if (next == NEXT_UDP && udp_finish_checksum(skb, l3, at, s))
			return -1;
		fragment.identification = s->fragment.identification;
		first = at;
	}
	/* Both kinds look alike from here on. */
	*(volatile __u32 *)&s->position = moved;
	moved = *(volatile __u32 *)&s->position;
	*(volatile __u32 *)&s->position = first;
	first = *(volatile __u32 *)&s->position;
	*(volatile __u32 *)&s->position = offset | more;
	offset = *(volatile __u32 *)&s->position;
	more = offset & 1;
	offset &= 0xfff8;
	rest = end - body;
	if (OUTSIDE(moved, 8, HW_SRH_MAX + FRAGMENT_HEADER) || bpf_skb_load_bytes(skb, first, s->head, moved))
		return -1;
	if (OUTSIDE(rest, 8, HW_MAX_SPLIT) || bpf_skb_load_bytes(skb, body, s->rest, rest))
		return -1;

	copy16(s->head + 512, ip6.destination);
	ip6.next_header = NEXT_ROUTING;
	copy16(ip6.destination, p->first_segment);
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX))
		return -1;
	next = NEXT_FRAGMENT;
	if (bpf_skb_store_bytes(skb, at, p->srh, length, 0) || write_hmac(skb, at + length, p, s) ||
	    bpf_skb_store_bytes(skb, at, &next, 1, 0) ||
	    bpf_skb_store_bytes(skb, at + HW_SRH_FIXED, s->head + 512, 16, 0) ||
	    write_fragment(skb, l3, body + moved, length, &ip6, &fragment, offset | 1))
		return -1;
	if (OUTSIDE(moved, 8, HW_SRH_MAX + FRAGMENT_HEADER) || bpf_skb_store_bytes(skb, body, s->head, moved, 0) ||
	    bpf_skb_change_tail(skb, body + moved, 0) || bpf_clone_redirect(skb, skb->ifindex, 0))
		return -1;

	if (bpf_skb_change_tail(skb, end, 0) ||
	    write_fragment(skb, l3, end, length, &ip6, &fragment, (offset + moved) | more))
		return -1;
	if (OUTSIDE(rest, 8, HW_MAX_SPLIT) || bpf_skb_store_bytes(skb, body, s->rest, rest, 0))
		return -1;
	return 0;
}

#endif
