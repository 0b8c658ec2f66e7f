/* What leaves. Decided is in decide.h; here is what is done then, and the fast path. */
#ifndef HAWKWING_EGRESS_H
#define HAWKWING_EGRESS_H

/* What becomes of a packet whose path isn't known at once: a client has tables to ask. */
#ifdef HW_CLIENT
#define HW_NOT_KNOWN HW_REASON_COUNT
#endif
#ifdef HW_SERVER
#define HW_NOT_KNOWN HW_NO_FLOW
#endif

#ifdef HW_CLIENT
/* A probe on its way. It may be somebody else's: that has a routing header, too, and is never steered. */
static __always_inline bool is_tagged_as_probe(const struct srh_header *srh)
{
	return srh->tag == bpf_htons(HW_PROBE_TAG);
}
#endif

/*
 * The fast path: TCP except SYN, or UDP, directly after the IPv6 header, with a cached path, and short enough as it is.
 * HW_REASON_COUNT: the slow path has to decide.
 */
static __always_inline int steer_fast(struct __sk_buff *skb, __u32 l3, __u32 *slot)
{
	struct ipv6_header *ip6 = packet_at(skb, l3, IPV6_HEADER + 8);
	__u8 *transport = (void *)(ip6 + 1), next, flags = 0;
	__u32 headers = IPV6_HEADER + 8, grown, mtu = 0;
	struct policy *p;
	struct scratch *s;
	__u64 length;
	__u16 *ports;
#ifdef HW_CLIENT
	__u32 found;
#endif

	if (unlikely(!ip6))
		return HW_REASON_COUNT;
	next = ip6->next_header;
	if (likely(next == NEXT_TCP)) {
		if (unlikely(!packet_at(skb, l3, IPV6_HEADER + 14)))
			return HW_REASON_COUNT;
		/* Linux 5.15 would not see that `next` is the same when it is compared once more. */
		flags = transport[13];
		if (unlikely(flags & TCP_FLAG_SYN))
			return HW_REASON_COUNT;
		headers = IPV6_HEADER + (transport[12] >> 4) * 4;
	} else if (unlikely(next != NEXT_UDP)) {
#ifdef HW_CLIENT
		if (next == NEXT_ROUTING && is_tagged_as_probe((void *)transport))
			return HW_HAS_ROUTING_HEADER;
#endif
		return HW_REASON_COUNT;
	}
	ports = (void *)transport;
#ifdef HW_CLIENT
	/* A question to a name server has to be noted. */
	if (unlikely(ports[1] == bpf_htons(DNS_PORT)))
		return HW_REASON_COUNT;
#endif
	*slot = known_slot(ip6, ports[0], ports[1], next);
	if (unlikely(*slot == HW_NO_SLOT))
		return HW_NOT_KNOWN;
#ifdef HW_CLIENT
	found = *slot;
	*slot = select_path(found, ip6, ports[0], ports[1], next);
	if (unlikely(found & HW_SELECTION) && next == NEXT_TCP)
		look_now_and_then(skb, *slot, flags);
#endif
	p = get_policy(*slot);
	if (unlikely(!p || !p->srh_length || goes_elsewhere(skb, l3, p)))
		return HW_REASON_COUNT;
	if (unlikely(p->signed_as)) {
		s = scratch_room();
		if (!s || !load_signature(ip6, p, s))
			return HW_REASON_COUNT;
	}
#ifdef HW_CLIENT
	if (unlikely(p->tells) && is_telling_due(telling_key(ip6->source, ports[0], ports[1], next), bpf_ktime_get_ns()))
		return HW_REASON_COUNT;
#endif
	length = p->srh_length;
	grown = skb->len - l3 + length;
	/* Every link carries 1280 bytes: most packets need no question about the MTU. */
	if (grown > IPV6_MIN_MTU) {
		check_mtu(skb, 0, &mtu, 0, 0);
		if (unlikely(p->path_mtu) && p->path_mtu < mtu)
			mtu = p->path_mtu;
		if (unlikely(wire_length(skb, l3, headers) + length > mtu || grown > IPV6_HEADER + 0xffff))
			return HW_REASON_COUNT;
	}
	if (unlikely(insert_srh(skb, l3, p, 0, BPF_F_ADJ_ROOM_FIXED_GSO)))
		return HW_NO_ROOM;
	return HW_STEERED;
}

