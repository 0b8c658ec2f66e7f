/*
 * The server's memory of flows: one comparison in place of a hash and three look-ups. Each CPU has
 * its own, so that nobody reads what another is writing. All of it is forgotten whenever a known flow gets another
 * path or loses its entry, and whenever the agent changes anything: flow_changes then grows.
 */
#ifndef HAWKWING_RECALL_FLOW_H
#define HAWKWING_RECALL_FLOW_H

/* One pair after the other: LLVM would load all of them first, and have no registers for them. */
#define DIFFER(bits, a, b) do { \
	(bits) |= (a) ^ (b); \
	asm volatile("" : "+r"(bits) : : "memory"); \
} while (0)

/* To be read before what is remembered is looked up: a change meanwhile then makes it invalid. */
static __always_inline __u64 flows_valid(void)
{
	__u64 *changes;
	int zero = 0;

	changes = flow_changes.lookup(&zero);
	return changes ? *(volatile __u64 *)changes : 0;
}

/* To be called once the table says what is new. */
static __always_inline void forget_flows(void)
{
	__u64 *changes;
	int zero = 0;

	changes = flow_changes.lookup(&zero);
	if (changes)
		__sync_fetch_and_add(changes, 1);
}

/* Where a flow with these ports is remembered, if it is. */
static __always_inline struct recalled_flow *recall_flow(__u32 ports)
{
	__u32 at = (__u32)(ports * 0x9e3779b1) >> (32 - HW_RECALLED_FLOW_BITS);

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

/* Remembers a known flow; `srh` is the one it came with, or NULL, and the packet ends at `end`. */
static __always_inline void remember_flow(const void *remote, const void *local, __u32 ports, __u8 protocol,
					  __u32 slot, __u64 valid, const __u64 *srh, const void *end)
{
	struct recalled_flow *r = recall_flow(ports);
	int i;

	if (unlikely(!r))
		return;
	copy16(r->remote, remote);
	copy16(r->local, local);
	r->ports = ports;
	r->protocol = protocol;
	r->slot = slot;
	r->valid = valid;
	r->srh = 0;
	if (!srh || (void *)srh + HW_SRH_SHORT > end)
		return;
	r->srh = srh[0];
	for (i = 0; i < 6; i++)
		r->list[i] = srh[3 + i];
}

#endif
