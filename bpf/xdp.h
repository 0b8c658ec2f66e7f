/*
 * The other way in: XDP, before the kernel has made an skb. It removes the SRH of
 * packets that are nothing special (fast_ingress.h); all others go up as they are to the
 * tc program behind it, which does everything.
 */
#ifndef HAWKWING_XDP_H
#define HAWKWING_XDP_H

struct xdp_headers {
	__u8 ethernet[ETH_HLEN];
	struct ipv6_header ip6;
} __attribute__((packed));

/* in: Ethernet IPv6(C, D) SRH(D, Sk .. S1; SL=0) X   out: Ethernet IPv6(C, D) X */
static __always_inline int xdp_strip(struct xdp_md *ctx)
{
	void *data = CONTEXT_POINTER(ctx, struct xdp_md, data);
	void *end = CONTEXT_POINTER(ctx, struct xdp_md, data_end);
	struct xdp_headers *h = data, kept;
	__u32 bytes = end - data;
	struct fast_strip a;

	h = within(h, sizeof(*h) + 4, end);
	if (!h || *(__u16 *)&h->ethernet[12] != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
#ifdef HW_SERVER
	if (h->ip6.next_header == NEXT_TCP || h->ip6.next_header == NEXT_UDP) {
		struct settings *set = get_settings();

		if (set)
			end_flow(set, &h->ip6, (void *)(h + 1), h->ip6.next_header, bytes);
		return XDP_PASS;
	}
#endif
	if (h->ip6.next_header != NEXT_ROUTING || !takes_fast_path(&h->ip6, end, &a))
		return XDP_PASS;
	__builtin_memcpy(&kept, h, sizeof(kept));
	kept.ip6.payload_length = bpf_htons(a.payload);
	kept.ip6.next_header = a.next;
	if (bpf_xdp_adjust_head(ctx, a.length))
		return XDP_PASS;
	data = CONTEXT_POINTER(ctx, struct xdp_md, data);
	end = CONTEXT_POINTER(ctx, struct xdp_md, data_end);
	h = data;
	if ((void *)(h + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(h, &kept, sizeof(kept));
	count(HW_INGRESS, HW_STRIPPED, bytes);
#ifdef HW_CLIENT
	if (unlikely(a.told_back)) {
		note_use(&kept.ip6, (void *)&a.ports, a.next);
		count(HW_INGRESS, HW_WAY_BACK_USED, bytes);
	}
#endif
	return XDP_PASS;
}

#endif
