/*
 * A way back of its own: packets of a client tell it to the server, in a Destination Options header behind the SRH, which
 * only the destination looks at (RFC 8200, section 4.6). A SYN tells it, and the first packets of a flow, then one a second.
 */
#ifndef HAWKWING_WAY_BACK_H
#define HAWKWING_WAY_BACK_H

#ifdef HW_CLIENT
/* All in ns. The last one is longer than the time between two SYNs. */
#define TELLING_PERIOD 1000000000ULL
#define NEXT_TRY 10000000ULL
#define IN_VAIN_FOR 64000000000ULL

/*
 * Flows are told apart by this; where two have the same, one may tell less often. `addresses` are source and destination
 * in either order; the ports are those of what this host sends.
 */
static __always_inline __u64 telling_key(const void *addresses, __u16 source_port, __u16 destination_port, __u8 protocol)
{
	__u64 h = (__u64)source_port << 32 | (__u64)destination_port << 16 | protocol;
	const __u64 *words = addresses;

	h = (h ^ words[0] ^ words[2]) * GOLDEN;
	h ^= h >> 32;
	h = (h ^ words[1] ^ words[3]) * GOLDEN;
	return h ^ h >> 32;
}

static __always_inline bool is_telling_due(__u64 key, __u64 now)
{
	struct telling *t = tellings.lookup(&key);

	return !t || (__s64)(now - t->due) >= 0;
}

/*
 * A SYN always tells, unless two have in vain: something on the path may drop packets with Destination Options. Then no
 * packet of the connection does.
 */
static __always_inline bool is_syn_to_tell(__u64 key, __u64 now)
{
	struct telling *t = tellings.lookup(&key);

	if (!t || t->in_vain < HW_TOLD_IN_VAIN || now - t->last > IN_VAIN_FOR)
		return true;
	t->due = now + IN_VAIN_FOR;
	return false;
}

static __always_inline void note_telling(__u64 key, __u32 slot, __u64 now, bool told, bool syn, struct scratch *s)
{
	struct telling *t = tellings.lookup(&key), *first = (void *)s->chunk;
	struct way_back *w = ways_back.lookup(&slot);

	if (!t) {
		__builtin_memset(first, 0, sizeof(*first));
		tellings.update(&key, first);
		t = tellings.lookup(&key);
	}
	if (!t || !w)
		return;
	t->slot = slot;
	if (!told) {
		if ((__s64)(t->due - now) < (__s64)NEXT_TRY)
			t->due = now + NEXT_TRY;
		return;
	}
	if (now - t->last > IN_VAIN_FOR)
		t->in_vain = 0;
	t->in_vain += syn;
	/* A SYN begins a connection: what was told before it does not count. */
	t->count = syn ? 1 : t->count + (t->count < HW_TOLD_AT_ONCE);
	t->due = t->count < HW_TOLD_AT_ONCE ? now : now + TELLING_PERIOD;
	t->last = now;
	t->used = 0;
	__sync_fetch_and_add(&w->told, 1);
	w->last_told = now;
}

/* A reply with these ports has come over the way back that its flow has told. */
static __always_inline void note_use(const struct ipv6_header *ip6, const __u16 *ports, __u8 protocol)
{
	__u64 key = telling_key(ip6->source, ports[1], ports[0], protocol);
	struct telling *t = tellings.lookup(&key);
	struct way_back *w;
	__u32 slot;

	if (!t || t->used)
		return;
	t->used = 1;
	t->in_vain = 0;
	slot = t->slot;
	w = ways_back.lookup(&slot);
	if (!w)
		return;
	__sync_fetch_and_add(&w->used, 1);
	w->last_used = bpf_ktime_get_ns();
}

static __always_inline __u32 told_length(__u32 slot)
{
	struct policy *p = get_policy(slot);
	struct way_back *w = p && p->tells ? ways_back.lookup(&slot) : NULL;

	return w ? w->length : 0;
}

/*
 * in:  IPv6(A, B) X
 * out: IPv6(A, B) DestinationOptions(way back) X     before the SRH is put in
 * `length` is that of the largest packet on the wire without both. 1, or 0: it does not fit, or there is none; -1: failed half-way.
 */
static __always_inline int tell_way_back(struct __sk_buff *skb, __u32 l3, __u32 slot, const struct policy *p, __u32 length,
					 __u32 link)
{
	struct way_back *w = ways_back.lookup(&slot);
	__u64 told = w ? w->length : 0;
	__u32 grown = length + p->srh_length + told;
	struct ipv6_header *ip6;
	__u8 next;

	if (OUTSIDE(told, HW_WAY_BACK_FIXED + 16, HW_WAY_BACK_MAX) ||
	    (grown > IPV6_MIN_MTU && ((p->path_mtu && grown > p->path_mtu) || grown > mtu_of(skb, link))) ||
	    skb->len - l3 + p->srh_length + told > IPV6_HEADER + 0xffff ||
	    bpf_skb_adjust_room(skb, told, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO))
		return 0;
	ip6 = packet_at(skb, l3, IPV6_HEADER);
	if (!ip6)
		return -1;
	next = ip6->next_header;
	ip6->next_header = NEXT_DESTINATION;
	add_payload(ip6, told);
	if (OUTSIDE(told, HW_WAY_BACK_FIXED + 16, HW_WAY_BACK_MAX) ||
	    bpf_skb_store_bytes(skb, l3 + IPV6_HEADER, w->header, told, 0) ||
	    bpf_skb_store_bytes(skb, l3 + IPV6_HEADER, &next, 1, 0))
		return -1;
	return 1;
}

