/*
 * The server's flow cache: a comparison instead of the hash and the look-ups in large tables. Each CPU has its own, so
 * that no CPU reads what another one is writing. All of it is invalidated when a known flow gets another path or loses
 * its entry, and by each change from the agent: flow_changes then grows. If two CPUs change the same flow, or use the
 * same place, at the same moment, one change may be missed: the cached entry is then used until the agent's next tick.
 */
#ifndef HAWKWING_FLOW_CACHE_H
#define HAWKWING_FLOW_CACHE_H

/* One pair after the other: LLVM would load all of them first, and have no registers for them. */
#define DIFFER(bits, a, b) do { \
	(bits) |= (a) ^ (b); \
	asm volatile("" : "+r"(bits) : : "memory"); \
} while (0)

static __always_inline __u64 *get_flow_changes(void)
{
	int zero = 0;

	return flow_changes.lookup(&zero);
}

/* To be read before the look-up whose result is cached: a change in between makes the entry invalid. */
static __always_inline __u64 flow_cache_version(void)
{
	__u64 *changes = get_flow_changes();

	return changes ? *(volatile __u64 *)changes : 0;
}

/* To be called once the table says what is new. */
static __always_inline void invalidate_flow_cache(void)
{
	__u64 *changes = get_flow_changes();

	if (changes)
		__sync_fetch_and_add(changes, 1);
}

/* The place of a flow in the cache. */
static __always_inline struct cached_flow *flow_cache_at(const __u32 *remote, __u32 ports)
{
	union stack_word at;

	set_number(&at, (__u32)((ports ^ remote[3]) * 0x9e3779b1) >> (32 - HW_CACHED_FLOW_BITS));
	return cached_flows.lookup(&at.number);
}

/* 0: the cached flow has these ends and is valid. The protocol is left to the caller. */
static __always_inline __u64 cached_flow_difference(const struct cached_flow *r, const void *remote, const void *local,
						 __u32 ports)
{
	const __u64 *there = remote, *here = local;
	__u64 bits = r->valid ^ flow_cache_version();

	DIFFER(bits, r->ports, ports);
	DIFFER(bits, r->remote[0], there[0]);
	DIFFER(bits, r->remote[1], there[1]);
	DIFFER(bits, r->local[0], here[0]);
	DIFFER(bits, r->local[1], here[1]);
	return bits;
}

/*
 * Caches a known flow, without its SRH, if it uses this place for the second time in a row: flows with a single packet
 * must not replace a busy one, nor pay for it.
 */
static __always_inline struct cached_flow *cache_flow(const __u32 *remote, const __u32 *local, __u32 ports,
							   __u8 protocol, __u32 slot, __u64 valid)
{
	struct cached_flow *r = flow_cache_at(remote, ports);
	__u32 candidate = ports ^ remote[3];

	if (unlikely(!r))
		return NULL;
	if (r->candidate != candidate) {
		r->candidate = candidate;
		return NULL;
	}
	copy16(r->remote, remote);
	copy16(r->local, local);
	r->ports = ports;
	r->protocol = protocol;
	r->slot = slot;
	r->valid = valid;
	r->srh = 0;
	return r;
}

/* The SRH, too, whose length is one that is_short_srh knows. */
static __always_inline void cache_srh(struct cached_flow *r, const __u64 *srh, __u64 length, const void *end)
{
	if ((void *)(srh + 5) > end)
		return;
	r->list[0] = srh[3];
	r->list[1] = srh[4];
	if (length > HW_SRH_FIXED + 2 * 16) {
		if ((void *)(srh + 7) > end)
			return;
		r->list[2] = srh[5];
		r->list[3] = srh[6];
	}
	if (length > HW_SRH_FIXED + 3 * 16) {
		if ((void *)(srh + 9) > end)
			return;
		r->list[4] = srh[7];
		r->list[5] = srh[8];
	}
	r->srh = srh[0];
}

#endif
