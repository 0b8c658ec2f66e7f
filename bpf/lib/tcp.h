/* The maximum segment size (RFC 9293, section 3.7.1) has to leave room for the SRH. */
#ifndef HAWKWING_TCP_H
#define HAWKWING_TCP_H

#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02

static __always_inline bool tcp_is_syn(struct __sk_buff *skb, __u32 tcp)
{
	__u64 at = tcp + 13;
	union stack_word far;
	__u8 *flags;

	if (!OUTSIDE(at, 1, 1023)) {
		flags = packet_at(skb, at, 1);
		if (flags)
			return *flags & TCP_FLAG_SYN;
	}
	return read_word(skb, at, 1, &far) && (far.bytes[0] & TCP_FLAG_SYN);
}

/*
 * Lowers the MSS option of a SYN to `limit` bytes; true where something changed. The
 * position lives in memory: to the verifier every step then looks alike.
 */
static __always_inline bool tcp_clamp_mss(struct __sk_buff *skb, __u32 tcp, __u32 limit, volatile __u32 *position)
{
	union stack_word length, option, new;
	__u16 old;
	__u32 end;
	int i;

	if (!read_word(skb, tcp + 12, 1, &length))
		return false;
	end = tcp + (length.bytes[0] >> 4) * 4;
	*position = tcp + 20;
	/* Forty bytes of options: at most 36 of one byte before an MSS. */
	for (i = 0; i < 37; i++) {
		__u32 offset = *position;

		if (offset + 4 > end || !read_word(skb, offset, 4, &option) || option.bytes[0] == 0)
			return false;
		if (option.bytes[0] == 2 && option.bytes[1] == 4)
			break;
		if (option.bytes[0] != 1 && option.bytes[1] < 2)
			return false;
		*position = offset + (option.bytes[0] == 1 ? 1 : option.bytes[1]);
	}
	if (i == 37)
		return false;
	old = option.halves[1];
	if (bpf_ntohs(old) <= limit)
		return false;
	clear_word(&new);
	new.halves[0] = bpf_htons(limit);
	/* An odd place swaps the bytes' weights in the sum. */
	if ((*position - tcp) & 1)
		bpf_l4_csum_replace(skb, tcp + 16, __builtin_bswap16(old), __builtin_bswap16(new.halves[0]), 2);
	else
		bpf_l4_csum_replace(skb, tcp + 16, old, new.halves[0], 2);
	bpf_skb_store_bytes(skb, *position + 2, &new, 2, 0);
	return true;
}

#endif