/* Tells the way back where it is due and possible. 0, or -1 where it failed half-way. */
static __always_inline int tell(struct __sk_buff *skb, __u32 l3, __u32 slot, const struct policy *p, struct scratch *s)
{
	__u64 key, now;
	struct walk *w = &s->walk;
	bool syn;
	int told;

	if (w->offset != l3 + IPV6_HEADER || s->decision.resize || !w->source_port ||
	    bpf_skb_load_bytes(skb, l3 + 8, s->chunk, 32))
		return 0;
	now = bpf_ktime_get_ns();
	key = telling_key(s->chunk, w->source_port, w->destination_port, w->protocol);
	syn = s->decision.mss;
	if (syn ? !is_syn_to_tell(key, now) : !is_telling_due(key, now))
		return 0;
	told = tell_way_back(skb, l3, slot, p, wire_length(skb, l3, headers_length(skb, l3, w)),
			     *(volatile __u32 *)&s->decision.link);
	if (told < 0)
		return -1;
	note_telling(key, slot, now, told, syn, s);
	if (told)
		count(HW_EGRESS, HW_WAY_BACK_TOLD, skb->len);
	return 0;
}
#endif

#ifdef HW_SERVER
/* Times are in 2^20 ns. */
#define TOLD_SHIFT 20
/* So long after a packet has told it, a way back is used for packets that don't. */
#define TOLD_FOR (5000000000ULL >> TOLD_SHIFT)

static __always_inline __u32 told_time(void)
{
	__u32 now = bpf_ktime_get_ns() >> TOLD_SHIFT;

	return now ? now : 1;
}

static __always_inline __u32 told_length(__u32 slot)
{
	return 0;
}

static __always_inline __u32 *told_when(__u32 bucket, __u64 way)
{
	struct told_bucket *b = told_flows.lookup(&bucket);

	way &= HW_WAYS - 1;
	if (!b)
		return NULL;
	/* LLVM would add before it compares. */
	BARRIER(b);
	return &b->when[way];
}

/* Another flow is about to have this place. */
static __always_inline void forget_told(__u32 bucket, __u64 way)
{
	__u32 *when = told_when(bucket, way);

	if (when)
		*(volatile __u32 *)when = 0;
}

static __always_inline void note_told(volatile struct flow_place *place)
{
	__u32 *when = told_when(place->bucket, place->way), zero = 0, *last = last_told.lookup(&zero), now = told_time();

	if (when)
		*(volatile __u32 *)when = now;
	if (last)
		*(volatile __u32 *)last = now;
}

/* `when` may be written at the same time, and be later than now. */
static __always_inline bool is_lately(const __u32 *when, __u32 now)
{
	__u32 then = when ? *(volatile __u32 *)when : 0;

	return then && (__s32)(now - then) <= (__s32)TOLD_FOR;
}

/*
 * Reads what a Destination Options header at `at` tells into `s->told`, whose first segment is the packet's destination,
 * with zeros behind the last one. `s->told.bytes` is 0 where it is none of ours, or longer than the `room` in the IPv6 packet.
 */
static __always_inline void read_way_back(struct __sk_buff *skb, __u32 at, const struct ipv6_header *ip6, __s32 room,
					  const struct settings *set, struct scratch *s)
{
	__u32 *magic = (void *)(s->chunk + 4);
	__u64 bytes, segments, wrong;

	__builtin_memset(&s->told, 0, sizeof(s->told));
	copy16(s->told.segments[0].bytes, ip6->destination);
	if (bpf_skb_load_bytes(skb, at, s->chunk, HW_WAY_BACK_FIXED) || s->chunk[2] != HW_WAY_BACK_OPTION)
		return;
	bytes = s->chunk[1] * 8;
	segments = bytes / 16;
	/* One branch. */
	wrong = (bpf_ntohl(*magic) ^ (HW_WAY_BACK_MAGIC | segments)) | (s->chunk[3] ^ (4 + bytes)) |
		(bytes ^ segments * 16) | (__u64)((__s64)room - HW_WAY_BACK_FIXED - (__s64)bytes) >> 63;
	BARRIER(wrong);
	if (wrong || OUTSIDE(bytes, 16, HW_WAY_BACK_MAX - HW_WAY_BACK_FIXED) ||
	    bpf_skb_load_bytes(skb, at + HW_WAY_BACK_FIXED, s->told.segments[1].bytes, bytes))
		return;
	s->told.next = s->chunk[0];
	if (trusted_list(set, ip6->source, s->told.segments, segments, &s->last_entry, HW_MAX_WAY_BACK + 1)) {
		s->told.count = segments;
	} else {
		count(HW_INGRESS, HW_WAY_BACK_REFUSED, skb->len);
	}
	s->told.bytes = HW_WAY_BACK_FIXED + bytes;
}

/* Where one is told: SRH(-, told segments; SL=count, tag), first segment the last one. Else the policy stays. */
static __always_inline void take_way_back(struct scratch *s, struct policy *p)
{
	struct srh_header *srh = (void *)p->srh;
	__u64 count = READ_BACK(s->told.count);

	if (!count)
		return;
	BARRIER(count);
	p->srh_length = HW_SRH_FIXED + 16 * (count + 1);
	__builtin_memset(__builtin_assume_aligned(p->srh, 8), 0, HW_SRH_MAX);
	srh->ext_length = 2 * (count + 1);
	srh->type = 4;
	srh->segments_left = count;
	srh->last_entry = count;
	srh->tag = bpf_htons(HW_WAY_BACK_TAG);
	__builtin_memcpy(p->srh + HW_SRH_FIXED + 16, s->told.segments[1].bytes, 16 * HW_MAX_WAY_BACK);
	copy16(p->first_segment, s->told.segments[count & 15].bytes);
}
#endif

#endif
