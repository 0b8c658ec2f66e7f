/*
 * Walks from the IPv6 header to the transport header (RFC 8200, section 4.1),
 * at most HW_MAX_EXTENSIONS headers far.
 */
#ifndef HAWKWING_WALK_H
#define HAWKWING_WALK_H

enum walk_result { WALK_OK, WALK_ROUTING, WALK_CHAIN, WALK_TRUNCATED };

/* `offset` is that of the first header after IPv6, of kind `next`. */
static __always_inline int walk_headers(struct __sk_buff *skb, __u32 offset, __u8 next, struct walk *w)
{
	__u8 header[8];
	int i;

	for (i = 0; i <= HW_MAX_EXTENSIONS; i++) {
		if (next == NEXT_ROUTING)
			return WALK_ROUTING;
		if (next != NEXT_HOP_BY_HOP && next != NEXT_DESTINATION && next != NEXT_FRAGMENT &&
		    next != NEXT_AUTH)
			break;
		if (i == HW_MAX_EXTENSIONS)
			return WALK_CHAIN;
		if (bpf_skb_load_bytes(skb, offset, header, 8))
			return WALK_TRUNCATED;
		if (next == NEXT_FRAGMENT) {
			w->fragment_at = offset;
			__builtin_memcpy(&w->identification, header + 4, 4);
			next = header[0];
			offset += FRAGMENT_HEADER;
			if (header[2] || (header[3] & 0xf8)) {
				w->later_fragment = true;
				break;
			}
			continue;
		}
		if (next == NEXT_HOP_BY_HOP) {
			if (i)
				return WALK_CHAIN;
			w->hop_by_hop = (header[1] + 1) * 8;
			if (w->hop_by_hop > HW_MAX_HOP_BY_HOP)
				return WALK_CHAIN;
		}
		offset += next == NEXT_AUTH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		next = header[0];
	}
	w->protocol = next;
	w->offset = offset;
	if (w->later_fragment)
		return WALK_OK;
	if (next == NEXT_TCP || next == NEXT_UDP || next == NEXT_SCTP) {
		if (bpf_skb_load_bytes(skb, offset, header, 4))
			return WALK_TRUNCATED;
		__builtin_memcpy(&w->source_port, header, 2);
		__builtin_memcpy(&w->destination_port, header + 2, 2);
	}
	return WALK_OK;
}

/* The common packet, whose transport header follows at once, needs no loop. */
static __always_inline int walk(struct __sk_buff *skb, __u32 offset, __u8 next, struct walk *w)
{
	__u16 *ports;

	if (next == NEXT_TCP || next == NEXT_UDP) {
		ports = packet_at(skb, offset, 4);
		if (ports) {
			w->protocol = next;
			w->offset = offset;
			w->source_port = ports[0];
			w->destination_port = ports[1];
			return WALK_OK;
		}
	}
	return walk_headers(skb, offset, next, w);
}

#endif
