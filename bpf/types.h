/*
 * What C and Python share: limits and structures. Python reads this very file
 * (hawkwing/dataplane/layout.py), so the forms are few on purpose: a #define of
 * a number, a struct of fixed-width members and arrays of them. Byte order is
 * the wire's where a comment says so, the host's elsewhere.
 */
#ifndef HAWKWING_TYPES_H
#define HAWKWING_TYPES_H

#define HW_MAX_SEGMENTS 16
#define HW_MAX_LIST 32
#define HW_SRH_FIXED 8
#define HW_SRH_MAX 264
#define HW_SRH_SHORT 72
#define HW_NO_SLOT 0xffffffff
#define HW_SELECTION 0x40000000
#define HW_BUCKET_BITS 7
#define HW_MAX_CANDIDATES 8
#define HW_PROBE_TAG 0x4857
#define HW_GOOD_PROBES 5
#define HW_MOST_GOOD_PROBES 320
#define HW_READY_PROBES 256
#define HW_MAX_READY_PROBE 592
#define HW_PROBES_AT_ONCE 64
#define HW_MAX_EXTENSIONS 6
#define HW_MAX_HOP_BY_HOP 64
#define HW_MAX_PREFIXES 8
#define HW_MAX_HMAC_LINKS 4
#define HW_MAX_SIGNED 12
#define HW_MAX_HMAC_KEYS 8
#define HW_HMAC_TLV 40
#define HW_MAX_WAY_BACK 12
#define HW_WAY_BACK_FIXED 8
#define HW_WAY_BACK_MAX 200
#define HW_WAY_BACK_OPTION 0x1e
#define HW_WAY_BACK_MAGIC 0x48570100
#define HW_TOLD_AT_ONCE 3
#define HW_TOLD_IN_VAIN 2
#define HW_WAY_BACK_TAG 0x4858
#define HW_HMAC_WORDS 128
#define HW_MAX_CSID_BLOCKS 4
#define HW_MAX_DNS 2047
#define HW_MAX_SPLIT 10240
#define HW_MAX_ANSWERS 24
#define HW_MAX_QUESTION 288
#define HW_ANSWER_SECONDS 10
#define HW_MAX_DNS_STEPS 64
#define HW_MAX_NAME 255
#define HW_WAYS 8
#define HW_IDLE_EPOCHS 10
#define HW_FORGOTTEN_EPOCHS 120
#define HW_SWEPT 8
#define HW_CACHED_ROUTE_BITS 10
#define HW_CACHED_FLOW_BITS 6
#define HW_OWN_ADDRESSES 4
#define HW_FLOW_KEYS 12
#define HW_SLOT_BITS 20
#define HW_EPOCH_BITS 8
#define HW_SOURCE_BITS 16
#define HW_NEXT_HOP_BITS 48

/* An IPv6 address as on the wire. */
struct address {
	__u8 bytes[16];
};

/*
 * A path, ready to be written behind an IPv6 header. In `srh` only the next
 * header and segment[0], which belong to the packet, are blank.
 * Of a path that encapsulates, `srh` has the outer IPv6 header and, with more than one SID, the reduced SRH (RFC 8986,
 * section 5.2); traffic class, flow label, payload length and hop limit belong to the packet.
 */
struct policy {
	__u32 srh_length;		/* bytes that packets grow by; 0: the slot is empty */
	__u32 source;			/* whose packet it was learned from, an index of `path_sources` and 1; 0: nobody's */
	__u8 first_segment[16];
	/*
	 * Of the first segment: its link-layer address as on the wire in the lower 48 bits, all ones where the kernel
	 * has to be asked; above them the interface, 0: the packet's own. The highest bit says that the path's packets
	 * came from there, and no more is known. 0 altogether: the packet's own next hop is right.
	 */
	__u64 next_hop;
	/*
	 * What the HMACs of its packets are kept by, unlike that of any list before; 0: they have none, or theirs is
	 * in `srh` because it is the same for all of them (encapsulation).
	 */
	__u64 signed_as;
	__u32 key_number;		/* of the key of the HMAC TLV in `srh` */
	__u32 path_mtu;			/* bytes, if a router has said less than 1280 and the SRH; else 0 */
	__u32 encapsulates;		/* 0: the SRH is inserted */
	__u32 tells;			/* a client's: its packets tell the way back now and then (`ways_back`) */
	__u8 srh[264];
};

