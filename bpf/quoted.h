/* Which packets that an ICMPv6 error quotes are ours: those that have a binding, or belong to a known flow. */
#ifndef HAWKWING_QUOTED_H
#define HAWKWING_QUOTED_H

#ifdef HW_CLIENT
static __always_inline bool is_quote_ours(struct __sk_buff *skb, const __u32 *source, const __u32 *destination,
					  __u32 transport, __u8 next)
{
	return services.lookup((struct address *)destination);
}
#endif

#ifdef HW_SERVER
static __always_inline bool is_quote_ours(struct __sk_buff *skb, const __u32 *source, const __u32 *destination,
					  __u32 transport, __u8 next)
{
	struct settings *set = get_settings();
	struct fragment_header fragment;
	struct flow_id id;
	__u16 ports[2];

	if (next == NEXT_FRAGMENT) {
		/* Only the first fragment has ports; the router complains of that one, too. */
		if (bpf_skb_load_bytes(skb, transport, &fragment, FRAGMENT_HEADER) ||
		    bpf_ntohs(fragment.offset_flags) & 0xfff8)
			return false;
		transport += FRAGMENT_HEADER;
		next = fragment.next_header;
	}
	if (!set || (next != NEXT_TCP && next != NEXT_UDP && next != NEXT_SCTP) ||
	    bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return false;
	id = flow_identify(set, destination, source, flow_ports(ports[1], ports[0]), next);
	return flow_known(&id);
}
#endif

#endif
