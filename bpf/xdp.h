/*
 * The other way in: XDP, before the kernel has made an skb. It removes the SRH of
 * packets that are nothing special, on a server those of known flows; all others
 * go up as they are to the tc program behind it, which does everything.
 */
#ifndef HAWKWING_XDP_H
#define HAWKWING_XDP_H

struct xdp_headers {
	__u8 ethernet[ETH_HLEN];
	struct ipv6_header ip6;
} __attribute__((packed));

/* Without SYN, which is told how much fits, and DNS answers, which are read. */
static __always_inline bool xdp_ordinary(void *transport, void *end, __u8 next)
{
	__u8 *bytes = transport;

	if (next == NEXT_TCP)
		return transport + 14 <= end && !(bytes[13] & TCP_FLAG_SYN);
	return next == NEXT_UDP && transport + 8 <= end && *(__u16 *)transport != bpf_htons(53);
}

#ifdef HW_SERVER
static __always_inline bool xdp_known(struct xdp_headers *h, __u16 *ports, __u8 protocol, __u64 list_hash,
				      struct settings *set, struct scratch *s)
{
	struct flow_bucket *bucket;
	struct flow_key flow = {};
	struct policy *p;
	__u32 slot;
	__u64 way;

	copy16(flow.remote, h->ip6.source);
	copy16(flow.local, h->ip6.destination);
	flow.remote_port = ports[0];
	flow.local_port = ports[1];
	flow.protocol = protocol;
	flow_find(&flow, flow_hash(&flow, set->hash_seed), &s->place);
	bucket = flow_at(&s->place, &way);
	if (!s->place.found || !bucket)
		return false;
	slot = (__u32)bucket->words[way];
	p = policies.lookup(&slot);
	return p && p->list_hash == list_hash && bucket->epochs[way] == (__u8)set->epoch;
}
#else
static __always_inline bool xdp_trusted(struct xdp_headers *h, void *list, void *end, __u32 last_entry,
					struct settings *set)
{
	__u32 a[4];
	int i;

	if (!set->prefixes)
		return true;
	copy16(a, h->ip6.source);
	if (!trusted(set, a))
		return false;
	for (i = 0; i < HW_MAX_SEGMENTS; i++) {
		if (i > last_entry)
			return true;
		if (list + i * 16 + 16 > end)
			return false;
		copy16(a, list + i * 16);
		if (!trusted(set, a))
			return false;
	}
	return i > last_entry;
}
#endif

/* in: Ethernet IPv6(C, D) SRH(D, Sk .. S1; SL=0) X   out: Ethernet IPv6(C, D) X */
static __always_inline int xdp_strip(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *list, *transport;
	struct settings *set = get_settings();
	struct scratch *s = scratch_room();
	struct xdp_headers *h = data, kept;
	struct srh_header *srh;
	__u32 last_entry, bytes = end - data;
	__u16 payload;
	__u64 length;
	__u8 next;

	srh = (void *)(h + 1);
	list = srh + 1;
	if (!set || !s || list + 16 > end || *(__u16 *)(data + 12) != bpf_htons(ETH_P_IPV6) ||
	    h->ip6.next_header != NEXT_ROUTING || srh->type != 4 || srh->segments_left)
		return XDP_PASS;
	length = (srh->ext_length + 1) * 8;
	last_entry = srh->last_entry;
	next = srh->next_header;
	payload = bpf_ntohs(h->ip6.payload_length);
	if (OUTSIDE(length, HW_SRH_FIXED + 16, HW_SRH_MAX) || (last_entry + 1) * 16 + HW_SRH_FIXED > length ||
	    payload < length || !same16(list, h->ip6.destination))
		return XDP_PASS;
	transport = (void *)srh + length;
	if (transport + 8 > end || !xdp_ordinary(transport, end, next))
		return XDP_PASS;
#ifdef HW_SERVER
	if (!last_entry || !xdp_known(h, transport, next, srh_hash(list, end, last_entry, set->hash_seed), set, s))
		return XDP_PASS;
#else
	if (!local_addresses.lookup((struct address *)h->ip6.destination) ||
	    !xdp_trusted(h, list, end, last_entry, set))
		return XDP_PASS;
#endif
	__builtin_memcpy(&kept, h, sizeof(kept));
	kept.ip6.payload_length = bpf_htons(payload - length);
	kept.ip6.next_header = next;
	if (bpf_xdp_adjust_head(ctx, length))
		return XDP_PASS;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	h = data;
	if ((void *)(h + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(h, &kept, sizeof(kept));
	count(HW_INGRESS, HW_STRIPPED, bytes);
	return XDP_PASS;
}

#endif
