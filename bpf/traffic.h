/*
 * What the host's own TCP connections tell of a path: round trip, delivery rate, retransmissions and bytes
 * acknowledged. Only connections that may have one of several paths are looked at, and few of their packets.
 */
#ifndef HAWKWING_TRAFFIC_H
#define HAWKWING_TRAFFIC_H

/* One of so many packets; the first and the last one of a connection always. A power of 2. */
#define LOOKED_AT 16

static __always_inline struct path_traffic *get_traffic(__u32 slot)
{
	union stack_word key;

	set_number(&key, slot);
	return traffic.lookup(&key.number);
}

/* What has happened to a connection since it was looked at last belongs to the path that it had then. */
static __always_inline void note_progress(__u64 cookie, __u32 slot, __u32 retransmitted, __u64 acknowledged)
{
	struct connection *c, fresh = {};
	struct path_traffic *former;

	c = connections.lookup(&cookie);
	if (!c) {
		fresh.acknowledged = acknowledged;
		fresh.retransmitted = retransmitted;
		fresh.slot = slot;
		connections.update(&cookie, &fresh);
		return;
	}
	former = get_traffic(c->slot);
	if (former) {
		__sync_fetch_and_add(&former->retransmitted, (__u64)(__u32)(retransmitted - c->retransmitted));
		__sync_fetch_and_add(&former->acknowledged, acknowledged - c->acknowledged);
	}
	c->acknowledged = acknowledged;
	c->retransmitted = retransmitted;
	c->slot = slot;
}

static __always_inline void look_at_connection(struct __sk_buff *skb, __u32 slot)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct path_traffic *t;
	__u64 taken, rate;
	__u32 retransmitted;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	t = get_traffic(slot);
	if (!tcp || !t)
		return;
	/* The kernel has eighths of microseconds. */
	taken = (__u64)tcp->srtt_us * 125;
	if (taken) {
		t->round_trip = t->samples ? t->round_trip + ((__s64)(taken - t->round_trip) >> 3) : taken;
		t->samples++;
	}
	/* An application that has little to send shows nothing of what the path carries: the window has to be used. */
	if (tcp->rate_interval_us && tcp->packets_out * 2 >= tcp->snd_cwnd) {
		rate = (__u64)tcp->rate_delivered * tcp->mss_cache * 1000000 / tcp->rate_interval_us;
		t->rate = t->rate ? t->rate + ((__s64)(rate - t->rate) >> 3) : rate;
	}
	retransmitted = tcp->total_retrans;
	note_progress(bpf_get_socket_cookie(skb), slot, retransmitted, tcp->bytes_acked);
}

/* For the fast path: `flags` of the TCP header. */
static __always_inline void look_now_and_then(struct __sk_buff *skb, __u32 slot, __u8 flags)
{
	if (!(flags & TCP_FLAG_FIN) && (bpf_get_prandom_u32() & (LOOKED_AT - 1)))
		return;
	look_at_connection(skb, slot);
}

#endif