/* The secret of an HMAC key, filled with zeros to a block of SHA-256 (RFC 2104). */
struct hmac_key {
	__u32 words[16];		/* wire order */
};

struct hmac_code {
	__u64 words[4];			/* wire order */
};

/* Packets with the same HMAC. */
struct signed_key {
	__u8 source[16];
	__u8 destination[16];
	__u64 list;			/* policy.signed_as */
};

/* A verified HMAC; `srh` are the fixed part and the segments that it covers, zeros for what it does not cover. */
struct verified_key {
	__u8 source[16];
	__u8 destination[16];
	struct hmac_code code;
	__u32 number;			/* of its key */
	__u32 zero;
};

struct verified {
	__u64 srh[33];
};

/*
 * The Destination Options header behind the SRH that tells a server the way back (RFC 8200, section 4.6). Its option is
 * experimental (0x1e, RFC 4727), and who does not know it ignores it:
 *   next header, length, 0x1e, length, "HW", 1, count, segments as in the SRH of the reply behind segment[0]
 * The next header is blank.
 */
struct way_back {
	__u32 length;			/* bytes */
	__u32 zero;
	__u64 told;			/* packets that have told it */
	__u64 used;			/* replies over it, of each flow the first one after a packet that told it */
	__u64 last_told;		/* ns */
	__u64 last_used;
	__u8 header[200];
};

/* What packets of a flow have told; times in ns. */
struct telling {
	__u64 due;			/* from then on one tells it */
	__u64 last;			/* when one last did */
	__u32 slot;
	__u8 count;			/* of those at once */
	__u8 in_vain;			/* SYNs that did since a reply used it */
	__u8 used;			/* a reply has used it since */
	__u8 zero;
};

/* When packets of the flows in a bucket last told their way back, in 2^20 ns; 0: none has. */
struct told_bucket {
	__u32 when[8];
};

/* A learned path's key: its SRH as in `policy`, zeros behind it. */
struct path_key {
	__u8 srh[264];
};

/* A configured destination; `group` is the first half of its routes' key. */
struct service {
	__u32 group;
	__u32 origin;			/* 1: set by the agent, 2: learned from DNS */
};

struct route_key {
	__u32 group;
	__u16 port;			/* wire order */
	__u8 protocol;
	__u8 zero;
};

/*
 * Several paths of an application: each flow has one of them (bpf/select.h). A route whose slot has the bit
 * HW_SELECTION means the selection with this number.
 */
struct selection {
	__u32 longest;			/* bytes of the longest SRH, with the header that tells its way back */
	__u32 active;			/* how many of `candidates` are of the highest preference */
	__u32 count;			/* how many of `candidates` are in use */
	__u32 candidates[8];		/* slots, those of higher preference first: instead of a dead path */
	__u32 slots[128];		/* one for each bucket; HW_NO_SLOT: none */
};

/* The agent's prober. Times are nanoseconds of CLOCK_MONOTONIC. */
struct prober {
	__u64 key;			/* in each of its probes: a secret */
	__u64 beat;			/* when it sent last */
	__u64 since;			/* since when it has sent without a pause */
	__u64 silence;			/* so long without an answer, and a path is dead; 0: no probes are sent */
};

/* What is known of a path by its probes. */
struct path_health {
	__u64 seen;			/* when the last probe came back; 0: none has */
	__u64 sent;			/* when that was sent */
	__u64 round_trip;		/* nanoseconds, smoothed as TCP does it */
	__u64 received;			/* probes */
	__u64 recovered;		/* when it was last found alive again */
	__u32 good;			/* probes in a row, at most `needed` */
	__u32 needed;			/* so many in a row, and it is alive again; 0: it is alive */
	__u64 last;			/* round trip of the last probe, in nanoseconds */
	__u64 jitter;			/* nanoseconds, smoothed as RFC 3550 does it (section 6.4.1) */
};

