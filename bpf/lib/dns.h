/*
 * DNS answers (RFC 1035), read from a buffer of HW_MAX_DNS bytes at the most. Every
 * AAAA of the answer section belongs to the name asked for: resolvers put the CNAME
 * chain and its addresses there. Indices are masked for the verifier.
 */
#ifndef HAWKWING_DNS_H
#define HAWKWING_DNS_H

#define DNS_PORT 53
#define DNS_HEADER 12
#define DNS_TYPE_AAAA 28
#define DNS_CLASS_INTERNET 1

static __always_inline const __u8 *dns_at(const __u8 *m, __u64 i)
{
	BARRIER(i);
	return m + (i & 0x7ff);
}

static __always_inline __u16 dns_u16(const __u8 *m, __u32 i)
{
	return *dns_at(m, i) << 8 | *dns_at(m, i + 1);
}

#define DNS_EACH_BYTE(x) ((x) * 0x0101010101010101ULL)

/*
 * Copies a name, in lower case and with zeros behind it. Eight bytes at a time and without a branch: a loop over
 * bytes would be most of what the verifier goes through. Returns the length with the root's zero byte;
 * 0: no name ends within HW_MAX_NAME bytes. Both are aligned to 8 bytes. `name` has 256 bytes.
 */
static __always_inline __u32 dns_copy_name(const __u64 *name, __u64 *key)
{
	__u64 inside = ~0ULL, length = 0;
	int i;

#pragma unroll
	for (i = 0; i < 32; i++) {
		__u64 word = name[i], low = word & DNS_EACH_BYTE(0x7f), upper, zero, kept, ends;

		/* Bits 7 of the bytes that are 0, the lowest one exactly; then all bits below it. */
		zero = (word - DNS_EACH_BYTE(0x01)) & ~word & DNS_EACH_BYTE(0x80);
		kept = (((zero & -zero) >> 7) - 1) & inside;
		ends = (__s64)(zero | -zero) >> 63;
		BARRIER(ends);
		inside &= ~ends;
		length += ((kept & DNS_EACH_BYTE(0x01)) * DNS_EACH_BYTE(0x01)) >> 56;
		/* Lengths of labels are below 'A': lower case can be made of every byte. */
		upper = (low + DNS_EACH_BYTE(0x80 - 'A')) ^ (low + DNS_EACH_BYTE(0x7f - 'Z'));
		upper &= ~word & DNS_EACH_BYTE(0x80);
		key[i] = (word | upper >> 2) & kept;
		/* Else LLVM reads all words first, and keeps them on the stack. */
		asm volatile("" : : : "memory");
	}
	return inside ? 0 : length + 1;
}

/* A whole answer without an error, or a question: QR, opcode, TC and RCODE (RFC 1035, section 4.1.1). */
static __always_inline bool dns_is_answer(const __u8 *m)
{
	return (m[2] & 0xfa) == 0x80 && !(m[3] & 0x0f);
}

static __always_inline bool dns_is_question(const __u8 *m)
{
	return !(m[2] & 0xfa);
}

/* Copies the name asked for into `key`; false: not one question for AAAA. */
static __always_inline bool dns_question(const __u8 *m, struct dns_reading *r, struct name_key *key)
{
	__u32 at;

	if (dns_u16(m, 4) != 1)
		return false;
	at = dns_copy_name((void *)(m + DNS_HEADER), (void *)key->name);
	if (!at)
		return false;
	at += DNS_HEADER;
	if (at + 4 > r->length || dns_u16(m, at) != DNS_TYPE_AAAA || dns_u16(m, at + 2) != DNS_CLASS_INTERNET)
		return false;
	r->position = at + 4;
	return true;
}

/*
 * One step through the resource records: over a label of a record's name, or from the name's end over the record,
 * whose data, where they are an address, then are noted.
 */
static __always_inline bool dns_step(const __u8 *m, struct dns_reading *r)
{
	__u32 at = r->position, found;
	__u8 c = *dns_at(m, at);
	__u16 size;

	if (at >= r->length || !r->answers)
		return false;
	if (c >= 1 && c <= 0x3f) {
		r->position = at + 1 + c;
		return true;
	}
	if (c >= 1 && c <= 0xbf)
		return false;
	/* The type, behind the root's zero byte or a pointer to the rest of the name. */
	at += 1 + (c >> 7);
	size = dns_u16(m, at + 8);
	if (at + 10 + size > r->length)
		return false;
	r->position = at + 10 + size;
	r->answers--;
	if (size != 16 || dns_u16(m, at) != DNS_TYPE_AAAA || dns_u16(m, at + 2) != DNS_CLASS_INTERNET)
		return true;
	found = r->addresses;
	if (found >= HW_MAX_ANSWERS)
		return false;
	r->address_at[found & 31] = at + 10;
	r->addresses = found + 1;
	return true;
}

/* Notes where the addresses in the answer section are. */
static __always_inline void dns_find_addresses(const __u8 *m, struct dns_reading *r)
{
	int i;

	r->answers = dns_u16(m, 6);
	r->addresses = 0;
	for (i = 0; i < HW_MAX_DNS_STEPS; i++) {
		if (!dns_step(m, r))
			return;
	}
}

#endif
