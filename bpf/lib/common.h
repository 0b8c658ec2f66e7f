/* Small things every part needs: checked access, 16-byte copies, wire constants. */
#ifndef HAWKWING_COMMON_H
#define HAWKWING_COMMON_H

#define NEXT_HOP_BY_HOP 0
#define NEXT_IPV4 4
#define NEXT_TCP 6
#define NEXT_UDP 17
#define NEXT_IPV6 41
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTH 51
#define NEXT_ICMPV6 58
#define NEXT_DESTINATION 60
#define NEXT_SCTP 132
#define NEXT_ETHERNET 143

#define IPV6_HEADER 40
#define IPV6_MIN_MTU 1280
#define FRAGMENT_HEADER 8

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The compiler learns nothing of x from what comes before, and moves no computation of it across. */
#define BARRIER(x) asm volatile("" : "+r"(x))

/*
 * A length outside its bounds. Two compares of one 64-bit register, right before
 * the use: LLVM would merge or move them, and the verifier lose what they say.
 * `low` is above 1: LLVM turns ">= 1" into "!= 0", of which older verifiers learn nothing.
 */
#define OUTSIDE(x, low, high) ({ \
	bool out_ = true; \
	BARRIER(x); \
	if ((x) >= (low)) { \
		BARRIER(x); \
		if ((x) <= (high)) \
			out_ = false; \
	} \
	out_; \
})

/*
 * Helpers that BCC 0.18 doesn't declare, or that BCC declares with a type that loses bits: bpf_csum_diff
 * returns a 32-bit sum or a negative error, which fit no int.
 */
static long (*check_mtu)(void *ctx, __u32 ifindex, __u32 *mtu, __s32 difference, __u64 flags) = (void *)163;
static __s64 (*sum_difference)(const void *from, __u32 from_size, const void *to, __u32 to_size, __u32 seed) =
	(void *)28;
static long (*read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*redirect_neigh)(__u32 ifindex, void *parameters, int length, __u64 flags) = (void *)152;

struct ipv6_header {
	__u32 version_class_label;
	__u16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u32 source[4];
	__u32 destination[4];
};

struct srh_header {
	__u8 next_header;
	__u8 ext_length;		/* in 8 bytes, less the first 8 */
	__u8 type;
	__u8 segments_left;
	__u8 last_entry;
	__u8 flags;
	__u16 tag;
};

struct fragment_header {
	__u8 next_header;
	__u8 zero;
	__u16 offset_flags;
	__u32 identification;
};

/* A way of the flow table. */
struct flow_place {
	__u32 bucket;
	__u32 way;
	__u32 weight;
	__u32 source;			/* whose flow it is at present; HW_NO_SLOT: nobody's */
};

/* What follows an IPv6 header. */
struct walk {
	__u8 header[8] __attribute__((aligned(8)));	/* the beginning of the last one */
	__u32 offset;			/* of the transport header, from the start of the packet */
	__u32 fragment_at;		/* of the Fragment header; 0: none */
	__u32 identification;		/* wire order */
	__u32 hop_by_hop;		/* bytes of the Hop-by-Hop header; 0: none */
	__u8 protocol;
	bool later_fragment;		/* has no transport header */
	__u16 source_port;		/* wire order; 0 where the protocol has none */
	__u16 destination_port;
	__u32 result;			/* of the walk */
};

/* What is to be done with a packet that leaves (decide.h). */
struct decision {
	__u32 action;
	__u32 reason;			/* why it passes as it is */
	__u32 slot;
	__u32 route;			/* a client's: the slot, or the selection that it is one of */
	__u32 bucket;			/* of the flow in a selection */
	__u32 link;			/* that a packet with another next hop leaves by; 0: its own next hop is right */
	__u32 mtu;
	__u32 mss;			/* the most that a SYN may offer; 0: it is no SYN */
	__u32 resize;			/* TCP segmentation is to cut smaller pieces */
	__u32 next;			/* what follows the IPv6 header */
};

/*
 * Where the reading of a DNS message is. What changes from step to step, or bounds it, is read from memory each
 * time: to the verifier every step then looks alike.
 */
struct dns_reading {
	volatile __u32 length;		/* of the message */
	volatile __u32 position;
	volatile __u32 answers;		/* still to be read */
	volatile __u32 addresses;	/* found */
	__u16 address_at[32];		/* where */
};

/* What `authenticate` needs (hmac.h), and what it computes. */
struct hmac_work {
	__u32 words[HW_HMAC_WORDS];	/* the blocks that are hashed, in the host's order */
	__u32 state[8];
	__u32 source[4];
	struct signed_key signs;
	struct verified_key verified;
	struct hmac_code code;
	__u32 number;			/* of the key */
	__u32 verifies;			/* 0: it signs */
	__u32 drops;			/* a packet whose HMAC is wrong must not reach the kernel */
	__u32 inner;			/* blocks of the inner hash */
	__u32 back;			/* the program that looks at the packet then */
	__u32 signer;			/* settings.hmac_key, when the packet that arrives was looked at */
};

/* The way back that a packet tells. */
struct told {
	struct address segments[16];
	__u32 count;			/* of those behind the first one; 0: none is believed */
	__u32 next;			/* what follows the header */
	__u32 bytes;			/* of the header */
	__u32 zero;
};

