/*
 * DNS answers (RFC 1035), read from a buffer of HW_MAX_DNS bytes at the most. Every
 * AAAA of the answer section belongs to the name asked for: resolvers put the CNAME
 * chain and its addresses there. Indices are masked for the verifier's sake.
 */
#ifndef HAWKWING_DNS_H
#define HAWKWING_DNS_H

#define DNS_PORT 53
#define DNS_HEADER 12
#define DNS_TYPE_AAAA 28
#define DNS_AT(m, i) ((m)[(i) & 0x7ff])

static __always_inline __u16 dns_u16(const __u8 *m, __u32 i)
{
	return DNS_AT(m, i) << 8 | DNS_AT(m, i + 1);
}

/* Copies the name asked for, in lower case; false: no whole answer to one AAAA question. */
static __always_inline bool dns_question(const __u8 *m, __u32 length, struct name_key *key,
					 volatile __u32 *position)
{
	__u32 i, at = DNS_HEADER;

	if (length < DNS_HEADER + 5 || !(m[2] & 0x80) || (m[2] & 0x7a) || (m[3] & 0x0f) || dns_u16(m, 4) != 1)
		return false;
	__builtin_memset(key, 0, sizeof(*key));
	/* Lengths of labels are below 'A': lower case can be made of every byte, without a branch. */
	for (i = 0; i <= HW_MAX_NAME; i++) {
		__s32 c = DNS_AT(m, at);

		at++;
		if (!c)
			break;
		c |= (((64 - c) & (c - 91)) >> 31) & 0x20;
		key->name[i & 0xff] = c;
	}
	if (i > HW_MAX_NAME || at + 4 > length || dns_u16(m, at) != DNS_TYPE_AAAA || dns_u16(m, at + 2) != 1)
		return false;
	*position = at + 4;
	return true;
}

/*
 * Steps over one resource record. Returns the offset of its address where it is
 * AAAA, 0 for another type, -1 at the end of what can be read. The position lives
 * in memory: to the verifier every step then looks alike.
 */
static __always_inline int dns_record(const __u8 *m, __u32 length, volatile __u32 *position, __u32 *ttl)
{
	__u32 i, data;
	__u16 type, size;

	for (i = 0; i < HW_MAX_LABELS; i++) {
		__u32 at = *position;
		__u8 c = DNS_AT(m, at);

		if (at >= length)
			return -1;
		if ((c & 0xc0) == 0xc0) {
			*position = at + 2;
			goto named;
		}
		if (c & 0xc0)
			return -1;
		*position = at + c + 1;
		if (!c)
			goto named;
	}
	return -1;
named:
	data = *position + 10;
	if (data > length)
		return -1;
	type = dns_u16(m, data - 10);
	size = dns_u16(m, data - 2);
	*ttl = (__u32)dns_u16(m, data - 6) << 16 | dns_u16(m, data - 4);
	*position = data + size;
	if (data + size > length)
		return -1;
	if (type == DNS_TYPE_AAAA && size == 16 && dns_u16(m, data - 8) == 1)
		return data;
	return 0;
}

#endif
