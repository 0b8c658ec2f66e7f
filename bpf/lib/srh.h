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
 * `list` is the one that arrived, with zeros behind it, in memory with room for one more than HW_MAX_SEGMENTS; last_entry is less.
 * All of them are copied, zeros too, so that each place is written: without a branch, of which each would double what the verifier goes through.
 */
static __always_inline void srh_reverse(const __u8 *list, __u32 last_entry, struct policy *p)
{
	struct srh_header *srh = (void *)p->srh;
	int i;

	p->srh_length = HW_SRH_FIXED + 16 * (last_entry + 1);
	copy16(p->first_segment, list + 16);
	__builtin_memset(srh, 0, HW_SRH_FIXED);
	srh->ext_length = 2 * (last_entry + 1);
	srh->type = 4;
	srh->segments_left = last_entry;
	srh->last_entry = last_entry;
#pragma unroll
	for (i = 1; i <= HW_MAX_SEGMENTS; i++) {
		__u64 to = last_entry + 1 - i;

		/* LLVM may know the bounds from a comparison that the verifier has lost. */
		BARRIER(to);
		to &= HW_MAX_SEGMENTS - 1;
		copy16(p->srh + HW_SRH_FIXED + to * 16, list + i * 16);
	}
}

/* Loads the fixed part and the segments of the SRH at `at` into `s->srh`, zeros behind them; false: the packet ends before. */
static __always_inline bool load_list(struct __sk_buff *skb, __u32 at, __u32 last_entry, struct scratch *s)
{
	__u64 kept = HW_SRH_FIXED + 16 * (last_entry + 1);

	if (kept > sizeof(s->srh))
		kept = sizeof(s->srh);
	__builtin_memset(__builtin_assume_aligned(s->srh, 8), 0, HW_SRH_MAX + 16);
	return !OUTSIDE(kept, HW_SRH_FIXED + 16, sizeof(s->srh)) && !bpf_skb_load_bytes(skb, at, s->srh, kept);
}

/* Writes the HMAC of a signed path's packet, from `s->hmac`, into its SRH, which ends at `end`. Not 0: it failed. */
static __always_inline int write_hmac(struct __sk_buff *skb, __u32 end, const struct policy *p, struct scratch *s)
{
	return p->signed_as &&
	       bpf_skb_store_bytes(skb, end - sizeof(s->hmac.code), &s->hmac.code, sizeof(s->hmac.code), 0);
}

#endif
