"""Quantities for links: 80ms, 10Mbit, 5%."""

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?\s*(\D*)", re.ASCII)
#: Links use microseconds and kbit/s; the value of each unit in these.
_LATENCIES = {"": 1, "us": 1, "µs": 1, "ms": 1000, "s": 1_000_000}
_RATES = {"": 1, "kbit": 1, "mbit": 1000, "gbit": 1_000_000}
_LARGEST = 2**31 - 1
_SIX = 10**6


def latency(text: str) -> int:
    """Microseconds, also without a unit."""
    return _whole(text, text, _LATENCIES, "latency", "80ms, 500us or 1s")


def bandwidth(text: str) -> int:
    """kbit/s, also without a unit."""
    return _whole(
        text, re.sub(r"(/s|ps)$", "", text.strip()), _RATES, "bandwidth", "500kbit, 10Mbit or 1Gbit"
    )


def loss(text: str) -> float:
    """Percent, with the sign or without."""
    match = _NUMBER.fullmatch(text.strip())
    if not match or match[3] not in ("", "%"):
        raise ValueError(f"{text!r} is not a loss: write 5% or 0.1%")
    return float(f"{match[1]}.{match[2] or 0}")


def _whole(text: str, cleaned: str, units: Mapping[str, int], what: str, examples: str) -> int:
    match = _NUMBER.fullmatch(cleaned.strip())
    factor = units.get(match[3].lower() if match else "?")
    if not match or factor is None:
        raise ValueError(f"{text!r} is not a {what}: write {examples}")
    value, rest = divmod((int(match[1]) * _SIX + int((match[2] or "").ljust(6, "0"))) * factor, _SIX)
    if rest or value > _LARGEST:
        smallest = next(name for name, size in units.items() if name and size == 1)
        raise ValueError(f"{text!r} is not a {what}: use whole {smallest}, at most {_LARGEST}")
    return value
