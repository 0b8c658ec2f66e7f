/*
 * Sends the probes of many paths at once. The agent runs this (BPF_PROG_TEST_RUN) on packets that it has prepared,
 * because a system call for each probe costs more than everything else. For paths whose next hop it doesn't know, and
 * now and then for all others, the agent uses a socket: then the kernel looks up route and neighbour.
 */
#ifndef HAWKWING_SEND_PROBES_H
#define HAWKWING_SEND_PROBES_H

#define LEAST_PROBE (2 + 14 + IPV6_HEADER + 8)

static __always_inline __u64 *get_unsent(void)
{
	union stack_word zero;

	set_number(&zero, 0);
	return unsent_probes.lookup(&zero.number);
}

/* Writes the present time, the STAMP packet's number and time, and the UDP checksum; false if it has no such places. */
static __always_inline bool renew_probe(struct ready_probe *p, const struct probe_request *request)
{
	__u64 at = p->time_at, now = bpf_ktime_get_ns(), sum;
	__u32 number, *words;
	__u16 checksum;

	if (OUTSIDE(at, LEAST_PROBE, HW_MAX_READY_PROBE - 8))
		return false;
	*(__u64 *)(p->bytes + (at & ~7ULL)) = now;
	sum = p->sum + (now & 0xffffffff) + (now >> 32);
	at = p->number_at;
	if (at) {
		if (OUTSIDE(at, LEAST_PROBE, HW_MAX_READY_PROBE - 12))
			return false;
		number = bpf_htonl(request->round - p->first);
		words = (void *)(p->bytes + (at & ~7ULL));
		words[0] = number;
		words[1] = request->time[0];
		words[2] = request->time[1];
		sum += (__u64)number + request->time[0] + request->time[1];
	}
	checksum = ~fold(sum);
	/* 0 would mean that there is none (RFC 8200, section 8.1). */
	if (!checksum)
		checksum = 0xffff;
	at = p->checksum_at;
	if (OUTSIDE(at, LEAST_PROBE, HW_MAX_READY_PROBE - 2))
		return false;
	*(__u16 *)(p->bytes + (at & ~1ULL)) = checksum;
	return true;
}

/* in: anything   out: Ethernet(next hop) IPv6(A, S1) SRH(.., S1; SL=k) UDP probe, sent by the interface */
static __always_inline bool send_probe(struct __sk_buff *skb, __u32 index, const struct probe_request *request)
{
	struct ready_probe *p;
	union stack_word key;
	__u64 length;

	set_number(&key, index);
	p = ready_probes.lookup(&key.number);
	if (!p || !p->link || !renew_probe(p, request))
		return false;
	length = p->length;
	if (skb->len != length && bpf_skb_change_tail(skb, length, 0))
		return false;
	if (OUTSIDE(length, LEAST_PROBE, HW_MAX_READY_PROBE - 2) ||
	    bpf_skb_store_bytes(skb, 0, p->bytes + 2, length, 0))
		return false;
	return !bpf_clone_redirect(skb, p->link, 0);
}

/* Of those that it is asked for, the ones that were not sent are bits in `unsent_probes`. Returns 0 if there are none. */
static __always_inline int send_ready_probes(struct __sk_buff *skb)
{
	struct probe_request request;
	volatile __u64 *unsent = get_unsent();
	__u32 i, index;

	if (!unsent)
		return 1;
	*unsent = ~0ULL;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &request, sizeof(request)))
		return 1;
	*unsent = 0;
	for (i = 0; i < HW_PROBES_AT_ONCE; i++) {
		if (i >= request.count)
			break;
		index = request.index + i;
		/* This one's turn to be sent by its socket. */
		if (request.every && index % request.every == request.turn)
			continue;
		if (!send_probe(skb, index, &request))
			*unsent |= 1ULL << i;
	}
	return *unsent != 0;
}

#endif
