/* SHA-256 (FIPS 180-4) of prepared blocks. */
#ifndef HAWKWING_SHA256_H
#define HAWKWING_SHA256_H

#define LOW 0xffffffffULL

/* A word twice: shifted right, its lower half is the word rotated. */
#define TWICE(x) ((x) | (x) << 32)

#define SHA_ROUND(a, b, c, d, e, f, g, h, i, k) do { \
	__u64 e2_ = TWICE(e), a2_ = TWICE(a), t_; \
	t_ = h + ((e2_ >> 6) ^ (e2_ >> 11) ^ (e2_ >> 25)) + (g ^ (e & (f ^ g))) + k + w[(i) & 15]; \
	d = (d + t_) & LOW; \
	h = (t_ + ((a2_ >> 2) ^ (a2_ >> 13) ^ (a2_ >> 22)) + ((a & b) | (c & (a | b)))) & LOW; \
} while (0)

/* The words of the next sixteen rounds, in place. */
static __always_inline void sha256_extend(volatile __u32 *w)
{
	__u64 before, later;
	int i;

#pragma unroll
	for (i = 0; i < 16; i++) {
		before = w[(i + 1) & 15];
		later = w[(i + 14) & 15];
		before = TWICE(before);
		later = TWICE(later);
		w[i] = w[i] + w[(i + 9) & 15] + (__u32)((before >> 7) ^ (before >> 18) ^ ((before & LOW) >> 3)) +
		       (__u32)((later >> 17) ^ (later >> 19) ^ ((later & LOW) >> 10));
	}
}

#define SHA_ROUNDS_8(i, k0, k1, k2, k3, k4, k5, k6, k7) do { \
	SHA_ROUND(a, b, c, d, e, f, g, h, i, k0); \
	SHA_ROUND(h, a, b, c, d, e, f, g, i + 1, k1); \
	SHA_ROUND(g, h, a, b, c, d, e, f, i + 2, k2); \
	SHA_ROUND(f, g, h, a, b, c, d, e, i + 3, k3); \
	SHA_ROUND(e, f, g, h, a, b, c, d, i + 4, k4); \
	SHA_ROUND(d, e, f, g, h, a, b, c, i + 5, k5); \
	SHA_ROUND(c, d, e, f, g, h, a, b, i + 6, k6); \
	SHA_ROUND(b, c, d, e, f, g, h, a, i + 7, k7); \
} while (0)

/* Sets the state that everything begins with, where `begins` is 1; 0: it stays. */
static __always_inline void sha256_begin(volatile __u32 *state, __u64 begins)
{
	state[0] += begins * (0x6a09e667ULL - state[0]);
	state[1] += begins * (0xbb67ae85ULL - state[1]);
	state[2] += begins * (0x3c6ef372ULL - state[2]);
	state[3] += begins * (0xa54ff53aULL - state[3]);
	state[4] += begins * (0x510e527fULL - state[4]);
	state[5] += begins * (0x9b05688cULL - state[5]);
	state[6] += begins * (0x1f83d9abULL - state[6]);
	state[7] += begins * (0x5be0cd19ULL - state[7]);
}

/* One block of sixteen words in host order, which are overwritten. All of it is in memory: registers are few. */
static __always_inline void sha256_block(volatile __u32 *state, volatile __u32 *w)
{
	__u64 a = state[0], b = state[1], c = state[2], d = state[3];
	__u64 e = state[4], f = state[5], g = state[6], h = state[7];

	SHA_ROUNDS_8(0, 0x428a2f98ULL, 0x71374491ULL, 0xb5c0fbcfULL, 0xe9b5dba5ULL, 0x3956c25bULL, 0x59f111f1ULL,
		     0x923f82a4ULL, 0xab1c5ed5ULL);
	SHA_ROUNDS_8(8, 0xd807aa98ULL, 0x12835b01ULL, 0x243185beULL, 0x550c7dc3ULL, 0x72be5d74ULL, 0x80deb1feULL,
		     0x9bdc06a7ULL, 0xc19bf174ULL);
	sha256_extend(w);
	SHA_ROUNDS_8(0, 0xe49b69c1ULL, 0xefbe4786ULL, 0x0fc19dc6ULL, 0x240ca1ccULL, 0x2de92c6fULL, 0x4a7484aaULL,
		     0x5cb0a9dcULL, 0x76f988daULL);
	SHA_ROUNDS_8(8, 0x983e5152ULL, 0xa831c66dULL, 0xb00327c8ULL, 0xbf597fc7ULL, 0xc6e00bf3ULL, 0xd5a79147ULL,
		     0x06ca6351ULL, 0x14292967ULL);
	sha256_extend(w);
	SHA_ROUNDS_8(0, 0x27b70a85ULL, 0x2e1b2138ULL, 0x4d2c6dfcULL, 0x53380d13ULL, 0x650a7354ULL, 0x766a0abbULL,
		     0x81c2c92eULL, 0x92722c85ULL);
	SHA_ROUNDS_8(8, 0xa2bfe8a1ULL, 0xa81a664bULL, 0xc24b8b70ULL, 0xc76c51a3ULL, 0xd192e819ULL, 0xd6990624ULL,
		     0xf40e3585ULL, 0x106aa070ULL);
	sha256_extend(w);
	SHA_ROUNDS_8(0, 0x19a4c116ULL, 0x1e376c08ULL, 0x2748774cULL, 0x34b0bcb5ULL, 0x391c0cb3ULL, 0x4ed8aa4aULL,
		     0x5b9cca4fULL, 0x682e6ff3ULL);
	SHA_ROUNDS_8(8, 0x748f82eeULL, 0x78a5636fULL, 0x84c87814ULL, 0x8cc70208ULL, 0x90befffaULL, 0xa4506cebULL,
		     0xbef9a3f7ULL, 0xc67178f2ULL);
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

#endif
