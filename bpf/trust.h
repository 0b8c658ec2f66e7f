/* The SR domain (RFC 8754, section 5). */
#ifndef HAWKWING_TRUST_H
#define HAWKWING_TRUST_H

/* Is the address inside the SR domain? Words are compared in wire order. */
static __always_inline bool trusted(const struct settings *set, const __u32 *a)
{
	int i;

	for (i = 0; i < HW_MAX_PREFIXES; i++) {
		const struct prefix *p = &set->sr_domain[i];

		if (i >= set->prefixes)
			break;
		if (!(((a[0] & p->mask[0]) ^ p->network[0]) | ((a[1] & p->mask[1]) ^ p->network[1]) |
		      ((a[2] & p->mask[2]) ^ p->network[2]) | ((a[3] & p->mask[3]) ^ p->network[3])))
			return true;
	}
	return false;
}

/* Source and every segment have to be inside the SR domain (RFC 8754, section 5.1). */
static __always_inline bool trusted_list(struct __sk_buff *skb, struct settings *set, __u32 l3, __u32 list,
					 __u32 last_entry)
{
	__u32 a[4];
	int i;

	if (bpf_skb_load_bytes(skb, l3 + 8, a, 16) || !trusted(set, a))
		return false;
	for (i = 0; i < HW_MAX_LIST; i++) {
		if (i > last_entry)
			return true;
		if (bpf_skb_load_bytes(skb, list + i * 16, a, 16) || !trusted(set, a))
			return false;
	}
	return i > last_entry;
}

#ifdef HW_CLIENT
/*
 * The same with a memory: a keyed hash of source and list that was found inside is
 * remembered, which spares most packets the comparison of every segment.
 */
static __always_inline bool trusted_before(struct __sk_buff *skb, struct settings *set, __u32 l3, __u32 list,
					   __u32 last_entry)
{
	struct ipv6_header *ip6 = packet_at(skb, l3, IPV6_HEADER);
	void *segments = packet_at(skb, list, 16);
	__u64 hash, *known;
	__u32 index;

	if (!ip6 || !segments || last_entry >= HW_MAX_SEGMENTS)
		return trusted_list(skb, set, l3, list, last_entry);
	hash = mix(mix(set->memory_seed, ip6->source[0] | (__u64)ip6->source[1] << 32),
		   ip6->source[2] | (__u64)ip6->source[3] << 32);
	hash = mix(mix(hash, ip6->destination[0] | (__u64)ip6->destination[1] << 32),
		   ip6->destination[2] | (__u64)ip6->destination[3] << 32);
	hash = srh_hash(segments, (void *)(long)skb->data_end, last_entry, hash);
	index = hash & (HW_TRUSTED_LISTS - 1);
	known = trusted_lists.lookup(&index);
	if (!known || !hash)
		return trusted_list(skb, set, l3, list, last_entry);
	if (*known == hash)
		return true;
	if (!trusted_list(skb, set, l3, list, last_entry))
		return false;
	*known = hash;
	return true;
}
#endif

#endif
