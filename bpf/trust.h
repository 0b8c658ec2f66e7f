/* Whose packets an SRH is taken off from: the SR domain (RFC 8754, section 5), and the host's own addresses. */
#ifndef HAWKWING_TRUST_H
#define HAWKWING_TRUST_H

/* Is the address inside the SR domain? */
static __always_inline bool trusted(const volatile struct settings *set, const __u64 *a)
{
	int i;

	for (i = 0; i < HW_MAX_PREFIXES; i++) {
		const volatile struct prefix *p = &set->sr_domain[i];

		if (i >= set->prefixes)
			break;
		if (!(((a[0] & p->mask[0]) ^ p->network[0]) | ((a[1] & p->mask[1]) ^ p->network[1])))
			return true;
	}
	return false;
}

/*
 * Source and every segment have to be inside the SR domain (RFC 8754, section 5.1). What ends a
 * loop is read from memory each time: to the verifier all numbers then look alike.
 */
static __always_inline bool trusted_list(const struct settings *set, const void *source, const void *list,
					 const void *end, __u32 last_entry)
{
	struct scratch *s = scratch_room();
	volatile __u32 *last;
	int i;

	if (!set->prefixes)
		return true;
	if (!s || !trusted(set, source))
		return false;
	last = &s->last_entry;
	*last = last_entry;
	for (i = 0; i < HW_MAX_LIST; i++) {
		if (i > *last)
			return true;
		if (list + i * 16 + 16 > end || !trusted(set, list + i * 16))
			return false;
	}
	return i > *last;
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
