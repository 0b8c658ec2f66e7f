/*
 * The server's memory of flows: comparing costs less than the hash and the look-ups in big tables that it
 * spares. Each CPU has its own, so that nobody reads what another is writing. All of it is forgotten whenever a known
 * flow gets another path or loses its entry, and whenever the agent changes anything: flow_changes then grows.
 * Two CPUs that change the same flow, or take the same place, at the same moment may leave one unsaid: what
 * was remembered then holds until the agent's next tick.
 */
#ifndef HAWKWING_RECALL_FLOW_H
#define HAWKWING_RECALL_FLOW_H

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

/* To be read before what is remembered is looked up: a change meanwhile then makes it invalid. */
static __always_inline __u64 flows_valid(void)
{
	__u64 *changes = get_flow_changes();

	return changes ? *(volatile __u64 *)changes : 0;
}

/* To be called once the table says what is new. */
static __always_inline void forget_flows(void)
{
	__u64 *changes = get_flow_changes();

	if (changes)
		__sync_fetch_and_add(changes, 1);
}

/* Where a flow is remembered, if it is. */
static __always_inline struct recalled_flow *recall_flow(const __u32 *remote, __u32 ports)
{
	__u32 at = (__u32)((ports ^ remote[3]) * 0x9e3779b1) >> (32 - HW_RECALLED_FLOW_BITS);

	return recalled_flows.lookup(&at);
}

/* 0: the remembered flow has these ends, and what is remembered of it holds. The protocol is left to the caller. */
static __always_inline __u64 recalled_difference(const struct recalled_flow *r, const void *remote, const void *local,
						 __u32 ports)
{
	const __u64 *there = remote, *here = local;
	__u64 bits = r->valid ^ flows_valid();

	DIFFER(bits, r->ports, ports);
	DIFFER(bits, r->remote[0], there[0]);
	DIFFER(bits, r->remote[1], there[1]);
	DIFFER(bits, r->local[0], here[0]);
	DIFFER(bits, r->local[1], here[1]);
	return bits;
}

/*
 * Remembers a known flow, without an SRH that it came with, if it is met here a second time: flows that come
 * by once shall not wipe the one that comes again and again, nor pay for it.
 */
static __always_inline struct recalled_flow *remember_flow(const __u32 *remote, const __u32 *local, __u32 ports,
							   __u8 protocol, __u32 slot, __u64 valid)
{
	struct recalled_flow *r = recall_flow(remote, ports);
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
static __always_inline void remember_srh(struct recalled_flow *r, const __u64 *srh, __u64 length, const void *end)
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
