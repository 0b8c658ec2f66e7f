/* What a server learns: the way back over a list, and whose flow it belongs to. */
#ifndef HAWKWING_LEARN_H
#define HAWKWING_LEARN_H

/* The slot of the way back over the list that arrived; made where it is new. */
static __always_inline __u32 path_slot(struct __sk_buff *skb, __u32 list, __u32 last_entry, __u64 hash)
{
	__u32 *known = paths.lookup(&hash), slot;
	struct scratch *s;

	if (known)
		return *known;
	s = scratch_room();
	if (!s || srh_reverse(skb, list, last_entry, &s->policy))
		return HW_NO_SLOT;
	s->policy.list_hash = hash;
	if (free_slots.pop(&slot))
		return HW_NO_SLOT;
	policies.update(&slot, &s->policy);
	if (!paths.insert(&hash, &slot))
		return slot;
	/* Another CPU was faster with the same path, or there is no room. */
	free_slots.push(&slot, 0);
	known = paths.lookup(&hash);
	return known ? *known : HW_NO_SLOT;
}

/* Remembers the way back for this flow, which may be known with another one. */
static __always_inline void learn(struct __sk_buff *skb, const struct settings *set, struct flow_key *flow,
				  __u64 flow_hash, struct scratch *s, __u32 list, __u32 last_entry, __u64 list_hash)
{
	struct flow_bucket *bucket;
	__u32 slot;
	__u64 way;

	if (last_entry >= HW_MAX_SEGMENTS) {
		count(HW_INGRESS, HW_LIST_TOO_LONG, skb->len);
		return;
	}
	slot = path_slot(skb, list, last_entry, list_hash);
	if (slot == HW_NO_SLOT) {
		count(HW_INGRESS, HW_PATHS_FULL, skb->len);
		return;
	}
	if (s->place.found) {
		bucket = flow_at(&s->place, &way);
		if (!bucket)
			return;
		bucket->epochs[way] = set->epoch;
		if ((__u32)bucket->words[way] == slot)
			return;
		bucket->words[way] = (__u64)flow_tag(flow_hash) << 32 | slot;
	} else if (!flow_add(flow, flow_hash, slot, set, &s->place)) {
		count(HW_INGRESS, HW_FLOWS_FULL, skb->len);
		return;
	}
	count(HW_INGRESS, HW_LEARNED, skb->len);
}

#endif
