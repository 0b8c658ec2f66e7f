/*
 * Everything that can become of a packet. One list for C, Python and the
 * documentation; the order is the key of the counters. `kind` is
 *   done   what we are there for
 *   also   happened on the way to another reason
 *   left   passed untouched
 *   drop   not sent or not delivered
 */
#define HW_REASONS(X) \
	X(STEERED, done, "SRH inserted") \
	X(SPLIT, done, "SRH inserted after cutting the packet in two fragments, each fitting the MTU") \
	X(STRIPPED, done, "SRH removed") \
	X(ERROR_RESTORED, also, "ICMPv6 error about one of our packets, shown to the stack without the SRH") \
	X(MSS_CLAMPED, also, "TCP MSS lowered so that segments fit with their SRH") \
	X(LEARNED, also, "path of a flow learned or changed") \
	X(FLOW_REPLACED, also, "a flow of the source with most of them, or an idle one, made room for a new one") \
	X(FLOW_ENDED, also, "packet of a known flow without an SRH: its replies are sent without one, too") \
	X(NAME_LEARNED, also, "address learned from a DNS answer") \
	X(NAME_LOST, also, "address of a DNS answer not learned: the agent is behind, or the table is full") \
	X(NOT_IPV6, left, "not IPv6") \
	X(NOT_FROM_HOST, left, "source is no address of this host: forwarded, not sent by it") \
	X(NO_SERVICE, left, "destination is no configured service") \
	X(NO_APPLICATION, left, "service, but no application on this port") \
	X(NO_FLOW, left, "no path learned for this flow") \
	X(NO_PATH, left, "application without a path at present") \
	X(HAS_ROUTING_HEADER, left, "already has a routing header") \
	X(EXTENSION_CHAIN, left, "extension headers too many, too long, or before the SRH") \
	X(LOST_FRAGMENT, left, "fragment whose first one was not seen") \
	X(NO_ROUTING_HEADER, left, "arrived without a routing header") \
	X(ROUTING_TYPE, left, "routing header that is not an SRH (type other than 4)") \
	X(SEGMENTS_LEFT, left, "segments left is not 0: this host is not the end of the path") \
	X(SRH_MALFORMED, left, "SRH does not fit itself or the packet") \
	X(ENCAPSULATED, left, "a whole packet inside the SRH: for the kernel's own SRv6") \
	X(HMAC_REQUIRED, left, "the interface requires an HMAC (seg6_require_hmac): for the kernel's own SRv6") \
	X(NOT_LOCAL, left, "destination is not an address of this host") \
	X(UNTRUSTED, left, "source or a segment is outside the SR domain, or the list longer than can be checked") \
	X(NOTHING_TO_LEARN, also, "SRH without SIDs, or a packet without ports") \
	X(LIST_TOO_LONG, also, "list of more segments than can be reversed: stripped, not learned") \
	X(PATHS_FULL, also, "no room for another learned path") \
	X(FLOWS_FULL, also, "no room for another learned flow of this source") \
	X(NOT_STRIPPED, left, "the kernel refused to take the SRH out") \
	X(TRUNCATED, left, "packet ends inside its headers") \
	X(TOO_BIG, drop, "does not fit the MTU with its SRH: Packet Too Big sent to the local sender") \
	X(TOO_BIG_SILENT, drop, "does not fit the MTU and could not be told") \
	X(NO_ROOM, drop, "the kernel could not make room, or a write failed")
