/*
 * Every outcome of a packet. One list for C, Python and the documentation;
 * the order is the key of the counters. `kind` is
 *   ok          steered, or its SRH removed
 *   info        counted in addition to another reason
 *   unchanged   passed as it was
 *   drop        not sent or not delivered
 */
#define HW_REASONS(X) \
	X(STEERED, ok, "SRH inserted, or packet encapsulated") \
	X(SPLIT, ok, "SRH inserted into each of two fragments, because the packet did not fit the MTU") \
	X(STRIPPED, ok, "SRH removed") \
	X(PROBE, ok, "probe of a client that has come back to this host: its agent takes it") \
	X(ERROR_RESTORED, info, "ICMPv6 error about a steered packet, passed to the stack without the SRH") \
	X(MSS_CLAMPED, info, "TCP MSS lowered so that segments fit the MTU with their SRH") \
	X(NEXT_HOP, info, "sent to the next hop of the first segment, which is not that of the destination") \
	X(LEARNED, info, "path of a flow learned or changed") \
	X(WAY_BACK_TOLD, info, "packet that tells the server the way back (client), or from which it was taken (server)") \
	X(WAY_BACK_USED, info, "reply over the way back that this host has told: its SRH has a tag that says so") \
	X(WAY_BACK_REFUSED, info, "way back that a packet tells is outside the SR domain: it is not used") \
	X(FLOW_REPLACED, info, "an idle flow, or one of the source with the most flows, was replaced by a new one") \
	X(FLOW_ENDED, info, "packet of a known flow without an SRH: its replies are sent without one, too") \
	X(NAME_LEARNED, info, "address learned from a DNS answer") \
	X(NAME_LOST, info, "address in a DNS answer not learned: the agent is behind, or the table is full") \
	X(NOT_IPV6, unchanged, "not IPv6") \
	X(NOT_FROM_HOST, unchanged, "source is not an address of this host: the packet is forwarded") \
	X(NO_SERVICE, unchanged, "destination matches no service") \
	X(NO_APPLICATION, unchanged, "service matches, but no application has this port") \
	X(NO_FLOW, unchanged, "no path learned for this flow") \
	X(NO_PATH, unchanged, "application has no path at present") \
	X(HAS_ROUTING_HEADER, unchanged, "already has a routing header") \
	X(EXTENSION_CHAIN, unchanged, "too many or too long extension headers, or one before the SRH") \
	X(LOST_FRAGMENT, unchanged, "first fragment was not seen") \
	X(NO_ROUTING_HEADER, unchanged, "no routing header") \
	X(ROUTING_TYPE, unchanged, "routing header that is not an SRH (type other than 4)") \
	X(SEGMENTS_LEFT, unchanged, "segments left is not 0: this host is not the end of the path") \
	X(SRH_MALFORMED, unchanged, "the lengths in the SRH are not consistent") \
	X(ENCAPSULATED, unchanged, "a whole packet inside the SRH: left to the kernel's own SRv6") \
	X(HMAC_REQUIRED, unchanged, "the interface requires an HMAC (seg6_require_hmac): left to the kernel's own SRv6") \
	X(HMAC_MISSING, unchanged, "no HMAC that can be verified in the SRH: there is none, or its key is unknown") \
	X(HMAC_WRONG, unchanged, "the HMAC in the SRH is wrong") \
	X(NOT_SIGNED, unchanged, "no HMAC could be computed: no agent is running, or its key is gone") \
	X(OTHER_HOST, unchanged, "frame is addressed to another host") \
	X(NOT_LOCAL, unchanged, "destination is not an address of this host") \
	X(UNTRUSTED, unchanged, "source or a segment is outside the SR domain, or the list is too long to be checked") \
	X(NOTHING_TO_LEARN, info, "SRH without SIDs, or a packet without ports") \
	X(LIST_TOO_LONG, info, "segment list too long to be reversed: SRH removed, path not learned") \
	X(ONE_WAY_SID, info, "C-SID that names a link in one direction: SRH removed, path not learned") \
	X(PATHS_FULL, info, "table of learned paths is full") \
	X(FLOWS_FULL, info, "flow table has no room for another flow of this source") \
	X(NOT_STRIPPED, unchanged, "the kernel refused to remove the SRH") \
	X(TRUNCATED, unchanged, "packet ends inside its headers") \
	X(TOO_BIG_PLAIN, unchanged, "does not fit the MTU with its SRH, and is too small for a Packet Too Big") \
	X(TOO_BIG, drop, "does not fit the MTU with its SRH: Packet Too Big sent to the local sender") \
	X(TOO_BIG_SILENT, drop, "does not fit the MTU with its SRH, and neither fragments nor a Packet Too Big could be sent") \
	X(DECAP_UNSIGNED, drop, "packet to a SID of `decap` without a valid HMAC") \
	X(DECAP_FOREIGN, drop, "packet to a SID of `decap` with nothing for this host inside") \
	X(NO_ROOM, drop, "the kernel had no room for the SRH, or a write failed")
