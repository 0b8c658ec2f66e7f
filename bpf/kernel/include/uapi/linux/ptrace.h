#include_next <linux/ptrace.h>
