/* BCC includes this first of all, and refuses to go on without the option. */
#define CONFIG_BPF_SYSCALL 1
