/* SPDX-License-Identifier: GPL-2.0
 *
 * tc egress of a VPP router's device. TCP and UDP checksums that are left to a device hold the sum of the
 * pseudo-header (CHECKSUM_PARTIAL). VPP writes that sum anew, but from the IPv6 header as it stands: with the
 * next segment as destination, and with the extension headers in length and protocol. This program writes the
 * sum that RFC 8200, 8.1, asks for. Complete checksums, and packets without an extension header, stay as they are.
 */
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#define IPV6 ETH_HLEN
#define EXTENSION (IPV6 + 40)
#define NEXT(bytes) (bytes)[6]

/* Of what a host sends: an option hop by hop, one for each segment, an SRH, one for the destination. */
#define MOST_EXTENSIONS 4

enum { TCP = 6, UDP = 17, HOP_BY_HOP = 0, ROUTING = 43, DESTINATION = 60, SRH = 4 };

struct pseudo_header {
    __u8 addresses[32];
    __be32 length, next;
};

static inline __u16 folded(__s64 sum)
{
    __u64 rest = (__u32)sum;

    rest = (rest & 0xffff) + (rest >> 16);
    rest = (rest & 0xffff) + (rest >> 16);
    return (rest & 0xffff) + (rest >> 16);
}

/* The kernel changes a complete checksum along with the packet's bytes, and leaves one alone that is only the
 * pseudo-header's sum. */
static inline int is_complete(struct __sk_buff *skb, __u32 at, __u16 former)
{
    __u16 now;

    if (bpf_l4_csum_replace(skb, at, 0, 1, 0) || bpf_skb_load_bytes(skb, at, &now, sizeof(now)))
        return 1;
    if (now == former)
        return 0;
    bpf_skb_store_bytes(skb, at, &former, sizeof(former), 0);
    return 1;
}

static inline int is_extension(__u8 next)
{
    return next == HOP_BY_HOP || next == ROUTING || next == DESTINATION;
}

int pseudo_headers(struct __sk_buff *skb)
{
    struct pseudo_header pseudo = {};
    __u8 header[40], extension[4];
    __u32 at = EXTENSION;
    __u16 former, sum;
    __u8 next;

    if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, IPV6, header, sizeof(header)))
        return TC_ACT_UNSPEC;
    next = NEXT(header);
    if (!is_extension(next))
        return TC_ACT_UNSPEC;
    __builtin_memcpy(pseudo.addresses, header + 8, 32);
#pragma unroll
    for (int i = 0; i < MOST_EXTENSIONS && is_extension(next); i++) {
        if (bpf_skb_load_bytes(skb, at, extension, sizeof(extension)))
            return TC_ACT_UNSPEC;
        /* With segments left, the destination is the list's last segment, which stands first. */
        if (next == ROUTING && extension[2] == SRH && extension[3] &&
            bpf_skb_load_bytes(skb, at + 8, pseudo.addresses + 16, 16))
            return TC_ACT_UNSPEC;
        next = extension[0];
        at += (extension[1] + 1) * 8;
    }
    if (next != TCP && next != UDP)
        return TC_ACT_UNSPEC;
    pseudo.length = bpf_htonl(((__u32)header[4] << 8 | header[5]) - (at - EXTENSION));
    pseudo.next = bpf_htonl(next);
    sum = folded(bpf_csum_diff(0, 0, (__be32 *)&pseudo, sizeof(pseudo), 0));
    at += next == TCP ? 16 : 6;
    if (bpf_skb_load_bytes(skb, at, &former, sizeof(former)) || former == sum)
        return TC_ACT_UNSPEC;
    if (!is_complete(skb, at, former))
        bpf_skb_store_bytes(skb, at, &sum, sizeof(sum), 0);
    return TC_ACT_UNSPEC;
}
