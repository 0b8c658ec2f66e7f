"""Tests of one place follow each other, so that its agents are started once."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not of a place stays where it is."""
    spots = [number for number, item in enumerate(items) if _place(item)]
    for spot, item in zip(spots, sorted((items[spot] for spot in spots), key=_place), strict=True):
        items[spot] = item


def _place(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("place", "")) if callspec else ""
