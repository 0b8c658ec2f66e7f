/* The server's flow table over its maps; lib/flows.h says how it works. */
#ifndef HAWKWING_FLOW_TABLE_H
#define HAWKWING_FLOW_TABLE_H

/* The word of a way; its bounds are the verifier's. */
static __always_inline __u64 *flow_at(volatile struct flow_place *place)
{
	__u32 index = place->bucket;
	__u64 way = place->way & (HW_WAYS - 1);
	struct flow_bucket *bucket = flows.lookup(&index);

	if (!bucket)
		return NULL;
	/* LLVM would add before it compares. */
	BARRIER(bucket);
	return &bucket->words[way];
}

/*
 * The word of a known flow, else 0. Its value, not its place: to the verifier all ways of a
 * bucket then lead to the same state.
 */
static __always_inline __u64 flow_known(const struct flow_id *id)
{
	__u64 word;
	__u32 way;
	int home;

	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(id, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (unlikely(!bucket))
			return 0;
#pragma unroll
		for (way = 0; way < HW_WAYS; way++) {
			if (bucket->marks[way] == id->mark) {
				word = *(volatile __u64 *)&bucket->words[way];
				if (likely(flow_owns(word, id->rest)))
					return word;
			}
		}
	}
	return 0;
}

/* The place of a flow's word, or NULL. */
static __always_inline __u64 *flow_find(const struct flow_id *id, volatile struct flow_place *place)
{
	__u32 way;
	int home;

	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(id, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return NULL;
#pragma unroll
		for (way = 0; way < HW_WAYS; way++) {
			if (bucket->marks[way] == id->mark && flow_owns(bucket->words[way], id->rest)) {
				place->bucket = index;
				place->way = way;
				goto found;
			}
		}
	}
	return NULL;
found:
	return flow_at(place);
}

/* Counts the taken ways of a home and notes a free one as the place, where there is one. */
static __always_inline __u32 flow_taken(const struct flow_id *id, int home, volatile struct flow_place *place)
{
	__u64 free = HW_WAYS, taken = HW_WAYS, is_free;
	__u32 index = flow_home(id, home), way;
	struct flow_bucket *bucket = flows.lookup(&index);

	if (!bucket)
		return HW_WAYS;
	/* The first of the free ones will be taken: it is the first to be compared. */
#pragma unroll
	for (way = HW_WAYS; way-- > 0;) {
		is_free = is_zero(bucket->marks[way]);
		taken -= is_free;
		free += is_free * (way - free);
	}
	place->bucket = index;
	place->way = free;
	return taken;
}

/*
 * Of two full homes, the way of the source with the most flows; an idle flow counts as if its source had a fair
 * share at least. The weight is twice the number, and one more of an idle flow: of equals it goes first.
 */
static __always_inline void flow_choose_victim(const struct flow_id *id, __u8 epoch, __u32 fair,
					       volatile struct flow_place *place)
{
	__u32 way;
	int home;

	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(id, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return;
		for (way = 0; way < HW_WAYS; way++) {
			__u32 source = flow_source(bucket->words[way]), weight, *flows_of;

			flows_of = sources.lookup(&source);
			if (!flows_of)
				return;
			weight = *flows_of;
			if (flow_age(bucket->words[way], epoch) >= HW_IDLE_EPOCHS) {
				if (weight < fair)
					weight = fair;
				weight += weight + 1;
			} else {
				weight += weight;
			}
			if (weight > place->weight) {
				place->bucket = index;
				place->way = way;
				place->weight = weight;
				place->source = source;
			}
		}
	}
}

/*
 * Chooses where a new flow goes. The first home while it is half empty, so that most
 * look-ups end there; then the emptier one, so that none is full before its time.
 */
static __always_inline void flow_choose(const struct flow_id *id, __u8 epoch, __u32 fair, volatile struct flow_place *place)
{
	__u32 first, second;

	place->source = HW_NO_SLOT;
	place->weight = 0xffffffff;
	first = flow_taken(id, 0, place);
	if (first <= HW_WAYS / 2)
		return;
	second = flow_taken(id, 1, place);
	if (second < first)
		return;
	first = flow_taken(id, 0, place);
	if (first < HW_WAYS)
		return;
	place->weight = 0;
	flow_choose_victim(id, epoch, fair, place);
}

/* Makes an entry for a flow that has none; false where no room can be made for its source. */
static __always_inline bool flow_add(const struct flow_id *id, __u32 slot, __u8 epoch, __u32 fair,
				     volatile struct flow_place *place)
{
	__u32 source = flow_source(id->rest), index, *mine, *theirs;
	struct flow_bucket *bucket;
	__u64 way;

	mine = sources.lookup(&source);
	if (!mine)
		return false;
	flow_choose(id, epoch, fair, place);
	if (!place->weight || place->weight / 2 < *mine)
		return false;
	index = place->bucket;
	way = place->way & (HW_WAYS - 1);
	bucket = flows.lookup(&index);
	if (!bucket)
		return false;
	/* Readers on other CPUs find no flow here until the mark stands again. */
	*(volatile __u64 *)&bucket->marks[way] = 0;
	source = place->source;
	if (source != HW_NO_SLOT) {
		theirs = sources.lookup(&source);
		if (theirs)
			__sync_fetch_and_add(theirs, -1);
		count(HW_INGRESS, HW_FLOW_REPLACED, 0);
	}
	forget_told(index, way);
	*(volatile __u64 *)&bucket->words[way] = flow_word(id->rest, slot, epoch);
	*(volatile __u64 *)&bucket->marks[way] = id->mark;
	if (source != HW_NO_SLOT)
		invalidate_flow_cache();
	__sync_fetch_and_add(mine, 1);
	return true;
}

#endif
