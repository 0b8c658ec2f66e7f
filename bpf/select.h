/*
 * Which of several paths a flow has. TCP gives a connection another flow label after each retransmission time-out: where
 * the path is dead, the next attempt has another one.
 */
#ifndef HAWKWING_SELECT_H
#define HAWKWING_SELECT_H

#define FLOW_LABEL 0x000fffff
#define GOLDEN 0x9e3779b97f4a7c15ULL

/* Of a packet, by flow label (in the first word of the IPv6 header), addresses, ports (wire order) and protocol. */
static __always_inline __u32 bucket_of(__u32 first_word, const __u64 *source, const __u64 *destination,
				       __u16 source_port, __u16 destination_port, __u8 protocol)
{
	__u64 h = (__u64)destination_port << 48 | (__u64)source_port << 32 | (bpf_ntohl(first_word) & FLOW_LABEL);

	h ^= source[0] ^ source[1] ^ destination[0] ^ destination[1] ^ (__u64)protocol << 20;
	h *= GOLDEN;
	h ^= h >> 32;
	h *= GOLDEN;
	return h >> (64 - HW_BUCKET_BITS);
}

static __always_inline struct selection *get_selection(__u32 number)
{
	union stack_word key;

	set_number(&key, number & ~HW_SELECTION);
	return selections.lookup(&key.number);
}

static __always_inline __u32 slot_in(const volatile struct selection *s, __u64 bucket)
{
	BARRIER(bucket);
	return s->slots[bucket & ((1 << HW_BUCKET_BITS) - 1)];
}

/* Has the path in this slot been silent for too long? Not if the prober has stopped: all paths would look dead. */
static __always_inline bool is_path_dead(__u32 slot, const struct prober *prober, __u64 now)
{
	if (now > prober->beat && now - prober->beat > prober->silence)
		return false;
	return is_dead(slot, prober, now);
}

/* For the fast path: the slot that a packet has, or HW_NO_SLOT where the slow path has to find a living one. */
static __always_inline __u32 select_path(__u32 found, const struct ipv6_header *ip6, __u16 source_port,
					 __u16 destination_port, __u8 protocol)
{
	struct prober *prober;
	struct selection *s;
	__u32 slot;

	if (likely(!(found & HW_SELECTION)))
		return found;
	s = get_selection(found);
	if (!s)
		return HW_NO_SLOT;
	slot = slot_in(s, bucket_of(ip6->version_class_label, (void *)ip6->source, (void *)ip6->destination,
				    source_port, destination_port, protocol));
	prober = get_prober();
	if (prober && prober->silence && unlikely(is_path_dead(slot, prober, bpf_ktime_get_ns())))
		return HW_NO_SLOT;
	return slot;
}

/* The same for packets of all kinds; another path where its own is dead, and the same where all are. */
static __always_inline __u32 select_living_path(__u32 found, __u32 bucket, struct scratch *room)
{
	struct selection *s = get_selection(found);
	struct prober *prober;
	__u32 slot, other;
	__u64 now;

	if (!s)
		return HW_NO_SLOT;
	slot = slot_in(s, bucket);
	prober = get_prober();
	if (!prober || !prober->silence)
		return slot;
	now = bpf_ktime_get_ns();
	if (!is_path_dead(slot, prober, now))
		return slot;
	other = living_path(s, prober, now, bucket, room);
	/* The last one is never given up: what is known of it may be wrong. */
	return other == HW_NO_SLOT ? slot : other;
}

/* Bytes of the SRH that a connection of this route may get; it may change its path at any time. */
static __always_inline __u32 longest_srh(__u32 found)
{
	struct selection *s;
	struct policy *p;

	if (found & HW_SELECTION) {
		s = get_selection(found);
		return s ? s->longest : 0;
	}
	p = get_policy(found);
	return p ? p->srh_length : 0;
}

/*
 * The same with the header that tells the way back: what a connection sends leaves room for it. Else one that sends only
 * full segments could not tell it any more.
 */
static __always_inline __u32 longest_headers(__u32 found)
{
	__u32 srh = longest_srh(found);
	struct way_back *w;
	struct policy *p;

	if (found & HW_SELECTION)
		return srh;
	p = get_policy(found);
	w = p && p->tells ? ways_back.lookup(&found) : NULL;
	return w ? srh + w->length : srh;
}

#endif