/* What the host's TCP connections tell of a path: those of applications that have several (bpf/traffic.h). */
struct path_traffic {
	__u64 round_trip;		/* nanoseconds, smoothed */
	__u64 samples;			/* of the round trip */
	__u64 rate;			/* bytes per second that a connection delivered which used its window, smoothed */
	__u64 acknowledged;		/* bytes */
	__u64 retransmitted;		/* segments */
};

/* A connection when it was looked at last. */
struct connection {
	__u64 acknowledged;
	__u32 retransmitted;
	__u32 slot;			/* of the path that it had */
};

/* What the agent recognises its probes by, in the host's order: nobody else reads it. */
struct probe {
	__u64 key;
	__u64 sent;
	__u32 slot;
	__u32 zero;
};

/*
 * A STAMP packet that comes back from its reflector (RFC 8762, section 4.3.1), behind its UDP header. Times are in
 * seconds since 1900 with 32 binary places. The probe is in an Extra Padding TLV (RFC 8972, section 4.1), which
 * reflectors copy.
 */
struct stamp_reply {
	__u8 sequence[4];
	__u8 sent[8];			/* by the reflector; wire order */
	__u8 error[4];
	__u8 received[8];		/* by the reflector; wire order */
	__u8 sender[20];		/* sequence, time, error estimate and hop limit of the packet it answers */
	__u8 tlv[4];			/* flags, type, length */
	struct probe probe;
};

/*
 * A probe that only lacks times, number and checksum (bpf/send_probes.h). `bytes` is a frame behind two unused bytes,
 * so that the IPv6 header is aligned to 8; offsets are those of `bytes`.
 */
struct ready_probe {
	__u32 link;			/* the interface that it leaves by; 0: it is sent by a socket */
	__u32 length;			/* of the frame */
	__u32 first;			/* the round with the number 0 */
	__u32 sum;			/* of the datagram with its pseudo-header, where what is lacking counts as 0 */
	__u32 time_at;
	__u32 number_at;		/* of a STAMP packet's number, with its time behind; 0: it is none */
	__u32 checksum_at;
	__u32 zero;
	__u8 bytes[592];
};

/* What the program `send_probes` is asked, behind an Ethernet header. */
struct probe_request {
	__u32 index;			/* of the first one in `ready_probes` */
	__u32 count;			/* at most HW_PROBES_AT_ONCE */
	__u32 round;
	__u32 every;			/* one of so many is left out, by its index modulo this; 0: none */
	__u32 turn;
	__u32 time[2];			/* NTP; wire order */
};

/*
 * A cached route: the slot (or selection) of packets from this source to this destination and port, valid while nothing has
 * changed (settings.generation).
 */
struct cached_route {
	__u64 source[2];		/* wire order; an address of this host */
	__u64 destination[2];		/* wire order */
	__u64 generation;
	__u32 port_protocol;		/* port in wire order; the protocol above it */
	__u32 slot;
};

/*
 * Eight flows of the server's table (lib/flows.h). A mark is 64 bits of the flow's
 * hash; 0: the way is free. A word is, from its lowest bits up, the slot of the path, the
 * epoch when the flow was last seen, an index of its source and 20 more bits of the hash.
 */
struct flow_bucket {
	__u64 marks[8];
	__u64 words[8];
};

/*
 * A cached flow of a server: its slot, and the SRH that it arrived with (bpf/flow_cache.h). Segment[0]
 * is `local`.
 */
struct cached_flow {
	__u64 valid;
	__u64 remote[2];		/* wire order */
	__u64 local[2];			/* wire order */
	__u32 ports;			/* see flow_ports */
	__u32 protocol;
	__u32 slot;
	__u32 candidate;		/* of the last flow at this place that is not cached */
	__u64 srh;			/* its first 8 bytes; 0: not cached */
	__u64 list[6];			/* what follows segment[0] */
};

