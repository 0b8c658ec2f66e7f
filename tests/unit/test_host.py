"""What the host says of itself: its addresses, and interfaces that require an HMAC."""

from ipaddress import IPv6Address
from pathlib import Path

from hawkwing.addresses import all_addresses, mapped_ipv4
from hawkwing.dataplane.interfaces import requiring_hmac

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.7
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.7
        /32 host LOCAL
"""


def test_the_local_addresses_of_ipv4() -> None:
    assert mapped_ipv4(TRIE) == {IPv6Address("::ffff:192.0.2.7"), IPv6Address("::ffff:127.0.0.1")}
    assert mapped_ipv4("") == set()


def test_this_host_has_its_loopback() -> None:
    assert all_addresses() >= {IPv6Address("::ffff:127.0.0.1")}


def test_interfaces_that_require_an_hmac(tmp_path: Path) -> None:
    for name, value in (("eth0", "1\n"), ("eth1", "0\n"), ("eth2", "-1\n"), ("eth3", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seg6_require_hmac").write_text(value)
    (tmp_path / "eth4").mkdir()
    names = [f"eth{number}" for number in range(6)]
    assert requiring_hmac(names, tmp_path) == ["eth0"]
