/* The maximum segment size (RFC 9293, section 3.7.1) has to leave room for the SRH. */
#ifndef HAWKWING_TCP_H
#define HAWKWING_TCP_H

#define TCP_FLAG_SYN 0x02

static __always_inline bool tcp_is_syn(struct __sk_buff *skb, __u32 tcp)
{
	__u64 at = tcp + 13;
	__u8 *flags, far;

	if (!OUTSIDE(at, 1, 1023)) {
		flags = packet_at(skb, at, 1);
		if (flags)
			return *flags & TCP_FLAG_SYN;
	}
	return !bpf_skb_load_bytes(skb, at, &far, 1) && (far & TCP_FLAG_SYN);
}

/*
 * Lowers the MSS option of a SYN to `limit` bytes; true where something changed. The
 * position lives in memory: to the verifier every step then looks alike.
 */
static __always_inline bool tcp_clamp_mss(struct __sk_buff *skb, __u32 tcp, __u32 limit, volatile __u32 *position)
{
	__u8 option[4], length;
	__u16 old, new;
	__u32 end;
	int i;

	if (bpf_skb_load_bytes(skb, tcp + 12, &length, 1))
		return false;
	end = tcp + (length >> 4) * 4;
	*position = tcp + 20;
	/* Forty bytes of options: at most 36 of one byte before an MSS. */
	for (i = 0; i < 37; i++) {
		__u32 offset = *position;

		if (offset + 4 > end || bpf_skb_load_bytes(skb, offset, option, 4) || option[0] == 0)
			return false;
		if (option[0] == 2 && option[1] == 4)
			break;
		if (option[0] != 1 && option[1] < 2)
			return false;
		*position = offset + (option[0] == 1 ? 1 : option[1]);
	}
	if (i == 37)
		return false;
	__builtin_memcpy(&old, option + 2, 2);
	if (bpf_ntohs(old) <= limit)
		return false;
	new = bpf_htons(limit);
	/* An odd place swaps the bytes' weights in the sum. */
	if ((*position - tcp) & 1)
		bpf_l4_csum_replace(skb, tcp + 16, __builtin_bswap16(old), __builtin_bswap16(new), 2);
	else
		bpf_l4_csum_replace(skb, tcp + 16, old, new, 2);
	bpf_skb_store_bytes(skb, *position + 2, &new, 2, 0);
	return true;
}

#endif
