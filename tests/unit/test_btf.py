"""Members of kernel structures, found in BTF as old and new kernels have it."""

import struct
from pathlib import Path

import pytest

from hawkwing.dataplane.btf import Btf, Field, SocketFields, socket_fields

KFLAG = 1 << 31


class Writer:
    """BTF with the types that are added, in this machine's byte order."""

    def __init__(self) -> None:
        self.types, self.strings = b"", b"\0"

    def name(self, text: str) -> int:
        """Where the string is."""
        at = self.strings.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.strings) - 1
            self.strings += text.encode() + b"\0"
        return at + 1

    def struct(self, name: str, *members: tuple[str, int, int]) -> None:
        """Members with their bit offsets and, for bit fields, numbers of bits."""
        flag = KFLAG if any(bits for _name, _at, bits in members) else 0
        self.types += struct.pack("=III", self.name(name), flag | 4 << 24 | len(members), 64)
        for member, at, bits in members:
            self.types += struct.pack("=III", self.name(member), 1, at | bits << 24)

    def enum(self, **values: int) -> None:
        """An enumeration without a name."""
        self.types += struct.pack("=III", 0, 6 << 24 | len(values), 4)
        for name, value in values.items():
            self.types += struct.pack("=Ii", self.name(name), value)

    def written(self) -> bytes:
        """As the kernel shows it."""
        head = struct.pack(
            "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return head + self.types + self.strings


def old() -> bytes:
    """As until Linux 6.7: bit fields of struct ipv6_pinfo."""
    btf = Writer()
    btf.struct("ipv6_pinfo", ("saddr", 0, 0), ("recverr", 400, 1), ("pmtudisc", 403, 3), ("dontfrag", 410, 1))
    btf.struct("inet_sock", ("sk", 0, 0), ("pinet6", 6144, 0))
    return btf.written()


def new() -> bytes:
    """As since Linux 6.8: a byte, and a flag of struct inet_sock."""
    btf = Writer()
    btf.struct("other", ("pmtudisc", 8, 0), ("pinet6", 64, 0))
    btf.struct("inet_sock", ("sk", 0, 0), ("pinet6", 6272, 0), ("inet_flags", 6400, 0))
    btf.struct("ipv6_pinfo", ("saddr", 0, 0), ("pmtudisc", 272, 0))
    btf.enum(INET_FLAGS_PKTINFO=0, INET_FLAGS_DONTFRAG=25)
    return btf.written()


def fields(folder: Path, data: bytes) -> SocketFields | None:
    file = folder / "vmlinux"
    file.write_bytes(data)
    return socket_fields(file)


def test_bit_fields(tmp_path: Path) -> None:
    assert fields(tmp_path, old()) == SocketFields(768, Field(50, 3, 7), Field(51, 2, 1))


def test_a_flag_of_the_socket(tmp_path: Path) -> None:
    expected = SocketFields(784, Field(34, 0, 255), Field(803, 1, 1), dontfrag_in_socket=True)
    assert fields(tmp_path, new()) == expected


def test_without_dontfrag(tmp_path: Path) -> None:
    btf = Writer()
    btf.struct("inet_sock", ("pinet6", 6144, 0))
    btf.struct("ipv6_pinfo", ("pmtudisc", 272, 0))
    assert fields(tmp_path, btf.written()) == SocketFields(768, Field(34, 0, 255))


@pytest.mark.parametrize("missing", ["pinet6", "pmtudisc", "inet_sock", "ipv6_pinfo"])
def test_nothing_is_found_where_a_name_is_missing(tmp_path: Path, missing: str) -> None:
    assert fields(tmp_path, new().replace(missing.encode(), b"x" * len(missing))) is None


def test_a_field_across_bytes_is_left_alone(tmp_path: Path) -> None:
    btf = Writer()
    btf.struct("inet_sock", ("pinet6", 6144, 0))
    btf.struct("ipv6_pinfo", ("pmtudisc", 406, 3))
    assert fields(tmp_path, btf.written()) is None


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb", b"\xeb\x9f" + bytes(40), bytes(100)])
def test_what_is_no_btf(tmp_path: Path, data: bytes) -> None:
    assert fields(tmp_path, data) is None
    with pytest.raises(ValueError, match="BTF"):
        Btf(data)


def test_a_kernel_without_it(tmp_path: Path) -> None:
    assert socket_fields(tmp_path / "none") is None


@pytest.mark.parametrize("data", [old(), new()])
def test_half_of_it_is_no_error(tmp_path: Path, data: bytes) -> None:
    for length in range(len(data)):
        fields(tmp_path, data[:length])


def test_this_kernel(tmp_path: Path) -> None:
    found = socket_fields()
    if found is None:
        pytest.skip("this kernel has no BTF")
    assert found.pinet6 % 8 == 0 and found.pmtudisc.mask in (7, 255) and found.dontfrag is not None
