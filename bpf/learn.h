/* What a server learns: the way back over a list, and whose flow it belongs to. */
#ifndef HAWKWING_LEARN_H
#define HAWKWING_LEARN_H

/*
 * The slot of the way back that stands in `s->policy`; made where it is new, and its source has not more than its
 * share already: who sends ever new lists takes no room from others.
 */
static __always_inline __u32 path_slot(__u32 source, __u64 next_hop, __u32 fair, struct scratch *s)
{
	struct path_key *key = (void *)s->policy.srh;
	__u32 *known, *mine, slot;

	known = paths.lookup(key);
	if (known)
		return *known;
	mine = path_sources.lookup(&source);
	if (!mine || *mine >= fair || free_slots.pop(&slot))
		return HW_NO_SLOT;
	__sync_fetch_and_add(mine, 1);
	s->policy.source = source + 1;
	s->policy.next_hop = next_hop;
	s->policy.path_mtu = 0;
	policies.update(&slot, &s->policy);
	if (!paths.insert(key, &slot))
		return slot;
	/* Another CPU was faster with the same path, or there is no room. */
	free_slots.push(&slot, 0);
	known = paths.lookup(key);
	return known ? *known : HW_NO_SLOT;
}

/*
 * Where lists may have containers, a known flow comes by here with each packet until it is cached: the fast path does
 * not reverse them. `s->srh` is what has arrived.
 */
static __always_inline void cache_packed_list(const struct ipv6_header *ip6, const struct walk *w, __u32 slot, __u64 valid,
					      struct scratch *s, __u32 last_entry)
{
	__u64 length = HW_SRH_FIXED + 16 * (last_entry + 1);
	struct cached_flow *r;

	if (last_entry > 3 || s->srh[1] != 2 * (last_entry + 1))
		return;
	r = cache_flow(ip6->source, ip6->destination, flow_ports(w->source_port, w->destination_port), w->protocol, slot,
		       valid);
	if (r)
		cache_srh(r, (void *)s->srh, length, s->srh + sizeof(s->srh));
}

/*
 * With a key of this number, the way back has an HMAC TLV; 0: there is none. Without branches, each of which would
 * double what follows to the verifier.
 */