/* in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X, to the next hop of S1 */
static __always_inline int do_insert(struct __sk_buff *skb, __u32 l3, struct policy *p, struct scratch *s)
{
	struct decision *d = &s->decision;
	__u32 bytes = skb->len, slot = d->slot, link;

#ifdef HW_CLIENT
	if (unlikely(p->tells) && tell(skb, l3, slot, p, s)) {
		count(HW_EGRESS, HW_NO_ROOM, bytes);
		return TC_ACT_SHOT;
	}
#endif
	if (insert_srh(skb, l3, p, s->walk.hop_by_hop, d->resize ? 0 : BPF_F_ADJ_ROOM_FIXED_GSO)) {
		count(HW_EGRESS, HW_NO_ROOM, bytes);
		return TC_ACT_SHOT;
	}
	count(HW_EGRESS, HW_STEERED, bytes);
	count_path(slot, bytes);
#ifdef HW_CLIENT
	if (READ_BACK(d->route) & HW_SELECTION)
		look_at_connection(skb, slot);
#endif
	link = *(volatile __u32 *)&d->link;
	if (!link)
		return TC_ACT_UNSPEC;
	count(HW_EGRESS, HW_NEXT_HOP, bytes);
	if (p->next_hop & HW_CAME_FROM_THERE) {
		write_next_hop(skb, p);
		return TC_ACT_UNSPEC;
	}
	*(volatile __u32 *)&s->redirected = 1;
	return redirect_neigh(link, NULL, 0, 0);
}

/* The first piece of a datagram that the stack has cut by itself. Read from memory each time. */
static __always_inline bool is_cut_by_stack(const volatile struct walk *w)
{
	return w->fragment_at && !w->later_fragment;
}

/* A router's error about one of our fragments may quote the second one, which has no ports: whose it is is noted. */
static __always_inline int note_fragments(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	struct fragment_key *key = &s->fragment;

	key->identification = bpf_get_prandom_u32();
	if (bpf_skb_load_bytes(skb, l3 + 8, key->source, 32))
		return -1;
	fragments.update(key, &s->decision.slot);
	return 0;
}

/*
 * in: IPv6(A, B) X   out: two fragments (lib/split.h), the second one in place of the packet
 * Of a datagram that the stack has cut by itself the first piece is answered, too: the next ones will fit.
 */
