/* Whose packets an SRH is taken off from: the SR domain (RFC 8754, section 5), and the host's own addresses. */
#ifndef HAWKWING_TRUST_H
#define HAWKWING_TRUST_H

/* 0: the address is inside the prefix. */
static __always_inline __u64 outside_prefix(const volatile struct prefix *p, const __u64 *a)
{
	return ((a[0] & p->mask[0]) ^ p->network[0]) | ((a[1] & p->mask[1]) ^ p->network[1]);
}

/* ::/0: every address is inside, and a list of any length trusted. */
static __always_inline bool is_everything(const volatile struct prefix *p)
{
	return !(p->mask[0] | p->mask[1] | p->network[0] | p->network[1]);
}

/* Is the address inside the SR domain? The first prefix that it is in ends the search. */
static __always_inline bool trusted(const volatile struct settings *set, const __u64 *a)
{
	int i;

#pragma unroll
	for (i = 0; i < HW_MAX_PREFIXES; i++) {
		if (i >= set->prefixes)
			return false;
		if (!outside_prefix(&set->sr_domain[i], a))
			return true;
	}
	return false;
}

/* The same without a branch, for the slow path: what the verifier goes through counts more there than time. */
static __always_inline bool trusted_slowly(const volatile struct settings *set, const __u64 *a)
{
	__u64 found = 0;
	int i;

	/* Prefixes that are not in use have bits outside their mask: no address is in them. */
#pragma unroll
	for (i = 0; i < HW_MAX_PREFIXES; i++)
		found |= is_zero(outside_prefix(&set->sr_domain[i], a));
	return found;
}

/*
 * Source and every segment have to be inside the SR domain (RFC 8754, section 5.1), or the SIDs alone
 * (settings.sids_only): segment[0] is this host itself. For the fast path: the list is in the packet, which ends at `end`. What ends the loop is read from memory each time: to the verifier all numbers
 * then look alike.
 */
static __always_inline bool trusted_packet(const struct settings *set, const void *source, const void *list,
					   const void *end, __u32 last_entry)
{
	struct scratch *s = scratch_room();
	volatile __u32 *last;
	const void *segment;
	int i;

	if (is_everything(&set->sr_domain[0]))
		return true;
	if (!s || (!set->sids_only && !trusted(set, source)))
		return false;
	last = &s->last_entry;
	*last = last_entry;
	for (i = 0; i < HW_MAX_SEGMENTS; i++) {
		if (i > *last)
			return true;
		segment = within((void *)list + i * 16, 16, end);
		if (!segment || (!(i == 0 && set->sids_only) && !trusted(set, segment)))
			return false;
	}
	return i > *last;
}

/* The same of a list in memory with room for `most` segments. */
static __always_inline bool trusted_list(const struct settings *set, const void *source, const void *list,
					 __u32 last_entry, volatile __u32 *last, int most)
{
	int i;

	if (is_everything(&set->sr_domain[0]))
		return true;
	if (!set->sids_only && !trusted_slowly(set, source))
		return false;
	*last = last_entry;
	for (i = 0; i < most; i++) {
		if (i > *last)
			return true;
		if (!(i == 0 && set->sids_only) && !trusted_slowly(set, list + i * 16))
			return false;
	}
	return i > *last;
}

/* Does the interface that the packet came by require an HMAC? The kernel alone can verify it. */
static __always_inline bool requires_hmac(const struct settings *set, __u32 link)
{
	int i;

#pragma unroll
	for (i = 0; i < HW_MAX_HMAC_LINKS; i++) {
		if (!set->hmac_links[i])
			return false;
		if (set->hmac_links[i] == link)
			return true;
	}
	return false;
}

/* Is it an address of this host? */
static __always_inline bool is_local(const struct settings *set, const void *address)
{
	int i;

	for (i = 0; i < HW_OWN_ADDRESSES; i++) {
		if (i >= set->own_addresses)
			break;
		if (same16(set->own[i].bytes, address))
			return true;
	}
	return local_addresses.lookup((struct address *)address);
}

#endif
