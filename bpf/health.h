/*
 * Which paths are alive: the agent sends probes along each one and back to this host (RFC 8403's loop), and what comes
 * back is noted here. A path is dead when nothing has come back for three intervals, while probes are being sent.
 */
#ifndef HAWKWING_HEALTH_H
#define HAWKWING_HEALTH_H

#define SMOOTHING_SHIFT 3
#define JITTER_SHIFT 4
#define LONGEST_ROUND_TRIP 10000000000ULL
/* A path that dies again so soon after it was found alive has to prove itself for longer. */
#define FLAPPING 10000000000ULL

static __always_inline struct prober *get_prober(void)
{
	union stack_word zero;

	set_number(&zero, 0);
	return probers.lookup(&zero.number);
}

static __always_inline struct path_health *get_health(__u32 slot)
{
	union stack_word key;

	set_number(&key, slot);
	return health.lookup(&key.number);
}

/* Has nothing come back for too long? What was sent after a pause has its round trip to come back. */
static __always_inline bool is_silent(const volatile struct path_health *h, const volatile struct prober *prober,
				      __u64 now)
{
	__u64 last = h->seen, begun = prober->since + h->round_trip;

	if (begun > last)
		last = begun;
	return now > last && now - last > prober->silence;
}

/* A path that has never answered is dead, too, once it has had the time. */
static __always_inline bool is_dead(__u32 slot, const struct prober *prober, __u64 now)
{
	struct path_health *h = get_health(slot);

	return h && (h->needed || is_silent(h, prober, now));
}

/* Another path for a flow whose own is dead: of the same preference, else of the next; or HW_NO_SLOT. */
static __always_inline __u32 living_path(const struct selection *s, struct prober *prober, __u64 now, __u64 bucket,
					 struct scratch *room)
{
	volatile __u32 *at = &room->position;
	__u32 i, number, slot;

	*at = 0;
	for (i = 0; i < HW_MAX_CANDIDATES; i++) {
		number = *at;
		if (number >= s->count)
			break;
		*at = number + 1;
		if (number < s->active)
			number = (bucket + number) % s->active;
		slot = *(volatile __u32 *)&s->candidates[number & (HW_MAX_CANDIDATES - 1)];
		if (!is_dead(slot, prober, now))
			return slot;
	}
	return HW_NO_SLOT;
}

/* Notes a probe that has come back after `taken` nanoseconds at `now`. */
static __always_inline void note_probe(const struct prober *prober, const struct probe *probe, __u64 taken, __u64 now)
{
	struct path_health *h = get_health(probe->slot);
	__u64 change;
	__u32 needed;

	/* One that was sent before the last one that came back proves nothing: it may have been kept by somebody. */
	if (!h || probe->sent <= h->sent)
		return;
	if (h->received) {
		change = taken > h->last ? taken - h->last : h->last - taken;
		h->jitter += (__s64)(change - h->jitter) >> JITTER_SHIFT;
	}
	h->last = taken;
	if (!h->received) {
		h->round_trip = taken;
	} else if (!h->needed && is_silent(h, prober, now)) {
		/* It was dead until now. */
		needed = HW_GOOD_PROBES;
		if (h->good && now - h->recovered < FLAPPING)
			needed = h->good * 2;
		h->needed = needed < HW_MOST_GOOD_PROBES ? needed : HW_MOST_GOOD_PROBES;
		h->good = 0;
	} else if (h->needed && is_silent(h, prober, now)) {
		h->good = 0;
	}
	h->round_trip += (__s64)(taken - h->round_trip) >> SMOOTHING_SHIFT;
	h->sent = probe->sent;
	h->seen = now;
	h->received++;
	if (h->needed && ++h->good >= h->needed) {
		/* What it has taken is kept: next time it may take more. */
		h->needed = 0;
		h->recovered = now;
	}
}

/* Is it a probe of this host's agent, and was it sent within the longest round trip? */
static __always_inline bool is_own_probe(const struct prober *prober, const struct probe *probe)
{
	return prober->silence && probe->key == prober->key;
}

static __always_inline bool is_recent(const struct probe *probe, __u64 now)
{
	return probe->sent <= now && now - probe->sent <= LONGEST_ROUND_TRIP;
}

/*
 * in: IPv6(A, A) SRH(A, ..; SL=0, tag) UDP probe   out: nothing
 * False: it is none of ours.
 */
static __always_inline bool take_probe(struct __sk_buff *skb, __u32 at, struct scratch *s)
{
	struct prober *prober = get_prober();
	struct srh_header *srh = (void *)s->head;
	struct probe *probe = (void *)s->chunk;
	__u64 now;

	if (!prober || bpf_skb_load_bytes(skb, at, s->head, HW_SRH_FIXED) ||
	    srh->tag != bpf_htons(HW_PROBE_TAG) || srh->segments_left || srh->next_header != NEXT_UDP)
		return false;
	at += (srh->ext_length + 1) * 8 + 8;
	if (bpf_skb_load_bytes(skb, at, s->chunk, sizeof(*probe)) || !is_own_probe(prober, probe))
		return false;
	now = bpf_ktime_get_ns();
	if (is_recent(probe, now))
		note_probe(prober, probe, now - probe->sent, now);
	return true;
}

/* Nanoseconds between two times of a STAMP packet; 0 where they make no sense. */
static __always_inline __u64 stamp_difference(const __u8 *begun, const __u8 *ended)
{
	__u64 a, b;

	__builtin_memcpy(&a, begun, 8);
	__builtin_memcpy(&b, ended, 8);
	a = bpf_ntohll(a);
	b = bpf_ntohll(b);
	/* At most a second. */
	return b > a && !((b - a) >> 32) ? (b - a) * 1000000000 >> 32 : 0;
}

/*
 * in: IPv6(B, A) [SRH(A, ..; SL=0)] UDP(reflector, p) STAMP   out: nothing
 * The time that the reflector has had it does not count. False: it is none of ours.
 */
static __always_inline bool take_reflected(struct __sk_buff *skb, __u32 at, __u8 next, const struct settings *set,
					   struct scratch *s)
{
	struct srh_header *srh = (void *)s->head;
	struct stamp_reply *reply = (void *)s->chunk;
	struct prober *prober = get_prober();
	__u64 now, taken, kept;

	if (!prober)
		return false;
	if (next == NEXT_ROUTING) {
		if (bpf_skb_load_bytes(skb, at, s->head, HW_SRH_FIXED) || srh->type != 4 || srh->segments_left)
			return false;
		next = srh->next_header;
		at += (srh->ext_length + 1) * 8;
	}
	if (next != NEXT_UDP || bpf_skb_load_bytes(skb, at, s->head, 2) ||
	    *(__u16 *)s->head != (__u16)set->stamp_port ||
	    bpf_skb_load_bytes(skb, at + 8, s->chunk, sizeof(*reply)) || !is_own_probe(prober, &reply->probe))
		return false;
	now = bpf_ktime_get_ns();
	if (!is_recent(&reply->probe, now))
		return true;
	taken = now - reply->probe.sent;
	kept = stamp_difference(reply->received, reply->sent);
	note_probe(prober, &reply->probe, kept < taken ? taken - kept : taken, now);
	return true;
}

#endif
