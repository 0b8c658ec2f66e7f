/* Which packets that an ICMPv6 error quotes are ours: those that have a binding, or belong to a known flow. */
#ifndef HAWKWING_QUOTED_H
#define HAWKWING_QUOTED_H

/* A fragment that has no ports is known by its first one; the slot of its path, or HW_NO_SLOT. */
static __always_inline __u32 quoted_fragment(struct __sk_buff *skb, __u32 transport, __u8 next, const __u32 *source,
					     const __u32 *destination)
{
	struct fragment_header fragment;
	struct fragment_key key __attribute__((aligned(8)));
	__u32 *found;

	if (next != NEXT_FRAGMENT || bpf_skb_load_bytes(skb, transport, &fragment, FRAGMENT_HEADER) ||
	    !(bpf_ntohs(fragment.offset_flags) & 0xfff8))
		return HW_NO_SLOT;
	copy16(key.source, source);
	copy16(key.destination, destination);
	key.identification = fragment.identification;
	found = fragments.lookup(&key);
	return found ? *found : HW_NO_SLOT;
}

/* The ports of a quoted packet, and what they are of; 0: it has none, or only its first fragment has. */
static __always_inline __u8 quoted_ports(struct __sk_buff *skb, __u32 transport, __u8 next, __u16 *ports)
{
	struct fragment_header fragment;
#ifdef HW_CLIENT
	__u8 options[2];

	/* It may have told its way back. */
	if (next == NEXT_DESTINATION) {
		if (bpf_skb_load_bytes(skb, transport, options, 2))
			return 0;
		transport += (options[1] + 1) * 8;
		next = options[0];
	}
#endif
	if (next == NEXT_FRAGMENT) {
		if (bpf_skb_load_bytes(skb, transport, &fragment, FRAGMENT_HEADER) ||
		    bpf_ntohs(fragment.offset_flags) & 0xfff8)
			return 0;
		transport += FRAGMENT_HEADER;
		next = fragment.next_header;
	}
	if ((next != NEXT_TCP && next != NEXT_UDP && next != NEXT_SCTP) ||
	    bpf_skb_load_bytes(skb, transport, ports, 4))
		return 0;
	return next;
}

#ifdef HW_CLIENT
/* The path that the quoted packet has had, unless that was dead. */
static __always_inline __u32 quoted_slot(__u32 found, __u32 first_word, const void *source, const void *destination,
					 const __u16 *ports, __u8 protocol)
{
	struct selection *s;

	if (!(found & HW_SELECTION))
		return found;
	s = get_selection(found);
	return s ? slot_in(s, bucket_of(first_word, source, destination, ports[0], ports[1], protocol)) : HW_NO_SLOT;
}

static __always_inline bool is_quote_ours(struct __sk_buff *skb, __u32 first_word, const __u32 *source,
					  const __u32 *destination, __u32 transport, __u8 next, __u32 *slot)
{
	struct service *service = services.lookup((struct address *)destination);
	__u16 ports[2] = {};
	__u32 *found;
	__u8 protocol;

	if (!service)
		return false;
	*slot = quoted_fragment(skb, transport, next, source, destination);
	protocol = quoted_ports(skb, transport, next, ports);
	found = find_route(service->group, ports[1], protocol);
	if (found)
		*slot = quoted_slot(*found, first_word, source, destination, ports, protocol);
	return true;
}
#endif

#ifdef HW_SERVER
static __always_inline bool is_quote_ours(struct __sk_buff *skb, __u32 first_word, const __u32 *source,
					  const __u32 *destination, __u32 transport, __u8 next, __u32 *slot)
{
	struct settings *set = get_settings();
	__u16 ports[2] = {};
	struct flow_id id;
	__u64 word;

	*slot = quoted_fragment(skb, transport, next, source, destination);
	if (*slot != HW_NO_SLOT)
		return true;
	next = quoted_ports(skb, transport, next, ports);
	if (!set || !next)
		return false;
	id = flow_identify(set, destination, source, flow_ports(ports[1], ports[0]), next);
	word = flow_known(&id);
	*slot = word & HW_SLOT_MASK;
	return word;
}
#endif

#endif
