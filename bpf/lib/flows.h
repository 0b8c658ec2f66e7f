/*
 * The server's flow table: buckets of eight ways in an array, each flow at home in
 * two of them. 16 bytes a flow, nothing is written but what has changed, and a known
 * flow is one or two neighbouring cache lines away.
 *
 * A flow is known by 84 bits of a keyed hash of its 5-tuple. The first 64 are the upper halves
 * of two sums of products, "multilinear-HM" of Lemire and Kaser, "Strongly universal string
 * hashing is fast" (The Computer Journal 57, 2014), the second with the keys shifted by two: as
 * long as the keys are secret, any two flows agree in them once in 2^62 times at the most.
 *
 * When all sixteen ways are taken, room is made at the cost of the source that has the
 * most flows, which may be the newcomer's own, or of an idle flow while the newcomer's source has
 * no more than its share. So a flood from one source (a /64) costs no other source an entry.
 */
#ifndef HAWKWING_FLOWS_H
#define HAWKWING_FLOWS_H

#define HW_SLOT_MASK ((1ULL << HW_SLOT_BITS) - 1)
#define HW_SOURCE_SHIFT (HW_SLOT_BITS + HW_EPOCH_BITS)
#define HW_REST_SHIFT (HW_SOURCE_SHIFT + HW_SOURCE_BITS)

/* What the table knows of a flow. */
struct flow_id {
	__u64 mark;			/* never 0 */
	__u64 buckets;			/* how many the table has */
	__u64 rest;			/* the bits of a word that don't change: more of the hash, and the source */
};

/* One pair after the other: LLVM would load all keys first, and have no registers for them. */
#define FLOW_PAIR(k, a, b) do { \
	__u64 a_ = (a), b_ = (b); \
	first += (a_ + key[k]) * (b_ + key[(k) + 1]); \
	second += (a_ + key[(k) + 2]) * (b_ + key[(k) + 3]); \
	asm volatile("" : "+r"(first), "+r"(second) : : "memory"); \
} while (0)

/* `remote` and `local` are addresses as on the wire; `ports`: see flow_ports. */
static __always_inline struct flow_id flow_identify(const struct settings *set, const __u32 *remote,
						    const __u32 *local, __u32 ports, __u8 protocol)
{
	const __u64 *key = set->flow_keys;
	__u64 first = 0, second = 0, source;
	struct flow_id id;

	FLOW_PAIR(0, remote[0], remote[1]);
	source = first >> (64 - HW_SOURCE_BITS);
	FLOW_PAIR(2, remote[2], remote[3]);
	FLOW_PAIR(4, local[0], local[1]);
	FLOW_PAIR(6, local[2], local[3]);
	FLOW_PAIR(8, ports, protocol);
	/* One to one; without it, flows that follow a pattern would crowd in some of the buckets. */
	id.mark = (first & 0xffffffff00000000ULL) | second >> 32;
	id.mark = (id.mark ^ id.mark >> 32) * 0x9e3779b97f4a7c15ULL;
	id.mark ^= id.mark >> 32;
	/* Without a branch. */
	id.mark |= is_zero(id.mark);
	id.buckets = set->buckets;
	id.rest = (first ^ second) << HW_REST_SHIFT | source << HW_SOURCE_SHIFT;
	return id;
}

/* The index of a source: of all addresses of its /64, of which one sender may use as many as it likes. */
static __always_inline __u32 flow_source_of(const struct settings *set, const __u32 *remote)
{
	return (((__u64)remote[0] + set->flow_keys[0]) * ((__u64)remote[1] + set->flow_keys[1])) >> (64 - HW_SOURCE_BITS);
}

/* The two homes of a flow: each half of the mark is spread evenly over the buckets. */
static __always_inline __u32 flow_home(const struct flow_id *id, int which)
{
	__u64 half = which ? (__u32)id->mark : id->mark >> 32;

	return (half * id->buckets) >> 32;
}

/* Both ends' ports, given in wire order, as they stand in a packet from the remote end. */
static __always_inline __u32 flow_ports(__u16 remote, __u16 local)
{
	__u16 both[2] = { remote, local };
	__u32 ports;

	__builtin_memcpy(&ports, both, 4);
	return ports;
}

static __always_inline __u64 flow_word(__u64 rest, __u32 slot, __u8 epoch)
{
	return rest | (__u64)epoch << HW_SLOT_BITS | slot;
}

/* Is this the word of the flow with these bits? */
static __always_inline bool flow_owns(__u64 word, __u64 rest)
{
	return !((word ^ rest) >> HW_SOURCE_SHIFT);
}

static __always_inline __u8 flow_epoch(__u64 word)
{
	return word >> HW_SLOT_BITS;
}

/* Epochs since the flow was last seen. None is kept for as long as would make the difference wrap (sweep.h). */
static __always_inline __u32 flow_age(__u64 word, __u32 epoch)
{
	return (__u8)(epoch - flow_epoch(word));
}

static __always_inline __u32 flow_source(__u64 word)
{
	return (word >> HW_SOURCE_SHIFT) & ((1 << HW_SOURCE_BITS) - 1);
}

#endif
