/*
 * The client's memory of routes: one word in place of two look-ups in hash tables. In its lower
 * bits is the slot that a destination, protocol and port were found to have, in the others a
 * keyed hash of them. All of it is forgotten when the agent draws a new settings.memory_seed.
 */
#ifndef HAWKWING_RECALL_H
#define HAWKWING_RECALL_H

#define SLOT_MASK ((1ULL << HW_SLOT_BITS) - 1)

/* The hash of a route, never 0; `port` in wire order. */
static __always_inline __u64 route_hash(const struct ipv6_header *ip6, __u16 port, __u8 protocol, __u64 seed)
{
	const __u32 *d = ip6->destination;
	__u64 hash = mix(mix(seed, d[0] | (__u64)d[1] << 32), d[2] | (__u64)d[3] << 32);

	return mix(hash, port | (__u32)protocol << 16) | 1ULL << 63;
}

/* Where the route of this hash is remembered, if it is. */
static __always_inline __u64 *recall(__u64 hash)
{
	__u32 at = hash & (HW_RECALLED - 1);

	return recalled.lookup(&at);
}

static __always_inline void remember(__u64 hash, __u32 slot)
{
	__u64 *word = recall(hash);

	if (word && slot <= SLOT_MASK)
		*word = (hash & ~SLOT_MASK) | slot;
}

#endif
