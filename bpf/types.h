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
#define HW_MAX_EXTENSIONS 6
#define HW_MAX_HOP_BY_HOP 64
#define HW_MAX_PREFIXES 8
#define HW_MAX_DNS 2047
#define HW_MAX_ANSWERS 24
#define HW_MAX_LABELS 40
#define HW_MAX_NAME 255
#define HW_WAYS 8
#define HW_SOURCES 65536
#define HW_IDLE_EPOCHS 10
#define HW_TRUSTED_LISTS 1024
#define HW_RECALLED 4096
#define HW_SLOT_BITS 20

/* An IPv6 address as on the wire. */
struct address {
	__u8 bytes[16];
};

/*
 * A path, ready to be written behind an IPv6 header. In `srh` only the next
 * header and segment[0], which belong to the packet, are blank.
 */
struct policy {
	__u64 list_hash;		/* learned paths: hash of the list as it arrived */
	__u32 srh_length;		/* bytes; 0: the slot is empty */
	__u32 reserved;
	__u8 first_segment[16];
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

/* A flow as the server sees it; ports in wire order. */
struct flow_key {
	__u8 remote[16];
	__u8 local[16];
	__u16 remote_port;
	__u16 local_port;
	__u8 protocol;
	__u8 zero[3];
};

/*
 * Eight flows of the server's table (lib/flows.h). A word is a tag of the flow's
 * hash in its upper half and the slot of its path in the lower; 0: the way is free.
 */
struct flow_bucket {
	__u64 words[8];
	struct flow_key keys[8];
	__u8 epochs[8];			/* when the flow was last seen, see settings.epoch */
};

/* Fragments after the first carry no ports: they follow their first one's path. */
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 identification;
};

struct prefix {
	__u32 mask[4];			/* wire order */
	__u32 network[4];
};

struct settings {
	__u64 hash_seed;
	__u32 prefixes;			/* of the SR domain; 0: everyone is trusted */
	__u32 epoch;			/* counts half minutes, modulo 256 */
	__u64 memory_seed;		/* another one with each change of the SR domain or of routes */
	struct prefix sr_domain[8];
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
