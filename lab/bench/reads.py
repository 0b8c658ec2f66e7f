"""The time of reads from as much memory as a flow table has: the minimum of a look-up.

The address of each read depends on the result of the one before, and nothing else is done meanwhile.
"""

from hawkwing.dataplane import bpf
from lab.bench.compiled import Compiled

_READS, _REPEAT = 64, 100
_TABLE = """
struct bucket { __u64 words[16]; };
BPF_F_TABLE("array", u32, struct bucket, buckets, @ALL@, BPF_F_MMAPABLE);
"""
_PROGRAM = """
int read_@USED@(struct __sk_buff *skb)
{
    __u64 random = bpf_get_prandom_u32(), found = 0;
    struct bucket *bucket;
    __u32 at;
    int i;

    for (i = 0; i < @READS@; i++) {
        random = (random ^ found) * 6364136223846793005ULL + 1442695040888963407ULL;
        at = ((random >> 32) * @USED@ >> 32) * (@ALL@ / @USED@);
        bucket = buckets.lookup(&at);
        if (!bucket)
            return 0;
        found = *(volatile __u64 *)bucket->words;
    }
    return found;
}
"""
_FRAME = bytes(12) + b"\x86\xdd" + bytes(60)


class Reads(Compiled):
    """A table of `buckets` of 128 bytes; programs read from an evenly spread part of them, or from all."""

    def __init__(self, buckets: int, *used: int) -> None:
        text = _TABLE + "".join(_PROGRAM.replace("@USED@", str(number)) for number in used)
        text = text.replace("@ALL@", str(buckets)).replace("@READS@", str(_READS))
        super().__init__(text, [f"read_{number}" for number in used])

    def nanoseconds(self, used: int) -> float:
        """The time of one random read from this number of buckets."""
        return bpf.test_run(self.programs[f"read_{used}"], _FRAME, repeat=_REPEAT).duration / _READS
