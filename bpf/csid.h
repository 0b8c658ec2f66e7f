/*
 * Compressed SIDs (RFC 9800, NEXT-C-SID): several SIDs of a block in one segment, a container: the block's prefix,
 * then C-SIDs of 16 bits in travel order, then zeros. On the way back they are in reverse order. All of it is done
 * without branches, each of which would double what the verifier goes through.
 */
#ifndef HAWKWING_CSID_H
#define HAWKWING_CSID_H

#define HIGHEST_BITS 0x8000800080008000ULL	/* of four words of 16 bits */

static __always_inline __u64 reverse_words(__u64 x)
{
	return x << 48 | (x & 0xffff0000) << 16 | (x >> 16 & 0xffff0000) | x >> 48;
}

/* The highest bit of each word that is 0. */
static __always_inline __u64 zero_words(__u64 x)
{
	return ~(((x & ~HIGHEST_BITS) + ~HIGHEST_BITS) | x) & HIGHEST_BITS;
}

/* The highest bit of each word that is `least`, which is above 0x7fff, or more. */
static __always_inline __u64 words_from(__u64 x, __u64 least)
{
	least &= 0x7fff;
	least |= least << 16;
	least |= least << 32;
	return ((x | HIGHEST_BITS) - least) & x & HIGHEST_BITS;
}

/* The block that a segment is of, as far as it is one: without a branch, the only one whose bits fit. */
static __always_inline struct csid_block csid_block_of(const volatile struct settings *set, __u64 first)
{
	struct csid_block found = {};
	__u64 bits = 0, local = 0;
	int i;

#pragma unroll
	for (i = 0; i < HW_MAX_CSID_BLOCKS; i++) {
		const volatile struct csid_block *b = &set->csid[i];
		__u64 fits = -is_zero((first & b->mask) ^ b->network);

		found.mask |= b->mask & fits;
		found.network |= b->network & fits;
		bits |= b->bits & fits;
		local |= b->local & fits;
	}
	found.bits = bits;
	found.local = local;
	return found;
}

/*
 * in:  a segment, as on the wire              (block) 1 2 3 0 0 0
 * out: its C-SIDs in reverse order            (block) 3 2 1 0 0 0
 * Where an empty word is followed by one that isn't, or the segment is of no block, it is no container, and stays as
 * it is. Returns what is not 0 where a C-SID names a link, and so one direction only.
 */
static __always_inline __u64 reverse_container(const volatile struct settings *set, __u64 *segment)
{
	__u64 first = bpf_ntohll(segment[0]), second = bpf_ntohll(segment[1]);
	struct csid_block block = csid_block_of(set, first);
	__u64 mask = block.mask, shift = block.bits;
	__u64 upper = reverse_words(second), lower = reverse_words(first & ~mask);
	__u64 empty = zero_words(first), empty_behind = zero_words(second), gaps, links, container, step;
	int i;

	gaps = empty & ~(empty << 16 | (empty_behind >> 48 & 0x8000)) & ~mask;
	gaps |= empty_behind & ~(empty_behind << 16 | 0x8000);
	container = -(is_zero(gaps) & (is_zero(mask) ^ 1));
	links = (words_from(first & ~mask, block.local) | words_from(second, block.local)) & container;
	/* What was empty behind the C-SIDs is in front of them now. */
#pragma unroll
	for (i = 0; i < 6; i++) {
		step = -is_zero(upper >> 48);
		upper = (upper & ~step) | ((upper << 16 | lower >> 48) & step);
		lower = (lower & ~step) | (lower << 16 & step);
	}
	lower = lower >> (shift & 63) | upper << (-shift & 63);
	upper = upper >> (shift & 63) | block.network;
	segment[0] = bpf_htonll((upper & container) | (first & ~container));
	segment[1] = bpf_htonll((lower & container) | (second & ~container));
	return links;
}

/*
 * All containers of the way back `p`, whose entries are reversed already; true: a C-SID has no way back. Where no block
 * is configured the loop ends at once: one way less than with a condition around it.
 */
static __always_inline bool reverse_containers(const volatile struct settings *set, struct policy *p,
					       volatile __u32 *last)
{
	__u64 links = 0, at = p->srh[4];
	int i;

	*last = at & -(__u64)(is_zero(set->csid_blocks) ^ 1);
	for (i = 1; i < HW_MAX_SEGMENTS; i++) {
		if (i > *last)
			break;
		links |= reverse_container(set, (__u64 *)(p->srh + HW_SRH_FIXED + i * 16));
		BARRIER(links);
	}
	at &= HW_MAX_SEGMENTS - 1;
	copy16(p->first_segment, p->srh + HW_SRH_FIXED + at * 16);
	*last = links >> 32 | links;
	return *last;
}

#endif
