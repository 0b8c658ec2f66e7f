/*
 * What goes to the SIDs at which the kernel removes the outer header (`decap`). The kernel looks neither at the
 * destination of an inner IPv4 packet nor, unless it has the key, at an HMAC.
 */
#ifndef HAWKWING_DECAP_H
#define HAWKWING_DECAP_H

/* Bytes from the start of an IPv4 header. */
#define IPV4_DESTINATION 16
/* The first byte of 127.0.0.0/8, which no link carries (RFC 1122, section 3.2.1.3). */
#define IPV4_LOOPBACK 127

static __always_inline bool is_decap_sid(const struct settings *set, const void *address)
{
	const __u64 *sid = address;

	return (sid[0] | sid[1]) && (same16(set->decap[0].bytes, address) || same16(set->decap[1].bytes, address));
}

/* Is the inner packet at `inner`, of kind `next`, for this host? HW_ENCAPSULATED: it is, or the kernel looks itself. */
static __always_inline int judge_inner(struct __sk_buff *skb, __u32 inner, __u8 next, const struct settings *set,
				       struct scratch *s)
{
	__u32 *words = (void *)s->fragment.destination;

	if (next == NEXT_IPV6)
		return HW_ENCAPSULATED;
	/* As in the table of this host's addresses. */
	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	if (next != NEXT_IPV4 || bpf_skb_load_bytes(skb, inner + IPV4_DESTINATION, &words[3], 4) ||
	    *(__u8 *)&words[3] == IPV4_LOOPBACK)
		return HW_DECAP_FOREIGN;
	return is_local(set, s->fragment.destination) ? HW_ENCAPSULATED : HW_DECAP_FOREIGN;
}

/*
 * What becomes of a packet to such a SID: HW_ENCAPSULATED, or why it is dropped. HW_REASON_COUNT: `authenticate` has to
 * find out whether its HMAC is valid. The kernel takes more kinds of packets than these: they could hide what is inside.
 *   IPv6(T, SID) X    IPv6(T, SID) SRH(SID, ..; SL=0) X
 */
static __always_inline int judge_decapsulated(struct __sk_buff *skb, const struct ipv6_header *ip6, __u32 l3,
					      const struct settings *set, struct scratch *s)
{
	struct srh_header *srh = (void *)s->srh;
	__u32 at = l3 + IPV6_HEADER, length, last_entry;
	__u8 next = ip6->next_header;
	int found;

	if (next != NEXT_ROUTING)
		return set->hmac_key ? HW_DECAP_UNSIGNED : judge_inner(skb, at, next, set, s);
	if (bpf_skb_load_bytes(skb, at, s->srh, HW_SRH_FIXED) || srh->type != 4 || srh->segments_left)
		return HW_DECAP_FOREIGN;
	next = srh->next_header;
	length = (srh->ext_length + 1) * 8;
	last_entry = srh->last_entry;
	if (set->hmac_key) {
		found = HW_HMAC_MISSING;
		if ((last_entry + 1) * 16 + HW_SRH_FIXED <= length && load_list(skb, at, last_entry, s))
			found = look_up_hmac(skb, ip6, at, length, last_entry, s);
		s->hmac.drops = 1;
		if (found == HW_REASON_COUNT)
			return found;
		if (found != HW_STRIPPED)
			return HW_DECAP_UNSIGNED;
	}
	return judge_inner(skb, at + length, next, set, s);
}

#endif
