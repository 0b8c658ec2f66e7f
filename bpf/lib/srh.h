/* The Segment Routing Header, RFC 8754 section 2: comparing and reversing. */
#ifndef HAWKWING_SRH_H
#define HAWKWING_SRH_H

/* Is segment `i` of `count` of the list that arrived the one that `p` has in its place? */
static __always_inline bool srh_same_segment(const struct policy *p, const void *list, __u32 i, __u32 count)
{
	const __u64 *there = list + i * 16;
	const __u64 *back = (void *)&p->srh[HW_SRH_FIXED + ((count + 1 - i) & (HW_MAX_SEGMENTS - 1)) * 16];

	return !((there[0] ^ back[0]) | (there[1] ^ back[1]));
}

/*
 * The way back. arrived: SRH(D, Sk .. S1; SL=0)   reply: SRH(-, S1 .. Sk; SL=k), first segment Sk.
 */
static __always_inline int srh_reverse(struct __sk_buff *skb, __u32 list, __u32 last_entry, struct policy *p)
{
	struct srh_header *srh = (void *)p->srh;
	int i;

	if (last_entry < 1 || last_entry >= HW_MAX_SEGMENTS)
		return -1;
	__builtin_memset(p, 0, sizeof(*p));
	srh->ext_length = 2 * (last_entry + 1);
	srh->type = 4;
	srh->segments_left = last_entry;
	srh->last_entry = last_entry;
	for (i = 1; i < HW_MAX_SEGMENTS; i++) {
		__u64 to;

		if (i > last_entry)
			break;
		to = last_entry + 1 - i;
		if (OUTSIDE(to, 1, HW_MAX_SEGMENTS - 1))
			return -1;
		if (bpf_skb_load_bytes(skb, list + i * 16, p->srh + HW_SRH_FIXED + to * 16, 16))
			return -1;
	}
	if (bpf_skb_load_bytes(skb, list + 16, p->first_segment, 16))
		return -1;
	p->srh_length = HW_SRH_FIXED + 16 * (last_entry + 1);
	return 0;
}

#endif
