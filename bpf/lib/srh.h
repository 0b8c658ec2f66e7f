/* The Segment Routing Header, RFC 8754 section 2: checking, hashing, reversing. */
#ifndef HAWKWING_SRH_H
#define HAWKWING_SRH_H

/*
 * A keyed hash over the SIDs in [1..last_entry] of the list at `list`; in order,
 * since the same SIDs in another order are another path. 0 is never returned.
 */
static __always_inline __u64 srh_hash(void *list, void *end, __u32 last_entry, __u64 seed)
{
	__u64 h = seed ^ last_entry;
	int i;

	for (i = 1; i < HW_MAX_SEGMENTS; i++) {
		__u32 *w = list + i * 16;

		if (i > last_entry)
			break;
		if ((void *)(w + 4) > end)
			return 0;
		h = (h ^ w[0] ^ ((__u64)w[1] << 32)) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
		h = (h ^ w[2] ^ ((__u64)w[3] << 32)) * 0xbf58476d1ce4e5b9ULL;
		h ^= h >> 32;
	}
	return h ? h : 1;
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
	srh->next_header = 0;
	srh->ext_length = 2 * (last_entry + 1);
	srh->type = 4;
	srh->segments_left = last_entry;
	srh->last_entry = last_entry;
	srh->flags = 0;
	srh->tag = 0;
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
