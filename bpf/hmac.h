/*
 * The HMAC TLV of an SRH (RFC 8754, section 2.1.2), as Linux has it. What it covers is the same for all packets between
 * two addresses over a list: it is computed once and kept, by a program of its own (`authenticate`) that egress and
 * ingress call, and that calls them again.
 */
#ifndef HAWKWING_HMAC_H
#define HAWKWING_HMAC_H

#define HMAC_TYPE 5
#define HMAC_LENGTH 38
#define SRH_FLAG_HMAC 0x08
#define INNER_PAD 0x36363636
#define OUTER_PAD 0x5c5c5c5c
/* Bytes that are hashed before the segments: source, last entry, flags, key number. */
#define HMAC_HEAD 22
#define KEY_WORDS 16
#define END_OF_MESSAGE 0x80000000

/* The header of the TLV, as one word in wire order. */
static __always_inline __u64 hmac_header(__u32 number)
{
	return bpf_htonll((__u64)HMAC_TYPE << 56 | (__u64)HMAC_LENGTH << 48 | number);
}

/* Loads the HMAC of packets between these addresses over the list of `p` into `s->hmac`; false: it is not known yet. */
static __always_inline bool load_signature(const struct ipv6_header *ip6, const struct policy *p, struct scratch *s)
{
	struct signed_key *key = &s->hmac.signs;
	struct hmac_code *found;

	copy16(key->source, ip6->source);
	copy16(key->destination, ip6->destination);
	key->list = p->signed_as;
	found = signatures.lookup(key);
	if (!found)
		return false;
	s->hmac.code = *found;
	return true;
}

/* What `authenticate` needs to sign such packets, besides what `load_signature` has left. */
static __always_inline void prepare_signature(const struct ipv6_header *ip6, const struct policy *p, struct scratch *s)
{
	struct hmac_work *h = &s->hmac;

	h->verifies = 0;
	h->drops = 0;
	h->number = p->key_number;
	copy16(h->source, ip6->source);
	__builtin_memcpy(__builtin_assume_aligned(s->srh, 8), __builtin_assume_aligned(p->srh, 8), HW_SRH_MAX);
	copy16(s->srh + HW_SRH_FIXED, ip6->destination);
}

/*
 * Has the SRH of `length` bytes at `at`, whose fixed part and segments are in `s->srh`, a valid HMAC? HW_STRIPPED: it
 * has. HW_REASON_COUNT: that is not known yet, and `authenticate` can find out.
 */
static __always_inline int look_up_hmac(struct __sk_buff *skb, const struct ipv6_header *ip6, __u32 at, __u32 length,
					__u32 last_entry, struct scratch *s)
{
	const __u64 *arrived = (void *)s->srh, *tlv = (void *)s->chunk;
	struct verified_key *key = &s->hmac.verified;
	struct srh_header *srh = (void *)s->srh;
	struct verified *known;
	__u64 bits = 0;
	int i;

	copy16(s->hmac.source, ip6->source);
	copy16(key->source, ip6->source);
	copy16(key->destination, ip6->destination);
	if (!(srh->flags & SRH_FLAG_HMAC) || last_entry >= HW_MAX_SEGMENTS ||
	    length < HW_SRH_FIXED + 16 * (last_entry + 1) + HW_HMAC_TLV ||
	    bpf_skb_load_bytes(skb, at + length - HW_HMAC_TLV, s->chunk, HW_HMAC_TLV))
		return HW_HMAC_MISSING;
	s->hmac.number = bpf_ntohll(tlv[0]);
	if (s->chunk[0] != HMAC_TYPE || s->chunk[1] != HMAC_LENGTH || !hmac_keys.lookup(&s->hmac.number))
		return HW_HMAC_MISSING;
	key->number = s->hmac.number;
	key->code = *(struct hmac_code *)(s->chunk + 8);
	s->hmac.verifies = 1;
	s->hmac.drops = 0;
	/* These are not covered. Nor must the length be that of a list without a TLV: the flow cache has those only. */
	srh->next_header = 0;
	srh->ext_length = 0;
	srh->tag = 0;
	known = verified.lookup(key);
	if (!known)
		return HW_REASON_COUNT;
#pragma unroll
	for (i = 0; i < HW_SRH_MAX / 8; i++) {
		bits |= arrived[i] ^ known->srh[i];
		BARRIER(bits);
	}
	return bits ? HW_REASON_COUNT : HW_STRIPPED;
}

/*
 * Prepares the blocks of HMAC-SHA256 (RFC 2104): the key's and those of the message, then the key's once more, and one
 * for what comes out of the first ones. The segments begin in the middle of a word.
 */
