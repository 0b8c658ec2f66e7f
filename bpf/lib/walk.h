/*
 * Walks from the IPv6 header to the transport header (RFC 8200, section 4.1),
 * at most HW_MAX_EXTENSIONS headers far.
 */
#ifndef HAWKWING_WALK_H
#define HAWKWING_WALK_H

enum walk_result { WALK_OK, WALK_ROUTING, WALK_CHAIN, WALK_TRUNCATED, WALK_ON };

/* Over one header of kind `*next` at `*offset`, the `i`th; WALK_ON where another one may follow. */
static __always_inline int walk_header(struct __sk_buff *skb, int i, __u32 *offset, __u8 *next, struct walk *w)
{
	__u8 *header = w->header, kind = *next;

	if (kind == NEXT_ROUTING)
		return WALK_ROUTING;
	if (kind != NEXT_HOP_BY_HOP && kind != NEXT_DESTINATION && kind != NEXT_FRAGMENT && kind != NEXT_AUTH)
		return WALK_OK;
	if (i == HW_MAX_EXTENSIONS)
		return WALK_CHAIN;
	if (bpf_skb_load_bytes(skb, *offset, header, sizeof(w->header)))
		return WALK_TRUNCATED;
	*next = header[0];
	if (kind == NEXT_FRAGMENT) {
		w->fragment_at = *offset;
		__builtin_memcpy(&w->identification, header + 4, 4);
		*offset += FRAGMENT_HEADER;
		w->later_fragment = header[2] || (header[3] & 0xf8);
		return w->later_fragment ? WALK_OK : WALK_ON;
	}
	if (kind == NEXT_HOP_BY_HOP) {
		if (i)
			return WALK_CHAIN;
		w->hop_by_hop = (header[1] + 1) * 8;
		if (w->hop_by_hop > HW_MAX_HOP_BY_HOP)
			return WALK_CHAIN;
	}
	*offset += kind == NEXT_AUTH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
	return WALK_ON;
}

/* `offset` is that of the first header after IPv6, of kind `next`. */
static __always_inline int walk_headers(struct __sk_buff *skb, __u32 offset, __u8 next, struct walk *w)
{
	__u16 *ports = (void *)w->header;
	int result;

	/* No loop: until Linux 6.8 its last instruction would have to be a jump, which no compiler promises. */
	result = walk_header(skb, 0, &offset, &next, w);
#define WALK_FURTHER(i) do { \
	if (result == WALK_ON) \
		result = walk_header(skb, i, &offset, &next, w); \
} while (0)
	WALK_FURTHER(1);
	WALK_FURTHER(2);
	WALK_FURTHER(3);
	WALK_FURTHER(4);
	WALK_FURTHER(5);
	WALK_FURTHER(HW_MAX_EXTENSIONS);
#undef WALK_FURTHER
	if (result != WALK_OK)
		return result;
	w->protocol = next;
	w->offset = offset;
	if (!w->later_fragment && (next == NEXT_TCP || next == NEXT_UDP || next == NEXT_SCTP)) {
		if (bpf_skb_load_bytes(skb, offset, ports, 4))
			return WALK_TRUNCATED;
		w->source_port = ports[0];
		w->destination_port = ports[1];
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
