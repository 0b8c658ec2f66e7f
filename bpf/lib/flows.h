/*
 * The server's flow table: buckets of eight ways in an array, each flow at home in
 * two of them. 48 bytes a flow, and nothing is written but what has changed.
 *
 * When all sixteen ways are taken, room is made at the cost of an idle flow, else
 * of the source that has the most flows, which may be the newcomer's own. So a
 * flood from one source costs no other source an entry.
 */
#ifndef HAWKWING_FLOWS_H
#define HAWKWING_FLOWS_H

static __always_inline __u64 mix(__u64 h, __u64 value)
{
	h = (h ^ value) * 0x9e3779b97f4a7c15ULL;
	return h ^ (h >> 32);
}

static __always_inline __u64 flow_hash(const struct flow_key *key, __u64 seed)
{
	const __u64 *a = (const void *)key;
	__u64 h = mix(mix(mix(mix(seed, a[0]), a[1]), a[2]), a[3]);

	return mix(h, a[4]);
}

static __always_inline __u32 flow_tag(__u64 hash)
{
	return (__u32)hash | 1;
}

/* The two homes of a flow; each half of the hash is spread evenly over the buckets. */
static __always_inline __u32 flow_home(__u64 hash, int which)
{
	__u64 half = which ? mix(hash, 1) >> 32 : hash >> 32;

	return (half * HW_BUCKETS) >> 32;
}

static __always_inline __u32 source_index(const __u8 *address, __u64 seed)
{
	const __u64 *a = (const void *)address;

	return mix(mix(mix(seed, a[0]), a[1]), 2) >> 48;
}

static __always_inline bool same_flow(const struct flow_key *x, const struct flow_key *y)
{
	const __u64 *a = (const void *)x, *b = (const void *)y;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

#endif
