/* The server's flow table over its maps; lib/flows.h says how it works. */
#ifndef HAWKWING_FLOW_TABLE_H
#define HAWKWING_FLOW_TABLE_H

/* Looks the flow up; `place` says whether and where it stands. */
static __always_inline void flow_find(const struct flow_key *key, __u64 hash, volatile struct flow_place *place)
{
	__u32 tag = flow_tag(hash), way;
	int home;

	place->found = 0;
	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(hash, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return;
		for (way = 0; way < HW_WAYS; way++) {
			if (bucket->words[way] >> 32 == tag && same_flow(&bucket->keys[way], key)) {
				place->bucket = index;
				place->way = way;
				place->found = 1;
				return;
			}
		}
	}
}

/* The bucket of a place, and its way within bounds. */
static __always_inline struct flow_bucket *flow_at(volatile struct flow_place *place, __u64 *way)
{
	__u32 index = place->bucket;

	*way = place->way & (HW_WAYS - 1);
	return flows.lookup(&index);
}

/* Counts the taken ways of a home and notes a free one as the place, where there is one. */
static __always_inline __u32 flow_taken(__u64 hash, int home, volatile struct flow_place *place)
{
	__u32 index = flow_home(hash, home), way, taken = 0, free = HW_WAYS;
	struct flow_bucket *bucket = flows.lookup(&index);

	if (!bucket)
		return HW_WAYS;
	for (way = 0; way < HW_WAYS; way++) {
		if (bucket->words[way])
			taken++;
		else
			free = way;
	}
	place->bucket = index;
	place->way = free;
	return taken;
}

/* Of two full homes, the way of an idle flow or of the source with the most flows. */
static __always_inline void flow_choose_victim(__u64 hash, const struct settings *set,
					       volatile struct flow_place *place)
{
	__u8 epoch = set->epoch;
	__u32 way;
	int home;

	for (home = 0; home < 2; home++) {
		__u32 index = flow_home(hash, home);
		struct flow_bucket *bucket = flows.lookup(&index);

		if (!bucket)
			return;
		for (way = 0; way < HW_WAYS; way++) {
			__u32 source, weight, *flows_of;

			source = source_index(bucket->keys[way].remote, set->hash_seed);
			flows_of = sources.lookup(&source);
			if (!flows_of)
				return;
			weight = *flows_of;
			if ((__u8)(epoch - bucket->epochs[way]) >= HW_IDLE_EPOCHS)
				weight = 0xfffffffe;
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
static __always_inline void flow_choose(__u64 hash, const struct settings *set, volatile struct flow_place *place)
{
	__u32 first, second;

	place->source = HW_NO_SLOT;
	place->weight = 0xffffffff;
	first = flow_taken(hash, 0, place);
	if (first <= HW_WAYS / 2)
		return;
	second = flow_taken(hash, 1, place);
	if (second < first)
		return;
	first = flow_taken(hash, 0, place);
	if (first < HW_WAYS)
		return;
	place->weight = 0;
	flow_choose_victim(hash, set, place);
}

/* Makes an entry for a flow that has none; false where no room can be made for its source. */
static __always_inline bool flow_add(const struct flow_key *key, __u64 hash, __u32 slot, const struct settings *set,
				     volatile struct flow_place *place)
{
	__u32 source = source_index(key->remote, set->hash_seed), *mine, *theirs;
	struct flow_bucket *bucket;
	__u64 way;

	mine = sources.lookup(&source);
	if (!mine)
		return false;
	flow_choose(hash, set, place);
	if (!place->weight || place->weight < *mine)
		return false;
	bucket = flow_at(place, &way);
	if (!bucket)
		return false;
	/* Readers on other CPUs find no flow here until the word stands again. */
	*(volatile __u64 *)&bucket->words[way] = 0;
	source = place->source;
	if (source != HW_NO_SLOT) {
		theirs = sources.lookup(&source);
		if (theirs)
			__sync_fetch_and_add(theirs, -1);
		count(HW_INGRESS, HW_FLOW_REPLACED, 0);
	}
	bucket->keys[way] = *key;
	bucket->epochs[way] = set->epoch;
	*(volatile __u64 *)&bucket->words[way] = (__u64)flow_tag(hash) << 32 | slot;
	__sync_fetch_and_add(mine, 1);
	return true;
}

#endif