static __always_inline void announce_hmac(__u32 number, struct policy *p)
{
	__u64 used = is_zero(number) - 1, at = p->srh_length / 8;
	struct srh_header *srh = (void *)p->srh;
	__u64 *words = (void *)p->srh;

	BARRIER(at);
	words[at & 31] |= hmac_header(number) & used;
	srh->ext_length += HW_HMAC_TLV / 8 & used;
	srh->flags |= SRH_FLAG_HMAC & used;
	p->srh_length += HW_HMAC_TLV & used;
	p->key_number = number;
	/* Another one each time: HMACs are kept by it. */
	p->signed_as = ((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32() | 1) & used;
}

/*
 * Has the flow a way back of its own that was told a short time ago, and with the key that signs now, of number
 * `signer`? It stays, and the flow is known in this epoch.
 */
static __always_inline bool keeps_told(const struct flow_id *id, const struct settings *set, __u32 signer,
				       volatile struct flow_place *place)
{
	__u32 slot, now = told_time(), zero = 0;
	struct policy *p;
	__u64 *word;

	/* Mostly nobody tells any. */
	if (!is_lately(last_told.lookup(&zero), now))
		return false;
	word = flow_find(id, place);
	if (!word || !is_lately(told_when(place->bucket, place->way), now))
		return false;
	slot = *word & HW_SLOT_MASK;
	p = get_policy(slot);
	if (!p || ((struct srh_header *)p->srh)->tag != bpf_htons(HW_WAY_BACK_TAG) || p->key_number != signer)
		return false;
	*word = flow_word(id->rest, slot, set->epoch);
	return true;
}

/* The flow at `s->place` has the way back that its packet has told. */
static __always_inline void take_note(struct __sk_buff *skb, struct scratch *s)
{
	note_told(&s->place);
	count(HW_INGRESS, HW_WAY_BACK_TOLD, skb->len);
}

/* Remembers the way back for this flow, which may be known with another one. */
static __always_inline void learn(struct __sk_buff *skb, __u32 l3, const struct settings *set, const struct flow_id *id,
				  struct scratch *s, const __u8 *list, __u32 last_entry)
{
	__u64 next_hop = 0, valid = flow_cache_version();
	struct ipv6_header *ip6;
	struct policy *p;
	__u64 *word;
	__u32 slot;

	if (last_entry >= (READ_BACK(s->hmac.signer) ? HW_MAX_SIGNED + 1 : HW_MAX_SEGMENTS)) {
		count(HW_INGRESS, HW_LIST_TOO_LONG, skb->len);
		return;
	}
	if (!READ_BACK(s->told.count) && keeps_told(id, set, READ_BACK(s->hmac.signer), &s->place))
		return;
	srh_reverse(list, last_entry, &s->policy);
	if (reverse_containers(set, &s->policy, &s->last_entry) && !READ_BACK(s->told.count)) {
		count(HW_INGRESS, HW_ONE_WAY_SID, skb->len);
		return;
	}
	take_way_back(s, &s->policy);
	announce_hmac(READ_BACK(s->hmac.signer), &s->policy);
	if (l3)
		next_hop = next_hop_at(skb, 6);
	if (next_hop)
		next_hop |= HW_CAME_FROM_THERE;
	slot = path_slot(flow_source(id->rest), next_hop, set->fair_paths, s);
	if (slot == HW_NO_SLOT) {
		count(HW_INGRESS, HW_PATHS_FULL, skb->len);
		return;
	}
	word = flow_find(id, &s->place);
	if (word) {
		bool same = (*word & HW_SLOT_MASK) == slot;

		*word = flow_word(id->rest, slot, set->epoch);
		if (READ_BACK(s->told.count))
			take_note(skb, s);
		if (same) {
			ip6 = packet_at(skb, l3, IPV6_HEADER);
			if (set->csid_blocks && ip6)
				cache_packed_list(ip6, &s->walk, slot, valid, s, last_entry);
			return;
		}
		invalidate_flow_cache();
	} else if (!flow_add(id, slot, set->epoch, set->fair_flows, &s->place)) {
		count(HW_INGRESS, HW_FLOWS_FULL, skb->len);
		return;
	} else if (READ_BACK(s->told.count)) {
		take_note(skb, s);
	}
	/* Until the agent has found the route. */
	p = get_policy(slot);
	if (p && p->next_hop & HW_CAME_FROM_THERE)
		*(volatile __u64 *)&p->next_hop = next_hop;
	count(HW_INGRESS, HW_LEARNED, skb->len);
}

/*
 * A packet with these ports arrived without an SRH. Where its flow is known, its sender has no path any more, and may
 * not take replies with an SRH: they are sent without one from now on.
 */
static __always_inline void end_flow(const struct settings *set, struct ipv6_header *ip6, const __u16 *ports,
				     __u8 protocol, __u32 bytes)
{
	struct scratch *s = scratch_room();
	__u32 source, *flows_of;
	struct flow_bucket *bucket;
	struct flow_id id;
	__u64 way;

	if (!s)
		return;
	/* Most senders of plain packets have no flow here at all. */
	source = flow_source_of(set, ip6->source);
	flows_of = sources.lookup(&source);
	if (likely(!flows_of || !*flows_of))
		return;
	id = flow_identify(set, ip6->source, ip6->destination, flow_ports(ports[0], ports[1]), protocol);
	if (likely(!flow_find(&id, &s->place)))
		return;
	source = s->place.bucket;
	bucket = flows.lookup(&source);
	if (!bucket)
		return;
	way = s->place.way & (HW_WAYS - 1);
	*(volatile __u64 *)&bucket->marks[way] = 0;
	__sync_fetch_and_add(flows_of, -1);
	invalidate_flow_cache();
	count(HW_INGRESS, HW_FLOW_ENDED, bytes);
}

/* Learns from a packet whose list is `list`, and what follows its SRH, of kind `next`, at `behind`. */
static __always_inline void learn_from(struct __sk_buff *skb, const struct settings *set, struct scratch *s,
				       __u32 l3, __u32 behind, __u8 next, const __u8 *list, __u32 last_entry)
{
	struct walk *w = &s->walk;
	struct ipv6_header *ip6;
	struct flow_id id;
	bool ports;

	__builtin_memset(w, 0, sizeof(*w));
	ports = walk(skb, behind, next, w) == WALK_OK && w->source_port && !w->later_fragment;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	/* A probe of this host's has its own address as source: nothing is sent back. */
	if (ip6 && ports && last_entry > 0 && !same16(ip6->source, ip6->destination)) {
		id = flow_identify(set, ip6->source, ip6->destination,
				   flow_ports(w->source_port, w->destination_port), w->protocol);
		learn(skb, l3, set, &id, s, list, last_entry);
	} else if (!w->later_fragment) {
		count(HW_INGRESS, HW_NOTHING_TO_LEARN, skb->len);
	}
}

#endif
