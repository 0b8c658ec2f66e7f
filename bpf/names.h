/* What a client learns: addresses of configured names, from DNS answers. */
#ifndef HAWKWING_NAMES_H
#define HAWKWING_NAMES_H

/* A DNS answer of `length` bytes at `offset`: its addresses belong to the service asked for. */
static __always_inline void learn_names(struct __sk_buff *skb, __u32 offset, __u64 length)
{
	struct scratch *s = scratch_room();
	__u32 i, ttl = 0;
	__u32 *group;
	__u8 *m;

	if (!s)
		return;
	if (length > HW_MAX_DNS)
		length = HW_MAX_DNS;
	if (OUTSIDE(length, DNS_HEADER, HW_MAX_DNS) || bpf_skb_load_bytes(skb, offset, s->dns, length))
		return;
	m = s->dns;
	if (!dns_question(m, length, &s->name, &s->position))
		return;
	group = names.lookup(&s->name);
	if (!group)
		return;
	for (i = 0; i < HW_MAX_ANSWERS; i++) {
		struct service service = { .group = *group, .origin = 2 };
		struct learned_name name = {};
		struct address a;
		int at;

		if (i >= dns_u16(m, 6))
			return;
		at = dns_record(m, length, &s->position, &ttl);
		if (at < 0)
			return;
		if (!at)
			continue;
		at &= 0x7ff;
		__builtin_memcpy(&a, m + at, 16);
		/* What the agent has set stays; the agent hears of it either way. */
		services.insert(&a, &service);
		copy16(name.address, &a);
		name.group = *group;
		name.ttl = ttl;
		learned_names.ringbuf_output(&name, sizeof(name), 0);
		count(HW_INGRESS, HW_NAME_LEARNED, skb->len);
	}
}

static __always_inline void look_for_names(struct __sk_buff *skb, __u32 udp)
{
	__u16 ports[3];

	if (bpf_skb_load_bytes(skb, udp, ports, 6) || ports[0] != bpf_htons(DNS_PORT))
		return;
	if (bpf_ntohs(ports[2]) > 8)
		learn_names(skb, udp + 8, bpf_ntohs(ports[2]) - 8);
}

#endif
