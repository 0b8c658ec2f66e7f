/* What a server learns: the way back over a list, and whose flow it belongs to. */
#ifndef HAWKWING_LEARN_H
#define HAWKWING_LEARN_H

/* The slot of the way back over the list that arrived; made where it is new. */
static __always_inline __u32 path_slot(struct __sk_buff *skb, __u32 list, __u32 last_entry, struct scratch *s)
{
	struct path_key *key = (void *)s->policy.srh;
	__u32 *known, slot;

	if (srh_reverse(skb, list, last_entry, &s->policy))
		return HW_NO_SLOT;
	known = paths.lookup(key);
	if (known)
		return *known;
	if (free_slots.pop(&slot))
		return HW_NO_SLOT;
	policies.update(&slot, &s->policy);
	if (!paths.insert(key, &slot))
		return slot;
	/* Another CPU was faster with the same path, or there is no room. */
	free_slots.push(&slot, 0);
	known = paths.lookup(key);
	return known ? *known : HW_NO_SLOT;
}

/* Remembers the way back for this flow; `word` is what is known of it. */
static __always_inline void learn(struct __sk_buff *skb, __u8 epoch, const struct flow_id *id, __u64 *word,
				  struct scratch *s, __u32 list, __u32 last_entry)
{
	__u32 slot;

	if (last_entry >= HW_MAX_SEGMENTS) {
		count(HW_INGRESS, HW_LIST_TOO_LONG, skb->len);
		return;
	}
	slot = path_slot(skb, list, last_entry, s);
	if (slot == HW_NO_SLOT) {
		count(HW_INGRESS, HW_PATHS_FULL, skb->len);
		return;
	}
	if (word) {
		bool same = (*word & HW_SLOT_MASK) == slot;

		*word = flow_word(id->rest, slot, epoch);
		if (same)
			return;
	} else if (!flow_add(id, slot, epoch, &s->place)) {
		count(HW_INGRESS, HW_FLOWS_FULL, skb->len);
		return;
	}
	count(HW_INGRESS, HW_LEARNED, skb->len);
}

#endif
