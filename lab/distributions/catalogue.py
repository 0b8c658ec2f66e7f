"""The supported distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.network import LabError


@dataclass(frozen=True)
class Distribution:
    """A release of a distribution."""

    name: str
    title: str
    family: str
    suite: str
    usual: bool = True  # part of the default

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites in this release's sources.list."""
        return (self.suite,) if self.suite == "sid" else (self.suite, f"{self.suite}-updates")

    @property
    def components(self) -> tuple[str, ...]:
        """The archive components that are enabled by default."""
        return ("main", "universe") if self.family == "ubuntu" else ("main",)

    def sources(self, mirror: str) -> list[str]:
        """Its sources.list."""
        return [f"deb {mirror} {suite} {' '.join(self.components)}" for suite in self.suites]


CATALOGUE = (
    Distribution("debian12", "Debian 12", "debian", "bookworm"),
    Distribution("debian13", "Debian 13", "debian", "trixie"),
    Distribution("debiansid", "Debian sid", "debian", "sid"),
    Distribution("ubuntu2204", "Ubuntu 22.04", "ubuntu", "jammy"),
    Distribution("ubuntu2404", "Ubuntu 24.04", "ubuntu", "noble"),
    Distribution("ubuntu2510", "Ubuntu 25.10", "ubuntu", "questing", usual=False),
    Distribution("ubuntu2604", "Ubuntu 26.04", "ubuntu", "resolute"),
)


def named(name: str) -> Distribution:
    """The distribution with this name; LabError lists the names."""
    for distribution in CATALOGUE:
        if distribution.name == name:
            return distribution
    known = ", ".join(distribution.name for distribution in CATALOGUE)
    raise LabError(f"{name!r} is not a known distribution, use {known}")


def chosen(only: str | None) -> Sequence[Distribution]:
    """The distributions in a list with commas, or the default."""
    if only is None:
        return [distribution for distribution in CATALOGUE if distribution.usual]
    return [named(name) for name in dict.fromkeys(name.strip() for name in only.split(","))]
