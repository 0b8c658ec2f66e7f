/*
 * HawkWing's data plane. Egress puts the SRH of a path on packets of known
 * destinations and ports (client) or of learned flows (server); ingress removes
 * an SRH that ends here, learns (server: paths, client: addresses from DNS) and
 * restores ICMPv6 errors. Whatever is not ours returns TC_ACT_UNSPEC, so that
 * other programs on the interface still run.
 *
 * Built with HW_CLIENT or HW_SERVER; one program per direction and kind of link
 * (`_ethernet`, or `_raw` for interfaces without a link-layer header), and XDP.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "types.h"
#include "reasons.h"

#define HW_REASON_ENUM(name, kind, text) HW_##name,
enum hw_reason { HW_REASONS(HW_REASON_ENUM) HW_REASON_COUNT };
/* The programs that call one another, by their place in `programs`. */
enum hw_program { HW_AUTHENTICATE, HW_EGRESS_ETHERNET, HW_EGRESS_RAW, HW_INGRESS_ETHERNET, HW_INGRESS_RAW, HW_PROGRAMS };
enum hw_direction { HW_EGRESS, HW_INGRESS, HW_DIRECTIONS };

#include "lib/common.h"
#include "maps.h"
#include "lib/walk.h"
#include "lib/srh.h"
#include "lib/flows.h"
#include "lib/tcp.h"
#include "lib/icmp6.h"
#include "lib/icmp4.h"
#include "lib/split.h"
#include "lib/dns.h"
#include "lib/sha256.h"
#include "counters.h"
#include "trust.h"
#include "hmac.h"
#include "csid.h"
#include "next_hop.h"
#include "insert.h"
#ifdef HW_SERVER
#include "way_back.h"
#include "flow_cache.h"
#include "flow_table.h"
#include "learn.h"
#include "decap.h"
#endif
#ifdef HW_CLIENT
#include "route_cache.h"
#include "health.h"
#include "send_probes.h"
#include "select.h"
#include "traffic.h"
#include "names.h"
#endif
#include "quoted.h"
#include "decide.h"
#ifdef HW_CLIENT
#include "way_back.h"
#include "ipv4.h"
#include "restore.h"
#endif
#include "egress.h"
#include "fast_ingress.h"
#include "ingress.h"
#include "xdp.h"
#ifdef HW_SERVER
#include "sweep.h"
#endif

int egress_ethernet(struct __sk_buff *skb)
{
	return egress(skb, ETH_HLEN);
}

int ingress_ethernet(struct __sk_buff *skb)
{
	return ingress(skb, ETH_HLEN);
}

int authenticate(struct __sk_buff *skb)
{
	return authenticate_packet(skb);
}

#ifdef HW_SERVER
int sweep(struct __sk_buff *skb)
{
	return sweep_flows(skb);
}
#endif

#ifdef HW_CLIENT
int send_probes(struct __sk_buff *skb)
{
	return send_ready_probes(skb);
}
#endif

int ingress_xdp(struct xdp_md *ctx)
{
	return xdp_strip(ctx);
}

int egress_raw(struct __sk_buff *skb)
{
	return egress(skb, 0);
}

int ingress_raw(struct __sk_buff *skb)
{
	return ingress(skb, 0);
}
