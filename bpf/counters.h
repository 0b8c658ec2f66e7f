/* Counters by reason and by path, and access to what there is one of. */
#ifndef HAWKWING_COUNTERS_H
#define HAWKWING_COUNTERS_H

static __always_inline void count(__u32 direction, __u32 reason, __u32 bytes)
{
	union stack_word key;
	struct tally *t;

	set_number(&key, direction * HW_REASON_COUNT + reason);
	t = tallies.lookup(&key.number);
	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline void count_path(__u32 slot, __u32 bytes)
{
	union stack_word key;
	struct tally *t;

	set_number(&key, slot);
	t = path_tallies.lookup(&key.number);
	if (t) {
		t->packets++;
		t->bytes += bytes;
	}
}

static __always_inline struct scratch *scratch_room(void)
{
	union stack_word zero;

	set_number(&zero, 0);
	return scratches.lookup(&zero.number);
}

static __always_inline struct settings *get_settings(void)
{
	union stack_word zero;

	set_number(&zero, 0);
	return settings.lookup(&zero.number);
}

static __always_inline struct policy *get_policy(__u32 slot)
{
	union stack_word key;

	set_number(&key, slot);
	return policies.lookup(&key.number);
}

#endif
