/* All maps. The loader (hawkwing/dataplane/loader.py) makes those of HW_SIZED entries as large as the agent needs. */
#ifndef HAWKWING_MAPS_H
#define HAWKWING_MAPS_H

#define HW_SIZED 1

BPF_ARRAY(settings, struct settings, 1);
BPF_PERCPU_ARRAY(tallies, struct tally, HW_DIRECTIONS * HW_REASON_COUNT);
BPF_PERCPU_ARRAY(path_tallies, struct tally, HW_SIZED);
BPF_F_TABLE("array", u32, struct policy, policies, HW_SIZED, BPF_F_MMAPABLE);
BPF_F_TABLE("hash", struct address, u32, local_addresses, 4096, BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct fragment_key, u32, fragments, 16384);
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
/* Old and new ones while paths are written once more. */
BPF_F_TABLE("hash", u32, struct hmac_key, hmac_keys, 2 * HW_MAX_HMAC_KEYS, BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct signed_key, struct hmac_code, signatures, HW_SIZED);
BPF_TABLE("lru_hash", struct verified_key, struct verified, verified, HW_SIZED);
BPF_PROG_ARRAY(programs, HW_PROGRAMS);

#ifdef HW_CLIENT
BPF_PERCPU_ARRAY(cached_routes, struct cached_route, 1 << HW_CACHED_ROUTE_BITS);
BPF_F_TABLE("hash", struct address, struct service, services, HW_SIZED, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct route_key, u32, routes, HW_SIZED, BPF_F_NO_PREALLOC);
BPF_F_TABLE("array", u32, struct selection, selections, HW_SIZED, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct prober, probers, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct path_health, health, HW_SIZED, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct path_traffic, traffic, HW_SIZED, BPF_F_MMAPABLE);
BPF_ARRAY(ready_probes, struct ready_probe, HW_READY_PROBES);
BPF_ARRAY(unsent_probes, u64, 1);
BPF_TABLE("lru_hash", u64, struct connection, connections, 8192);
BPF_F_TABLE("hash", u32, struct way_back, ways_back, HW_SIZED, BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", u64, struct telling, tellings, HW_SIZED);
BPF_F_TABLE("hash", struct name_key, u32, names, HW_SIZED, BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct question_key, struct question, questions, 1024);
BPF_RINGBUF_OUTPUT(learned_names, 16);
#endif

#ifdef HW_SERVER
BPF_F_TABLE("array", u32, struct flow_bucket, flows, HW_SIZED, BPF_F_MMAPABLE);
BPF_ARRAY(flow_changes, u64, 1);
BPF_PERCPU_ARRAY(cached_flows, struct cached_flow, 1 << HW_CACHED_FLOW_BITS);
BPF_ARRAY(sources, u32, 1 << HW_SOURCE_BITS);
BPF_ARRAY(path_sources, u32, 1 << HW_SOURCE_BITS);
BPF_F_TABLE("hash", struct path_key, u32, paths, HW_SIZED, BPF_F_NO_PREALLOC);
/* As large as `flows`, way by way; and when a packet of any flow did. */
BPF_ARRAY(told_flows, struct told_bucket, HW_SIZED);
BPF_ARRAY(last_told, u32, 1);
BPF_STACK(free_slots, u32, HW_SIZED);
#endif

#endif
