/*
 * A way back of its own: packets of a client tell it to the server, in a Destination Options header behind the SRH, which
 * only the destination looks at (RFC 8200, section 4.6). A SYN tells it, and the first packets of a flow, then one a second.
 */
#ifndef HAWKWING_WAY_BACK_H
#define HAWKWING_WAY_BACK_H

#ifdef HW_CLIENT
#define TELLING_PERIOD 1000000000ULL

/* Flows are told apart by this; where two have the same, one may tell less often. */
static __always_inline __u64 telling_key(const struct ipv6_header *ip6, __u16 source_port, __u16 destination_port,
					 __u8 protocol)
{
	const __u64 *source = (void *)ip6->source, *destination = (void *)ip6->destination;
	__u64 h = (__u64)source_port << 32 | (__u64)destination_port << 16 | protocol;

	h = (h ^ source[0] ^ destination[0]) * GOLDEN;
	h ^= h >> 32;
	h = (h ^ source[1] ^ destination[1]) * GOLDEN;
	return h ^ h >> 32;
}

static __always_inline bool is_telling_due(__u64 key, __u64 now)
{
	struct telling *t = tellings.lookup(&key);

	return !t || t->count < HW_TOLD_AT_ONCE || now - t->last > TELLING_PERIOD;
}

static __always_inline void note_telling(__u64 key, __u64 now)
{
	struct telling *t = tellings.lookup(&key), first = { .last = now, .count = 1 };

	if (t) {
		t->last = now;
		t->count++;
	} else {
		tellings.update(&key, &first);
	}
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
	struct ipv6_header *ip6 = packet_at(skb, l3, IPV6_HEADER);
	__u64 key, now = bpf_ktime_get_ns();
	struct walk *w = &s->walk;
	int told;

	if (!ip6 || w->offset != l3 + IPV6_HEADER || s->decision.resize || !w->source_port)
		return 0;
	key = telling_key(ip6, w->source_port, w->destination_port, w->protocol);
	if (!s->decision.mss && !is_telling_due(key, now))
		return 0;
	told = tell_way_back(skb, l3, slot, p, wire_length(skb, l3, headers_length(skb, l3, w)),
			     *(volatile __u32 *)&s->decision.link);
	if (told > 0) {
		note_telling(key, now);
		count(HW_EGRESS, HW_WAY_BACK_TOLD, skb->len);
	}
	return told < 0 ? -1 : 0;
}
#endif

#ifdef HW_SERVER
/* So long after a packet has told it, a way back is used for packets that don't. */
#define TOLD_FOR 5000000000ULL

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
		count(HW_INGRESS, HW_WAY_BACK_TOLD, skb->len);
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
