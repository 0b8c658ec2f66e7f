"""What `hawkwing explain` takes for a destination and a port, and what it says to anything else."""

import pytest

from hawkwing.errors import HawkwingError
from hawkwing.target import read_target

ADDRESS = "fcbb:cc00:3::a"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([ADDRESS, "8080"], (ADDRESS, 8080)),
        ([f"[{ADDRESS}]", "8080"], (ADDRESS, 8080)),
        ([f"[{ADDRESS}]:8080"], (ADDRESS, 8080)),
        (["FCBB:CC00:0003:0::A", "0"], (ADDRESS, 0)),
        (["wb.hawk.net", "80"], ("wb.hawk.net", 80)),
        (["wb.hawk.net:80"], ("wb.hawk.net", 80)),
        (["WB.hawk.net.", "80"], ("wb.hawk.net", 80)),
        (["bücher.example", "80"], ("xn--bcher-kva.example", 80)),
        (["::", "65535"], ("::", 65535)),
        ([f" {ADDRESS} ", " 80 "], (ADDRESS, 80)),
        (["192.0.2.10", "80"], ("192.0.2.10", 80)),
        (["192.0.2.10:80"], ("192.0.2.10", 80)),
        (["::ffff:192.0.2.10", "80"], ("192.0.2.10", 80)),
    ],
)
def test_ways_to_write_it(words: list[str], wanted: tuple[str, int]) -> None:
    assert read_target(words) == wanted


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["fe80::1%eth0", "80"],
            "fe80::1%eth0 has a zone ID (the part from %): write the address without it",
        ),
        (["[fe80::1%eth0]:80"], "fe80::1%eth0 has a zone ID (the part from %): write the address without it"),
        ([f"{ADDRESS}/64", "80"], f"{ADDRESS}/64 is a prefix: write one address, without its length"),
        ([ADDRESS], f"the port is missing, for example: hawkwing explain [{ADDRESS}]:80"),
        ([f"[{ADDRESS}]"], f"the port is missing, for example: hawkwing explain [{ADDRESS}]:80"),
        (["wb.hawk.net"], "the port is missing, for example: hawkwing explain wb.hawk.net 80"),
        ([f"[{ADDRESS}]:80", "80"], f"[{ADDRESS}]:80 has a port already: leave out 80"),
        (["fcbb::12345", "80"], "fcbb::12345 is not an IPv6 address"),
        (["[wb.hawk.net]", "80"], "wb.hawk.net is not an IPv6 address"),
        (
            ["http://wb.hawk.net/", "80"],
            "http://wb.hawk.net/ is a URL: write the name or address only, and the port",
        ),
        (
            [f"http://[{ADDRESS}]:80/"],
            f"http://[{ADDRESS}]:80/ is a URL: write the name or address only, and the port",
        ),
        (["", "80"], "the destination is empty: write an IPv6 address or a name"),
        (["192.0.2.10"], "the port is missing, for example: hawkwing explain 192.0.2.10 80"),
        (["wb.hawk.net", "²"], "² is not a port, use 0 to 65535"),
        (["wb.hawk.net", "８０"], "８０ is not a port, use 0 to 65535"),
        (["wb.hawk.net", "65536"], "65536 is not a port, use 0 to 65535"),
        (["wb.hawk.net", "-1"], "-1 is not a port, use 0 to 65535"),
        (["wb.hawk.net", "9" * 5000], "9" * 77 + "... is not a port, use 0 to 65535"),
        (["wb.hawk.net:http"], "http is not a port, use 0 to 65535"),
    ],
)
def test_anything_else_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(HawkwingError) as raised:
        read_target(words)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("name", ["no sense", "a..b", "[", "a" * 64, "*.hawk.net"])
def test_what_is_no_name_either(name: str) -> None:
    with pytest.raises(HawkwingError, match=r"^not an IPv6 address, and ") as raised:
        read_target([name, "80"])
    assert "\n" not in str(raised.value)
