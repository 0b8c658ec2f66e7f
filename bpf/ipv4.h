/*
 * IPv4 of a client: packets to configured services are carried by paths that encapsulate. In the tables an address is
 * IPv4-mapped (::ffff:a.b.c.d).
 */
#ifndef HAWKWING_IPV4_H
#define HAWKWING_IPV4_H

#define IPV4_MORE 0x2000
#define IPV4_OFFSET 0x1fff

static __always_inline void map_ipv4(__u8 *to, __u32 address)
{
	__builtin_memset(to, 0, 10);
	__builtin_memset(to + 10, 0xff, 2);
	__builtin_memcpy(to + 12, &address, 4);
}

/* The slot (or selection) of a packet whose addresses are in `s->fragment`, and whose ports in `s->walk`. */
static __always_inline int find_ipv4_path(const struct service *service, __u16 fragment, struct scratch *s)
{
	struct decision *d = &s->decision;
	struct fragment_key *key = &s->fragment;
	struct walk *w = &s->walk;
	__u32 *found;

	if (fragment & IPV4_OFFSET) {
		found = fragments.lookup(key);
		if (!found)
			return HW_LOST_FRAGMENT;
		d->slot = *found;
		w->later_fragment = true;
		return HW_STEERED;
	}
	found = find_route(service->group, w->destination_port, w->protocol);
	if (!found)
		return HW_NO_APPLICATION;
	d->slot = d->route = *found;
	if (d->route & HW_SELECTION) {
		/* There is no flow label: ports and addresses only. */
		d->bucket = bucket_of(0, (void *)key->source, (void *)key->destination, w->source_port,
				      w->destination_port, w->protocol);
		d->slot = select_living_path(READ_BACK(d->route), READ_BACK(d->bucket), s);
	}
	if (fragment & IPV4_MORE)
		fragments.update(key, &d->slot);
	return HW_STEERED;
}

/* Like `decide`, for IPv4. What does not fit is told to its sender: fragments are the stack's business. */
static __always_inline int decide_ipv4(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	struct settings *set = get_settings();
	struct decision *d = &s->decision;
	struct fragment_key *key = &s->fragment;
	struct walk *w = &s->walk;
	struct service *service;
	struct ipv4_header *ip;
	__u32 length, link, mtu;
	struct policy *p;
	__u16 fragment, *ports;

	d->reason = HW_NOT_IPV6;
	if (!set || !set->ipv4_services)
		return PASS;
	d->reason = HW_TRUNCATED;
	ip = packet_pull(skb, l3, IPV4_HEADER);
	if (!ip || (ip->version_length & 0x0f) < 5)
		return PASS;
	map_ipv4(key->source, ip->source);
	map_ipv4(key->destination, ip->destination);
	key->identification = ip->identification | (__u32)ip->protocol << 16;
	fragment = bpf_ntohs(ip->fragment);
	w->protocol = ip->protocol;
	w->offset = l3 + (ip->version_length & 0x0f) * 4;
	d->reason = HW_NOT_IPV6;
	service = services.lookup((struct address *)key->destination);
	if (!service)
		return PASS;
	d->reason = HW_NOT_FROM_HOST;
	if (!is_local(set, key->source))
		return PASS;
	if (!(fragment & IPV4_OFFSET) &&
	    (w->protocol == NEXT_TCP || w->protocol == NEXT_UDP || w->protocol == NEXT_SCTP)) {
		d->reason = HW_TRUNCATED;
		ports = (void *)w->header;
		if (bpf_skb_load_bytes(skb, w->offset, ports, 4))
			return PASS;
		w->source_port = ports[0];
		w->destination_port = ports[1];
	}
	d->reason = find_ipv4_path(service, fragment, s);
	if (READ_BACK(d->reason) != HW_STEERED)
		return PASS;
	d->reason = HW_NO_PATH;
	p = get_policy(READ_BACK(d->slot));
	if (!p || !p->srh_length || !p->encapsulates)
		return PASS;
	length = p->srh_length;
	/* The kernel has chosen the next hop of an IPv4 route: that of the first segment may be any other one. */
	link = goes_elsewhere(skb, l3, p) ? next_hop_link(skb, p) : 0;
	if (link && !mtu_of(skb, link))
		link = 0;
	*(volatile __u32 *)&d->link = link;
	mtu = mtu_of(skb, *(volatile __u32 *)&d->link);
	if (p->path_mtu && p->path_mtu < mtu)
		mtu = p->path_mtu;
	d->mtu = mtu;
	if (w->protocol == NEXT_TCP && !w->later_fragment && tcp_is_syn(skb, w->offset)) {
		length = longest_srh(d->route);
		if (mtu > IPV4_HEADER + 20 + length)
			d->mss = mtu - IPV4_HEADER - 20 - length;
		length = p->srh_length;
	}
	if (skb->len - l3 + length - IPV6_HEADER > 0xffff)
		return TELL;
	if (wire_length(skb, l3, headers_length(skb, l3, w)) + length <= mtu)
		return INSERT;
	/* TCP segmentation can be told to cut smaller pieces. */
	if (skb->gso_size && w->protocol == NEXT_TCP) {
		d->resize = 1;
		return INSERT;
	}
	return TELL;
}

/* The peer's SYN over IPv4: what we send has to carry the outer header besides. */
static __always_inline void clamp_incoming_ipv4(struct __sk_buff *skb, __u32 l3, struct scratch *s)
{
	struct settings *set = get_settings();
	struct fragment_key *key = &s->fragment;
	struct service *service;
	struct ipv4_header *ip;
	__u32 overhead, mtu, tcp, *found;
	union stack_word port;

	if (!set || !set->ipv4_services)
		return;
	ip = packet_pull(skb, l3, IPV4_HEADER);
	if (!ip || ip->protocol != NEXT_TCP || ip->fragment & bpf_htons(IPV4_OFFSET))
		return;
	tcp = l3 + (ip->version_length & 0x0f) * 4;
	map_ipv4(key->source, ip->source);
	service = services.lookup((struct address *)key->source);
	if (!service || !tcp_is_syn(skb, tcp) || !read_word(skb, tcp, 2, &port))
		return;
	found = find_route(service->group, port.halves[0], NEXT_TCP);
	overhead = found ? longest_srh(*found) : 0;
	mtu = overhead ? mtu_of(skb, 0) : 0;
	if (mtu > IPV4_HEADER + 20 + overhead &&
	    tcp_clamp_mss(skb, tcp, mtu - IPV4_HEADER - 20 - overhead, &s->position))
		count(HW_INGRESS, HW_MSS_CLAMPED, skb->len);
}

#endif
