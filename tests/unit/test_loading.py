"""The compiler is a process of its own, and can end as any process can."""

from pathlib import Path

import pytest

from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.errors import DataplaneError


def test_a_killed_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    loading = Loading("client", Capacities())
    assert loading._process is not None
    loading._process.kill()
    with pytest.raises(
        DataplaneError, match=r"^the compiler of the data plane was killed: it needs some 150 MB"
    ):
        loading.result()
    loading.abandon()
