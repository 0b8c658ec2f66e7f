/* ICMP errors for IPv4 (RFC 792, RFC 1191): what the sender of an encapsulated packet is told. */
#ifndef HAWKWING_ICMP4_H
#define HAWKWING_ICMP4_H

#define IPV4_HEADER 20
#define ICMP4_UNREACHABLE 3
#define ICMP4_HOST 1
#define ICMP4_TOO_BIG 4
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_BEFORE (IPV4_HEADER + 8)	/* the quoted packet */
#define ICMP4_QUOTED 68			/* an IPv4 header with options, and 8 bytes more */

struct ipv4_header {
	__u8 version_length;
	__u8 service;
	__u16 length;
	__u16 identification;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u32 source;
	__u32 destination;
};

struct icmp4_message {
	struct ipv4_header ip;
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u16 zero;
	__u16 mtu;
	__u8 quoted[ICMP4_QUOTED];
};

/* Fills in a message about the packet in its `quoted`, zeros behind it, as if it came from where that goes to. */
static __always_inline void icmp4_error(struct icmp4_message *m, __u8 type, __u8 code, __u16 mtu, __u32 quoted)
{
	struct ipv4_header *about = (void *)m->quoted;

	__builtin_memset(&m->ip, 0, sizeof(m->ip));
	m->ip.version_length = 0x45;
	m->ip.length = bpf_htons(ICMP4_BEFORE + quoted);
	m->ip.ttl = 64;
	m->ip.protocol = 1;
	m->ip.source = about->destination;
	m->ip.destination = about->source;
	m->ip.checksum = ~fold(sum_difference(NULL, 0, (void *)&m->ip, sizeof(m->ip), 0));
	m->type = type;
	m->code = code;
	m->checksum = 0;
	m->zero = 0;
	m->mtu = bpf_htons(mtu);
	m->checksum = ~fold(sum_difference(NULL, 0, (void *)&m->type, sizeof(*m) - sizeof(m->ip), 0));
}

/* in: IPv4(a, b) X   out: IPv4(b, a) ICMP(3, 4, mtu; IPv4(a, b) X ..)   to the local stack */
static __always_inline int icmp4_too_big(struct __sk_buff *skb, __u32 l3, __u32 mtu, struct scratch *s)
{
	struct icmp4_message *m = (void *)s->head;
	__u8 mac[6];

	if (bpf_skb_load_bytes(skb, l3, m->quoted, ICMP4_QUOTED))
		return -1;
	icmp4_error(m, ICMP4_UNREACHABLE, ICMP4_TOO_BIG, mtu, ICMP4_QUOTED);
	if (bpf_skb_change_tail(skb, l3 + sizeof(*m), 0) || bpf_skb_store_bytes(skb, l3, m, sizeof(*m), 0))
		return -1;
	return l3 && (bpf_skb_load_bytes(skb, 6, mac, 6) || bpf_skb_store_bytes(skb, 0, mac, 6, 0)) ? -1 : 0;
}

#endif
