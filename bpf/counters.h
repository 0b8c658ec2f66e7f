/* Counters by reason and by path, and access to what there is one of. */
#ifndef HAWKWING_COUNTERS_H
#define HAWKWING_COUNTERS_H

static __always_inline void count(__u32 direction, __u32 reason, __u32 bytes)
{
	__u32 key = direction * HW_REASON_COUNT + reason;
	struct tally *t = tallies.lookup(&key);

	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline void count_path(__u32 slot, __u32 bytes)
{
	struct tally *t = path_tallies.lookup(&slot);

	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline struct scratch *scratch_room(void)
{
	__u32 zero = 0;

	return scratches.lookup(&zero);
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return settings.lookup(&zero);
}

#endif
