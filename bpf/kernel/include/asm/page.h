/* The ring buffer sizes of BCC are counted in pages. */
#define PAGE_SIZE 4096