static __always_inline void hmac_blocks(struct hmac_work *h, const struct hmac_key *key, const struct scratch *s)
{
	const struct srh_header *srh = (void *)s->srh;
	volatile __u32 *words = h->words;
	const __u32 *list = (void *)(s->srh + HW_SRH_FIXED);
	__u64 count = 4 * ((srh->last_entry & (HW_MAX_SEGMENTS - 1)) + 1), bytes = HMAC_HEAD + 4 * count;
	__u64 inner = 1 + (bytes + 1 + 8 + 63) / 64, word, before = h->number, at;
	int i;

#pragma unroll
	for (i = 0; i < KEY_WORDS; i++)
		words[i] = bpf_ntohl(key->words[i]) ^ INNER_PAD;
#pragma unroll
	for (i = 0; i < 4; i++)
		words[KEY_WORDS + i] = bpf_ntohl(h->source[i]);
	words[KEY_WORDS + 4] = (__u32)srh->last_entry << 24 | (__u32)srh->flags << 16 | h->number >> 16;
	for (i = 0; i < HW_HMAC_WORDS - KEY_WORDS - 5; i++) {
		at = i;
		BARRIER(count);
		/* Without a branch. What is behind the list, in the rest of the scratch room, counts for nothing. */
		word = bpf_ntohl(*(volatile __u32 *)&list[i]) & ((__s64)(at - count) >> 63);
		word |= is_zero(at ^ count) << 31;
		words[KEY_WORDS + 5 + i] = before << 16 | word >> 16;
		before = word;
	}
	at = inner * 16 - 1;
	BARRIER(at);
	words[at & (HW_HMAC_WORDS - 1)] = (64 + bytes) * 8;
	for (i = 0; i < KEY_WORDS; i++) {
		at = inner * 16 + i;
		BARRIER(at);
		words[at & (HW_HMAC_WORDS - 1)] = bpf_ntohl(key->words[i]) ^ OUTER_PAD;
		at += KEY_WORDS;
		words[at & (HW_HMAC_WORDS - 1)] = 0;
	}
	at = inner * 16 + KEY_WORDS + 8;
	BARRIER(at);
	words[at & (HW_HMAC_WORDS - 1)] = END_OF_MESSAGE;
	at += 7;
	words[at & (HW_HMAC_WORDS - 1)] = (64 + 32) * 8;
	h->inner = inner;
}

/* The HMAC of the SRH in `s->srh`, into `s->hmac.code`. */
static __always_inline void compute_hmac(const struct hmac_key *key, struct scratch *s)
{
	struct hmac_work *h = &s->hmac;
	__u32 *code = (void *)&h->code;
	__u64 turn;
	__u32 i, k;

	hmac_blocks(h, key, s);
	sha256_begin(h->state, 1);
	for (i = 0; i < HW_HMAC_WORDS / 16; i++) {
		if (i >= READ_BACK(h->inner) + 2)
			break;
		/* What the inner blocks give is in the last one. Without a branch: the verifier would go twice through the rest. */
		turn = is_zero(i ^ READ_BACK(h->inner));
#pragma unroll
		for (k = 0; k < 8; k++)
			h->words[(i * 16 + KEY_WORDS + k) & (HW_HMAC_WORDS - 1)] +=
				turn * (h->state[k] - h->words[(i * 16 + KEY_WORDS + k) & (HW_HMAC_WORDS - 1)]);
		sha256_begin(h->state, turn);
		sha256_block(h->state, h->words + i * 16);
	}
#pragma unroll
	for (i = 0; i < 8; i++)
		code[i] = bpf_htonl(READ_BACK(h->state[i]));
}

static __always_inline bool same_code(const struct hmac_code *a, const struct hmac_code *b)
{
	return !((a->words[0] ^ b->words[0]) | (a->words[1] ^ b->words[1]) | (a->words[2] ^ b->words[2]) |
		 (a->words[3] ^ b->words[3]));
}

/* A packet without a valid HMAC is left to the kernel, unless that would remove its outer header. */
static __always_inline int refuse(struct __sk_buff *skb, const struct hmac_work *h, __u32 reason)
{
	count(HW_INGRESS, h->drops ? HW_DECAP_UNSIGNED : reason, skb->len);
	return h->drops ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/*
 * Signs packets like this one, or verifies its HMAC, and has its program look at it once more. Its key may have gone in
 * between.
 */
static __always_inline int authenticate_packet(struct __sk_buff *skb)
{
	struct scratch *s = scratch_room();
	struct hmac_work *h;
	struct hmac_key *key;

	if (!s)
		return TC_ACT_UNSPEC;
	h = &s->hmac;
	key = hmac_keys.lookup(&h->number);
	if (key) {
		compute_hmac(key, s);
		if (!h->verifies) {
			signatures.update(&h->signs, &h->code);
		} else if (same_code(&h->code, &h->verified.code)) {
			verified.update(&h->verified, (struct verified *)s->srh);
		} else {
			return refuse(skb, h, HW_HMAC_WRONG);
		}
		programs.call(skb, h->back);
	}
	if (h->verifies)
		return refuse(skb, h, HW_HMAC_MISSING);
	count(HW_EGRESS, HW_NOT_SIGNED, skb->len);
	return TC_ACT_UNSPEC;
}

#endif