/* Fragments after the first carry no ports: they follow their first one's path. */
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 identification;
};

/* A domain name as in a DNS question, in lower case, zeros behind it. */
struct name_key {
	__u8 name[256];
};

/* A question to a name server that this host has sent; an IPv4 address is mapped (::ffff:a.b.c.d). */
struct question_key {
	__u8 server[16];
	__u8 own[16];
	__u16 own_port;			/* wire order */
	__u16 id;			/* wire order */
	__u32 zero;
};

struct question {
	__u64 sent;			/* nanoseconds of CLOCK_MONOTONIC */
	__u32 group;			/* of the name asked for */
	__u32 zero;
};

struct prefix {
	__u64 mask[2];			/* wire order */
	__u64 network[2];
};

/* A block of compressed SIDs (RFC 9800). One that is not in use has bits outside its mask. */
struct csid_block {
	__u64 mask;			/* of an address' first 64 bits; host order */
	__u64 network;
	__u32 bits;			/* of the prefix: 16, 32 or 48 */
	__u32 local;			/* C-SIDs from this one on name links; at least 0x8000 */
};

/* Bits of a byte in a structure of the kernel. */
struct kernel_field {
	__u16 at;			/* bytes from its start */
	__u8 shift;
	__u8 mask;			/* 0: unknown */
};

struct settings {
	__u64 flow_keys[12];		/* secrets of the flows' hash */
	__u32 epoch;			/* counts half minutes, modulo 256 */
	__u32 buckets;			/* of the flow table */
	__u32 own_addresses;		/* how many of `own` are in use */
	__u32 fair_flows;		/* so many of one source may take the places of idle flows */
	__u64 generation;		/* grows with each change of services or routes */
	struct address own[4];		/* some of the host's addresses, to spare most packets a look-up */
	__u32 hmac_links[4];		/* indexes of interfaces that require an HMAC; 0: none */
	/*
	 * The SR domain. A prefix that is not in use has bits outside its mask, so that no address is inside: a
	 * reader that sees half of a change trusts nobody whom neither the old nor the new domain has.
	 */
	__u32 prefixes;
	__u32 sids_only;		/* source and segment[0] may be outside */
	__u32 xdp;			/* the XDP program has seen what arrives before tc does */
	__u32 fair_paths;		/* so many learned paths may be of one source */
	__u32 shared;			/* interfaces with addresses of their own are upon one of ours (macvlan) */
	/* Where the kernel keeps what IPv6 sockets want of fragmentation (hawkwing/dataplane/btf.py). */
	__u32 pinet6_at;		/* bytes from the start of struct inet_sock; 0: unknown */
	struct kernel_field pmtudisc;	/* of struct ipv6_pinfo */
	struct kernel_field dontfrag;
	__u32 dontfrag_in_socket;	/* it is in struct inet_sock */
	__u32 csid_blocks;		/* how many of `csid` are in use */
	__u32 stamp_port;		/* of STAMP reflectors that probes go to, in wire order; 0: none */
	__u32 ipv4_services;		/* 1: there are some, and IPv4 is looked at */
	__u32 hmac_key;			/* number of the key that signs what a server learns; 0: no HMACs */
	__u32 zero;
	struct prefix sr_domain[8];
	struct csid_block csid[4];
	/* The kernel's SIDs that remove outer headers around IPv6 and IPv4; zeros: none. */
	struct address decap[2];
};

/* What the program `sweep` is asked, behind an Ethernet header. */
struct sweep_request {
	__u32 slot;			/* of a learned path that no flow has: to be given back; 0: sweep flows */
	__u32 first;			/* of HW_SWEPT buckets */
	__u32 age;			/* epochs; flows that were last seen so long ago are removed */
};

struct tally {
	__u64 packets;
	__u64 bytes;
};

/* Told to the agent through the ring buffer. */
struct learned_name {
	__u8 address[16];
	__u32 group;			/* the service's own group */
	__u32 ttl;			/* seconds */
};

#endif