/*
 * Room that does not fit the stack; one per CPU. What a parser found is kept here
 * too: read back from memory, all ways through it look alike to the verifier.
 */
struct scratch {
	__u8 head[1024];
	__u8 srh[HW_SRH_FIXED + 16 * HW_MAX_LIST] __attribute__((aligned(8)));	/* that arrived */
	__u8 chunk[512 + 8];
	__u8 quote[192];
	struct told told __attribute__((aligned(8)));
	__u8 rest[HW_MAX_SPLIT];	/* of a datagram whose first fragment is being sent */
	/* Its name, behind a header of 12 bytes, is then aligned to 8. */
	__u8 dns_padding[4] __attribute__((aligned(8)));
	__u8 dns[HW_MAX_DNS + 65];
	__u32 position;
	__u32 cloning;			/* a fragment that we have made is being sent */
	__u32 redirected;		/* what was sent to another next hop comes by here once more */
	struct dns_reading reading;
	__u32 last_entry;		/* of the SRH that arrived */
	struct flow_place place;
	struct walk walk;
	struct decision decision;
	__u64 socket;			/* the address of the one that sends the packet */
	struct fragment_key fragment;
	struct question_key question;
	struct question asked;
	struct policy policy __attribute__((aligned(8)));
	struct name_key name __attribute__((aligned(8)));
	struct hmac_work hmac __attribute__((aligned(8)));
};

/*
 * Where a packet begins and ends. In C these are 32-bit members of the context; the verifier knows them as
 * pointers, which LLVM must not widen, hoist out of a loop or take for the same after a helper moved the packet.
 */
#define CONTEXT_POINTER(context, type, member) ({ \
	void *pointer_; \
	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(pointer_) \
		     : "r"(context), "i"(__builtin_offsetof(type, member)) : "memory"); \
	pointer_; \
})

static __always_inline void *packet_start(const struct __sk_buff *skb)
{
	return CONTEXT_POINTER(skb, struct __sk_buff, data);
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	return CONTEXT_POINTER(skb, struct __sk_buff, data_end);
}

/*
 * `length` bytes at `p`, or NULL where the packet ends before. The barrier keeps the answer a pointer of its own,
 * which the caller compares with NULL: LLVM would repeat this comparison there, and the verifier not know that both
 * come out the same.
 */
static __always_inline void *within(void *p, __u32 length, const void *end)
{
	if (p + length > end)
		return NULL;
	BARRIER(p);
	return p;
}

static __always_inline void *packet_at(const struct __sk_buff *skb, __u64 offset, __u32 length)
{
	return within(packet_start(skb) + offset, length, packet_end(skb));
}

/* The same, pulling the bytes into the linear part where they are not there yet. */
static __always_inline void *packet_pull(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	void *p = packet_at(skb, offset, length);

	if (likely(p))
		return p;
	if (offset + length > skb->len || bpf_skb_pull_data(skb, offset + length))
		return NULL;
	return packet_at(skb, offset, length);
}

/*
 * A word of the stack for what a helper reads or writes. It is written as a whole first: what a place written in part
 * held before counts for the verifier, which then goes through all that follows once for each of its contents.
 */
union stack_word {
	__u64 whole;
	__u32 number;
	__u16 halves[4];
	__u8 bytes[8];
};

static __always_inline void clear_word(union stack_word *word)
{
	*(volatile __u64 *)&word->whole = 0;
}

/* Its first four bytes become `number`, the others 0. */
static __always_inline void set_number(union stack_word *word, __u64 number)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*(volatile __u64 *)&word->whole = number;
#else
	*(volatile __u64 *)&word->whole = number << 32;
#endif
}

/* `length` bytes of the packet into a word; false where it ends before. */
static __always_inline bool read_word(struct __sk_buff *skb, __u32 offset, __u32 length, union stack_word *word)
{
	clear_word(word);
	return !bpf_skb_load_bytes(skb, offset, word, length);
}

/* The MTU of an interface (0: the packet's own), or 0 where there is no such interface. */
static __always_inline __u32 mtu_of(struct __sk_buff *skb, __u32 link)
{
	union stack_word mtu;

	clear_word(&mtu);
	/* Below 0: no such interface; above: this very packet is too long, which is no matter here. */
	if (check_mtu(skb, link, &mtu.number, 0, 0) < 0)
		return 0;
	return mtu.number;
}

/*
 * What `place`, in a map, holds, from memory: the compiler forgets what it knows of all memory, and to the verifier
 * all ways that lead here look alike.
 */
#define READ_BACK(place) ({ \
	asm volatile("" : : : "memory"); \
	*(volatile typeof(place) *)&(place); \
})

static __always_inline void copy16(void *to, const void *from)
{
	__u32 *t = to;
	const __u32 *f = from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
	t[3] = f[3];
}

static __always_inline bool same16(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]));
}

/* 1 where `x` is 0, else 0: without a branch, each of which would double what the verifier goes through. */
static __always_inline __u64 is_zero(__u64 x)
{
	__u64 negative = -x, zero;

	/* LLVM would make branches of what it knows to be 0 or 1. */
	BARRIER(negative);
	zero = ~(x | negative) >> 63;
	BARRIER(zero);
	return zero;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What the sum over a packet grows by when one of its words changes (RFC 1624). */
static __always_inline __u16 csum_difference(__u32 before, __u32 after)
{
	return fold((__u64)(__u32)~before + after);
}

#endif
