/* What a client learns: addresses of configured names, from DNS answers. */
#ifndef HAWKWING_NAMES_H
#define HAWKWING_NAMES_H

/* A DNS answer of `length` bytes at `offset`: its addresses belong to the service asked for. */
static __always_inline void learn_names(struct __sk_buff *skb, __u32 offset, __u64 length)
{
	struct scratch *s = scratch_room();
	struct dns_reading *r;
	__u32 i, data, *group;
	__u8 *m;

	if (!s)
		return;
	if (length > HW_MAX_DNS)
		length = HW_MAX_DNS;
	if (OUTSIDE(length, DNS_HEADER + 5, HW_MAX_DNS) || bpf_skb_load_bytes(skb, offset, s->dns, length))
		return;
	m = s->dns;
	r = &s->reading;
	r->length = length;
	if (!dns_question(m, r, &s->name))
		return;
	group = names.lookup(&s->name);
	if (!group)
		return;
	dns_find_addresses(m, r);
	for (i = 0; i < HW_MAX_ANSWERS; i++) {
		struct service service = { .group = *group, .origin = 2 };
		struct learned_name name = { .group = *group };

		if (i >= r->addresses)
			return;
		data = r->address_at[i];
		__builtin_memcpy(name.address, dns_at(m, data), 16);
		name.ttl = (__u32)dns_u16(m, data - 6) << 16 | dns_u16(m, data - 4);
		/* What the agent has set stays; the agent hears of it either way. */
		services.insert((struct address *)name.address, &service);
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
