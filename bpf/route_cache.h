/*
 * The client's route cache: a comparison instead of two look-ups in hash tables. Each CPU has its own, so that no CPU
 * reads what another one is writing. All of it is invalidated when settings.generation grows.
 */
#ifndef HAWKWING_ROUTE_CACHE_H
#define HAWKWING_ROUTE_CACHE_H

/* The slot (or selection) of the path that packets of a group to this port (wire order) have, or NULL. */
static __always_inline __u32 *find_route(__u32 group, __u16 port, __u8 protocol)
{
	union {
		struct route_key route;
		union stack_word word;
	} key;

	clear_word(&key.word);
	key.route.group = group;
	key.route.port = port;
	key.route.protocol = protocol;
	return routes.lookup(&key.route);
}

/* The place of a destination and port in the cache. */
static __always_inline struct cached_route *route_cache_at(const __u64 *destination, __u32 port_protocol)
{
	__u64 h = (destination[0] ^ destination[1] ^ port_protocol) * 0x9e3779b97f4a7c15ULL;
	union stack_word at;

	set_number(&at, h >> (64 - HW_CACHED_ROUTE_BITS));
	return cached_routes.lookup(&at.number);
}

static __always_inline __u32 port_and_protocol(__u16 port, __u8 protocol)
{
	return port | (__u32)protocol << 16;
}

/* The cached slot (or selection) of packets to this destination and port, or HW_NO_SLOT; ports in wire order. */
static __always_inline __u32 known_slot(const struct ipv6_header *ip6, __u16 source_port, __u16 destination_port,
					__u8 protocol)
{
	const __u64 *destination = (void *)ip6->destination, *source = (void *)ip6->source;
	__u32 key = port_and_protocol(destination_port, protocol);
	struct cached_route *r = route_cache_at(destination, key);
	struct settings *set = get_settings();

	if (unlikely(!r || !set) || (r->destination[0] ^ destination[0]) | (r->destination[1] ^ destination[1]) |
	    (r->source[0] ^ source[0]) | (r->source[1] ^ source[1]) |
	    (r->port_protocol ^ key) | (r->generation ^ set->generation))
		return HW_NO_SLOT;
	return r->slot;
}

static __always_inline void cache_route(const struct ipv6_header *ip6, __u16 port, __u8 protocol, __u64 generation,
				     __u32 slot)
{
	const __u64 *destination = (void *)ip6->destination, *source = (void *)ip6->source;
	__u32 key = port_and_protocol(port, protocol);
	struct cached_route *r = route_cache_at(destination, key);

	if (!r)
		return;
	r->source[0] = source[0];
	r->source[1] = source[1];
	r->destination[0] = destination[0];
	r->destination[1] = destination[1];
	r->port_protocol = key;
	r->generation = generation;
	r->slot = slot;
}

#endif
