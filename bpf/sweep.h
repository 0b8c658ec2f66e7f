/*
 * What the agent has the data plane do (BPF_PROG_TEST_RUN), because what it counts is counted here alone.
 *
 * Removes flows that were not seen for long, on every part of the table in turn, over and over: an epoch has 8 bits,
 * and no flow may get so old that it would look young again. Gives back the slots of paths.
 */
#ifndef HAWKWING_SWEEP_H
#define HAWKWING_SWEEP_H

/* Where sweeping is: kept in memory, to the verifier every step then looks alike. */
static __always_inline bool sweep_way(const struct settings *set, volatile __u32 *position, __u32 age)
{
	__u32 at = *position, index = at / HW_WAYS, source, *theirs;
	__u64 way = at & (HW_WAYS - 1), *words;
	struct flow_bucket *bucket;

	*position = at + 1;
	bucket = flows.lookup(&index);
	if (!bucket)
		return false;
	words = &bucket->words[way];
	if (!bucket->marks[way] || flow_age(*words, set->epoch) < age)
		return true;
	source = flow_source(*words);
	theirs = sources.lookup(&source);
	if (theirs)
		__sync_fetch_and_add(theirs, -1);
	*(volatile __u64 *)&bucket->marks[way] = 0;
	return true;
}

/* No flow has the path any more, and none finds it: its slot is free, and its source has one path less. */
static __always_inline void give_back(__u32 slot)
{
	struct policy *p = get_policy(slot);
	__u32 source, *theirs;

	if (!p)
		return;
	source = p->source - 1;
	theirs = p->source ? path_sources.lookup(&source) : NULL;
	if (theirs)
		__sync_fetch_and_add(theirs, -1);
	p->source = 0;
	p->srh_length = 0;
	invalidate_flow_cache();
	free_slots.push(&slot, 0);
}

static __always_inline int sweep_flows(struct __sk_buff *skb)
{
	struct settings *set = get_settings();
	struct scratch *s = scratch_room();
	struct sweep_request request;
	int i;

	if (!set || !s || bpf_skb_load_bytes(skb, ETH_HLEN, &request, sizeof(request)))
		return 0;
	if (request.slot) {
		give_back(request.slot);
		return 0;
	}
	*(volatile __u32 *)&s->position = request.first * HW_WAYS;
	for (i = 0; i < HW_SWEPT * HW_WAYS; i++) {
		if (!sweep_way(set, &s->position, request.age))
			break;
	}
	invalidate_flow_cache();
	return 0;
}

#endif
