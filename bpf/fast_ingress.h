/*
 * The fast path of ingress: TCP except SYN, or UDP except DNS, directly after an SRH directly after the IPv6 header.
 * The SRH ends here and is trusted; on a server the flow is known with the same list. tc and XDP share this; all
 * other packets take the slow path (ingress.h).
 */
#ifndef HAWKWING_FAST_INGRESS_H
#define HAWKWING_FAST_INGRESS_H

struct fast_strip {
	__u64 length;			/* bytes of the SRH */
	__u16 payload;			/* of the packet without it; host order */
	__u8 next;			/* behind it */
	bool told_back;			/* it came over the way back that this host has told */
	__u32 ports;
};

/* SYNs, whose MSS is clamped, and DNS answers, which are read, take the slow path. */
static __always_inline bool is_plain_transport(void *transport, void *end, __u8 next)
{
	__u8 *bytes = transport;

	if (unlikely(transport + 8 > end))
		return false;
	if (likely(next == NEXT_TCP))
		return transport + 14 <= end && !(bytes[13] & TCP_FLAG_SYN);
	return next == NEXT_UDP && *(__u16 *)transport != bpf_htons(DNS_PORT);
}

#ifdef HW_SERVER
/* Is the way back over the `count` SIDs behind segment[0] of `list` the one that `p` has? */
static __always_inline bool is_way_back(const struct policy *p, const void *list, const void *end, __u32 count)
{
	volatile __u32 *kept;
	struct scratch *s;
	int i;

	if (p->srh[4] != count)
		return false;
	/* Short lists with offsets known to the compiler. */
	if (count == 1)
		return list + 32 <= end && srh_same_segment(p, list, 1, 1);
	if (count == 2)
		return list + 48 <= end && srh_same_segment(p, list, 1, 2) && srh_same_segment(p, list, 2, 2);
	if (count == 3)
		return list + 64 <= end && srh_same_segment(p, list, 1, 3) && srh_same_segment(p, list, 2, 3) &&
		       srh_same_segment(p, list, 3, 3);
	/* Kept in memory: to the verifier every number then looks alike. */
	s = scratch_room();
	if (!s)
		return false;
	kept = &s->last_entry;
	*kept = count;
	for (i = 1; i < HW_MAX_SEGMENTS; i++) {
		if (i > *kept)
			break;
		if (list + i * 16 + 16 > end || !srh_same_segment(p, list, i, *kept))
			return false;
	}
	return *kept < HW_MAX_SEGMENTS;
}

/* The length of an SRH with one to three SIDs: these can be cached. */
static __always_inline bool is_short_srh(__u64 length)
{
	return length == HW_SRH_FIXED + 2 * 16 || length == HW_SRH_FIXED + 3 * 16 || length == HW_SRH_SHORT;
}

/* Seen in this epoch with this list: the list was trusted then. */
static __always_inline bool is_known_flow(struct ipv6_header *ip6, __u32 ports, __u8 protocol, void *list,
					  __u64 length, void *end, __u32 sids, const struct settings *set)
{
	struct flow_id id = flow_identify(set, ip6->source, ip6->destination, ports, protocol);
	__u64 valid = flow_cache_version(), word = flow_known(&id);
	struct cached_flow *r;
	struct policy *p;
	__u32 slot;

	/* A list with containers has another way back than its entries in reverse order (csid.h). */
	if (unlikely(!word || flow_epoch(word) != (__u8)set->epoch || set->csid_blocks))
		return false;
	slot = word & HW_SLOT_MASK;
	p = get_policy(slot);
	if (unlikely(!p || !is_way_back(p, list, end, sids)))
		return false;
	if (is_short_srh(length)) {
		r = cache_flow(ip6->source, ip6->destination, ports, protocol, slot, valid);
		if (r)
			cache_srh(r, list - HW_SRH_FIXED, length, end);
	}
	return true;
}

/*
 * Has the same flow come with the very same SRH, of `length` bytes, before? It was then well formed, trusted, and
 * of a known flow.
 */
static __always_inline bool is_cached(const struct ipv6_header *ip6, const void *end, __u32 ports, __u64 length)
{
	const struct cached_flow *r = flow_cache_at(ip6->source, ports);
	const __u64 *words = (void *)(ip6 + 1);
	__u64 bits;

	if (unlikely(!r || (void *)(words + 5) > end))
		return false;
	bits = cached_flow_difference(r, ip6->source, ip6->destination, ports);
	if (bits)
		return false;
	DIFFER(bits, r->srh, words[0]);
	DIFFER(bits, r->local[0], words[1]);
	DIFFER(bits, r->local[1], words[2]);
	DIFFER(bits, r->list[0], words[3]);
	DIFFER(bits, r->list[1], words[4]);
	if (length > HW_SRH_FIXED + 2 * 16) {
		if ((void *)(words + 7) > end)
			return false;
		DIFFER(bits, r->list[2], words[5]);
		DIFFER(bits, r->list[3], words[6]);
	}
	if (length > HW_SRH_FIXED + 3 * 16) {
		if ((void *)(words + 9) > end)
			return false;
		DIFFER(bits, r->list[4], words[7]);
		DIFFER(bits, r->list[5], words[8]);
	}
	return !bits;
}
#endif

/* `ip6` points into the packet, which ends at `end`; a routing header follows it. */
static __always_inline bool takes_fast_path(struct ipv6_header *ip6, void *end, struct fast_strip *a)
{
	struct srh_header *srh = (void *)(ip6 + 1);
	void *list = srh + 1, *transport;
	struct settings *set;
	__u32 last_entry;
	__u16 payload;

	if (unlikely(list + 16 > end))
		return false;
	a->next = srh->next_header;
	a->length = (srh->ext_length + 1) * 8;
	payload = bpf_ntohs(ip6->payload_length);
	if (OUTSIDE(a->length, HW_SRH_FIXED + 16, HW_SRH_MAX) || unlikely(payload < a->length))
		return false;
	a->payload = payload - a->length;
	transport = (void *)srh + a->length;
	if (unlikely(!is_plain_transport(transport, end, a->next)))
		return false;
#ifdef HW_SERVER
	if (likely(is_cached(ip6, end, *(__u32 *)transport, a->length)))
		return true;
#endif
	set = get_settings();
	last_entry = srh->last_entry;
	if (unlikely(!set || set->hmac_links[0] || set->hmac_key || srh->type != 4 || srh->segments_left ||
		     (last_entry + 1) * 16 + HW_SRH_FIXED > a->length || !same16(list, ip6->destination)))
		return false;
#ifdef HW_SERVER
	return last_entry &&
	       is_known_flow(ip6, *(__u32 *)transport, a->next, list, a->length, end, last_entry, set);
#else
	a->told_back = srh->tag == bpf_htons(HW_WAY_BACK_TAG);
	a->ports = *(__u32 *)transport;
	/* Our own probes are not for the stack (health.h). */
	if (unlikely(srh->tag == bpf_htons(HW_PROBE_TAG) ||
		     (set->stamp_port && *(__u16 *)transport == (__u16)set->stamp_port && a->next == NEXT_UDP)))
		return false;
	return is_local(set, ip6->destination) && trusted_packet(set, ip6->source, list, end, last_entry);
#endif
}

#endif