static __always_inline int do_split(struct __sk_buff *skb, __u32 l3, struct policy *p, struct scratch *s)
{
	__u32 bytes = skb->len;
	bool failed;

	if (*(volatile __u32 *)&s->decision.link)
		write_next_hop(skb, p);
	*(volatile __u32 *)&s->cloning = 1;
	failed = (!s->walk.fragment_at && note_fragments(skb, l3, s)) ||
		 (is_cut_by_stack(&s->walk) && icmp6_quote(skb, l3, s)) ||
		 split_in_two(skb, l3, s->decision.next, s->walk.fragment_at, p, s) ||
		 (is_cut_by_stack(&s->walk) && bpf_clone_redirect(skb, skb->ifindex, 0));
	*(volatile __u32 *)&s->cloning = 0;
	if (failed) {
		count(HW_EGRESS, HW_TOO_BIG_SILENT, bytes);
		return TC_ACT_SHOT;
	}
	count(HW_EGRESS, HW_SPLIT, bytes);
	count_path(s->decision.slot, bytes);
	if (!is_cut_by_stack(&s->walk))
		return TC_ACT_UNSPEC;
	if (icmp6_too_big(skb, l3, s->decision.mtu - p->srh_length, true, s))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* in: IPv6(A, B) X   out: IPv6(B, A) ICMPv6(2, mtu - SRH; IPv6(A, B) X ..)   to the local stack, or the same of IPv4 */
static __always_inline int do_tell(struct __sk_buff *skb, __u32 l3, struct policy *p, struct scratch *s)
{
	__u32 bytes = skb->len;

#ifdef HW_CLIENT
	if (is_ipv4(skb)) {
		if (icmp4_too_big(skb, l3, s->decision.mtu - p->srh_length, s)) {
			count(HW_EGRESS, HW_TOO_BIG_SILENT, bytes);
			return TC_ACT_SHOT;
		}
		count(HW_EGRESS, HW_TOO_BIG, bytes);
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	}
#endif
	if (icmp6_quote(skb, l3, s) || icmp6_too_big(skb, l3, s->decision.mtu - p->srh_length, false, s)) {
		count(HW_EGRESS, HW_TOO_BIG_SILENT, bytes);
		return TC_ACT_SHOT;
	}
	count(HW_EGRESS, HW_TOO_BIG, bytes);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

static __always_inline int do_pass(__u32 reason, __u32 bytes, struct scratch *s)
{
	/* What went to another next hop comes by again, with its SRH. */
	__u32 again = *(volatile __u32 *)&s->redirected;

	*(volatile __u32 *)&s->redirected = 0;
	if (again && (reason == HW_HAS_ROUTING_HEADER ||
		      (reason == HW_NO_SERVICE && (s->decision.next == NEXT_ROUTING || s->decision.next == NEXT_IPV6 ||
						   s->decision.next == NEXT_IPV4))))
		return TC_ACT_UNSPEC;
	count(HW_EGRESS, reason, bytes);
	return TC_ACT_UNSPEC;
}

/* The slow path: packets that are split, refused, behind other headers, or the first of their kind. */
static __always_inline int steer_slow(struct __sk_buff *skb, __u32 l3)
{
	struct scratch *s = scratch_room();
	__u32 bytes = skb->len, action, slot;
	struct ipv6_header *ip6;
	struct decision *d;
	struct policy *p;
#ifdef HW_CLIENT
	__u32 question;
#endif

	/* Our own fragment comes by here while the rest of its packet waits, and what is known of it. */
	if (!s || *(volatile __u32 *)&s->cloning)
		return TC_ACT_UNSPEC;
#ifdef HW_CLIENT
	question = find_dns(skb, l3, s, true);
	if (unlikely(question))
		note_question(skb, question, s);
#endif
	d = &s->decision;
	__builtin_memset(&s->walk, 0, sizeof(s->walk));
	__builtin_memset(d, 0, sizeof(*d));
	action = decide(skb, l3, s);
	/* PASS is 0, and there already: what is not written here need not be known any more. */
	if (action != PASS) {
		*(volatile __u32 *)&d->action = action;
		BARRIER(s);
	}
	/* Read back, and looked up again: to the verifier all ways through the decision look alike. */
	s = scratch_room();
	if (!s)
		return TC_ACT_UNSPEC;
	d = &s->decision;
	bytes = skb->len;
	action = *(volatile __u32 *)&d->action;
	slot = *(volatile __u32 *)&d->slot;
	p = get_policy(slot);
	if ((action == INSERT || action == SPLIT) && p && unlikely(p->signed_as)) {
		ip6 = packet_at(skb, l3, IPV6_HEADER);
		if (!ip6)
			return TC_ACT_UNSPEC;
		if (!load_signature(ip6, p, s)) {
			prepare_signature(ip6, p, s);
			s->hmac.back = l3 ? HW_EGRESS_ETHERNET : HW_EGRESS_RAW;
			programs.call(skb, HW_AUTHENTICATE);
			count(HW_EGRESS, HW_NOT_SIGNED, bytes);
			return TC_ACT_UNSPEC;
		}
	}
	if (d->mss && tcp_clamp_mss(skb, s->walk.offset, d->mss, &s->position))
		count(HW_EGRESS, HW_MSS_CLAMPED, bytes);
	if (action == PASS)
		return do_pass(*(volatile __u32 *)&d->reason, bytes, s);
	if (!p)
		return TC_ACT_UNSPEC;
	switch (action) {
	case INSERT:
		return do_insert(skb, l3, p, s);
	case SPLIT:
		return do_split(skb, l3, p, s);
	default:
		return do_tell(skb, l3, p, s);
	}
}

static __always_inline int egress(struct __sk_buff *skb, __u32 l3)
{
	__u32 bytes = skb->len, reason = HW_REASON_COUNT, slot = HW_NO_SLOT;

	if (likely(skb->protocol == bpf_htons(ETH_P_IPV6)))
		reason = steer_fast(skb, l3, &slot);
	if (unlikely(reason == HW_REASON_COUNT))
		return steer_slow(skb, l3);
	count(HW_EGRESS, reason, bytes);
	if (likely(reason == HW_STEERED))
		count_path(slot, bytes);
	return unlikely(reason == HW_NO_ROOM) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

#endif
