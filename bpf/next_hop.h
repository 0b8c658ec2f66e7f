/*
 * Where a packet goes with its SRH. The kernel has chosen the next hop of the old destination; the first segment may
 * have another one: on a link with several routers, or with the destination itself. Where the frame's destination isn't
 * the next hop of the first segment, the kernel looks up route and neighbour once more (bpf_redirect_neigh).
 */
#ifndef HAWKWING_NEXT_HOP_H
#define HAWKWING_NEXT_HOP_H

#define HW_MAC_MASK ((1ULL << HW_NEXT_HOP_BITS) - 1)
#define HW_CAME_FROM_THERE (1ULL << 63)

/* The link-layer address at `offset` of a frame, and this interface, as in `struct policy`; 0: none. */
static __always_inline __u64 next_hop_at(struct __sk_buff *skb, __u32 offset)
{
	__u64 *address = packet_at(skb, offset, 8);
	__u64 link = skb->ifindex;

	if (!address || link >> (63 - HW_NEXT_HOP_BITS))
		return 0;
	return (*address & HW_MAC_MASK) | link << HW_NEXT_HOP_BITS;
}

/* Has the first segment another next hop than the packet? Links without a link-layer header (l3 = 0) have one only. */
static __always_inline bool goes_elsewhere(struct __sk_buff *skb, __u32 l3, const struct policy *p)
{
	__u64 difference;

	if (!l3 || !p->next_hop)
		return false;
	difference = p->next_hop ^ next_hop_at(skb, 0);
	if (likely(!(difference & ~HW_CAME_FROM_THERE)))
		return false;
	/* What is known of one link says nothing of another one. */
	return difference >> HW_NEXT_HOP_BITS == HW_CAME_FROM_THERE >> HW_NEXT_HOP_BITS ||
	       !(p->next_hop & HW_CAME_FROM_THERE);
}

/* The interface that the first segment's next hop is on. */
static __always_inline __u32 next_hop_link(struct __sk_buff *skb, const struct policy *p)
{
	__u32 link = (p->next_hop & ~HW_CAME_FROM_THERE) >> HW_NEXT_HOP_BITS;

	return link ? link : skb->ifindex;
}

/* The same link, and a known address: it can be written into the frame. */
static __always_inline bool can_write_next_hop(struct __sk_buff *skb, const struct policy *p)
{
	return (p->next_hop & HW_MAC_MASK) != HW_MAC_MASK && next_hop_link(skb, p) == skb->ifindex;
}

static __always_inline void write_next_hop(struct __sk_buff *skb, const struct policy *p)
{
	__u64 address = p->next_hop & HW_MAC_MASK;

	if (can_write_next_hop(skb, p))
		bpf_skb_store_bytes(skb, 0, &address, 6, 0);
}

#endif
