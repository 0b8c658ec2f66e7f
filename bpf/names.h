/*
 * What a client learns: addresses of configured names, from DNS answers to questions that it has sent. Anybody can send
 * a datagram from port 53; who doesn't see the question has to guess its port and identifier.
 */
#ifndef HAWKWING_NAMES_H
#define HAWKWING_NAMES_H

/* Reads the question of the message of `length` bytes at `offset`; the group of its name, or 0. */
static __always_inline __u32 read_question(struct __sk_buff *skb, struct scratch *s, __u32 offset, __u64 length,
					   bool answer)
{
	__u32 *group;

	if (OUTSIDE(length, DNS_HEADER + 5, HW_MAX_DNS) || bpf_skb_load_bytes(skb, offset, s->dns, length))
		return 0;
	s->reading.length = length;
	if (!(answer ? dns_is_answer(s->dns) : dns_is_question(s->dns)) ||
	    !dns_question(s->dns, &s->reading, &s->name))
		return 0;
	group = names.lookup(&s->name);
	__builtin_memcpy(&s->question.id, s->dns, 2);
	return group ? *group : 0;
}

/*
 * Who sent and who gets a UDP datagram: one to a name server's port when it `leaves`, from one when it doesn't.
 * Fills in s->question but for the message's identifier; the offset of the UDP header, or 0.
 */
static __always_inline __u32 find_dns(struct __sk_buff *skb, __u32 l3, struct scratch *s, bool leaves)
{
	struct question_key *q = &s->question;
	__u8 *source = leaves ? q->own : q->server, *destination = leaves ? q->server : q->own;
	struct ipv6_header *ip6;
	__u16 *ports;
	__u8 *header;
	__u32 udp;

	q->zero = 0;
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		ip6 = packet_pull(skb, l3, IPV6_HEADER + 4);
		if (!ip6 || ip6->next_header != NEXT_UDP)
			return 0;
		ports = (void *)(ip6 + 1);
		if (ports[leaves] != bpf_htons(DNS_PORT))
			return 0;
		copy16(source, ip6->source);
		copy16(destination, ip6->destination);
		q->own_port = ports[!leaves];
		return l3 + IPV6_HEADER;
	}
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	header = packet_pull(skb, l3, 20);
	if (!header || (header[0] & 0x0f) < 5 || header[9] != NEXT_UDP || (header[6] & 0x3f) || header[7])
		return 0;
	__builtin_memset(q->own, 0, 10);
	__builtin_memset(q->own + 10, 0xff, 2);
	__builtin_memcpy(q->server, q->own, 12);
	__builtin_memcpy(source + 12, header + 12, 4);
	__builtin_memcpy(destination + 12, header + 16, 4);
	udp = l3 + (header[0] & 0x0f) * 4;
	ports = packet_pull(skb, udp, 4);
	if (!ports || ports[leaves] != bpf_htons(DNS_PORT))
		return 0;
	q->own_port = ports[!leaves];
	return udp;
}

/* Length of the DNS message behind a UDP header; 0: it says nonsense. */
static __always_inline __u64 dns_length(struct __sk_buff *skb, __u32 udp)
{
	union stack_word length;

	if (!read_word(skb, udp + 4, 2, &length) || bpf_ntohs(length.halves[0]) <= 8)
		return 0;
	return bpf_ntohs(length.halves[0]) - 8;
}

/* Notes a question that leaves, of a configured name and from an address of this host: its answer may teach. */
static __always_inline void note_question(struct __sk_buff *skb, __u32 udp, struct scratch *s)
{
	struct settings *set = get_settings();
	__u64 length = dns_length(skb, udp);
	struct question *asked = &s->asked;

	if (length > HW_MAX_QUESTION)
		length = HW_MAX_QUESTION;
	if (!set || !is_local(set, s->question.own))
		return;
	asked->group = read_question(skb, s, udp + 8, length, false);
	if (!READ_BACK(asked->group))
		return;
	asked->sent = bpf_ktime_get_ns();
	questions.update(&s->question, asked);
}

/* Was this asked, a short while ago? It is asked no more. */
static __always_inline bool was_asked(const struct question_key *key, __u32 group)
{
	struct question *asked = questions.lookup(key);
	bool fits = asked && asked->group == group &&
		    bpf_ktime_get_ns() - asked->sent < HW_ANSWER_SECONDS * 1000000000ULL;

	if (fits)
		questions.delete(key);
	return fits;
}

/*
 * May an answer name it? Not ::/64 (unspecified, loopback, IPv4-mapped), link-local or multicast, nor an address of
 * this host: nothing that a configuration could not have.
 */
static __always_inline bool is_teachable(const struct settings *set, const __u8 *address)
{
	const __u32 *words = (void *)address;

	return (words[0] | words[1]) && address[0] != 0xff && !(address[0] == 0xfe && (address[1] & 0xc0) == 0x80) &&
	       !is_local(set, address);
}

/* A DNS answer with its UDP header at `udp`: its addresses belong to the service asked for. */
static __always_inline void learn_names(struct __sk_buff *skb, __u32 udp)
{
	struct settings *set = get_settings();
	struct scratch *s = scratch_room();
	__u32 i, data, group;
	__u64 length;
	__u8 *m;

	if (!s || !set)
		return;
	length = dns_length(skb, udp);
	if (length > HW_MAX_DNS)
		length = HW_MAX_DNS;
	group = read_question(skb, s, udp + 8, length, true);
	if (!group || !was_asked(&s->question, group))
		return;
	m = s->dns;
	dns_find_addresses(m, &s->reading);
	for (i = 0; i < HW_MAX_ANSWERS; i++) {
		struct service service = { .group = group, .origin = 2 };
		struct learned_name name = { .group = group };

		if (i >= s->reading.addresses)
			return;
		data = s->reading.address_at[i];
		__builtin_memcpy(name.address, dns_at(m, data), 16);
		if (!is_teachable(set, name.address))
			continue;
		name.ttl = (__u32)dns_u16(m, data - 6) << 16 | dns_u16(m, data - 4);
		/* The agent first: what the kernel knows, the agent knows. What the agent has set stays. */
		if (learned_names.ringbuf_output(&name, sizeof(name), 0)) {
			count(HW_INGRESS, HW_NAME_LOST, skb->len);
			continue;
		}
		if (services.insert((struct address *)name.address, &service) &&
		    !services.lookup((struct address *)name.address)) {
			count(HW_INGRESS, HW_NAME_LOST, skb->len);
			continue;
		}
		count(HW_INGRESS, HW_NAME_LEARNED, skb->len);
	}
}

#endif
