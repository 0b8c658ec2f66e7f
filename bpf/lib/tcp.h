/* The maximum segment size (RFC 9293, section 3.7.1) has to leave room for the SRH. */
#ifndef HAWKWING_TCP_H
#define HAWKWING_TCP_H

#define TCP_FLAG_SYN 0x02

static __always_inline bool tcp_is_syn(struct __sk_buff *skb, __u32 tcp)
{
	__u64 at = tcp + 13;
	__u8 *flags;

	if (OUTSIDE(at, 1, 1023))
		return false;
	flags = packet_at(skb, at, 1);
	return flags && (*flags & TCP_FLAG_SYN);
}

/* Lowers the MSS option of a SYN to `limit` bytes; true where something changed. */
static __always_inline bool tcp_clamp_mss(struct __sk_buff *skb, __u32 tcp, __u32 limit)
{
	__u32 offset = tcp + 20, end;
	__u8 option[4], length;
	int i;

	if (bpf_skb_load_bytes(skb, tcp + 12, &length, 1))
		return false;
	end = tcp + (length >> 4) * 4;
	for (i = 0; i < 20; i++) {
		if (offset + 4 > end || bpf_skb_load_bytes(skb, offset, option, 4))
			return false;
		if (option[0] == 0)
			return false;
		if (option[0] == 1) {
			offset++;
			continue;
		}
		if (option[0] == 2 && option[1] == 4) {
			__u16 old, new = bpf_htons(limit);

			__builtin_memcpy(&old, option + 2, 2);
			if (bpf_ntohs(old) <= limit)
				return false;
			/* An odd option offset swaps the bytes' places in the sum. */
			if ((offset - tcp) & 1)
				bpf_l4_csum_replace(skb, tcp + 16, bpf_htons(bpf_ntohs(old) << 8 | bpf_ntohs(old) >> 8),
						    bpf_htons(bpf_ntohs(new) << 8 | bpf_ntohs(new) >> 8), 2);
			else
				bpf_l4_csum_replace(skb, tcp + 16, old, new, 2);
			bpf_skb_store_bytes(skb, offset + 2, &new, 2, 0);
			return true;
		}
		if (option[1] < 2)
			return false;
		offset += option[1];
	}
	return false;
}

#endif
