"""The compiler is a process of its own, and can end as any process can; what is shipped needs none."""

from pathlib import Path

import pytest

from hawkwing.dataplane import bytecode
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.errors import DataplaneError


@pytest.fixture
def other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources differ from what is shipped, and nothing was compiled before."""
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    monkeypatch.setattr(bytecode, "source_digest", lambda: "another")


def test_a_killed_compiler(other_sources: None) -> None:
    loading = Loading("client", Capacities())
    assert loading._compiling is not None
    loading._compiling.process.kill()
    with pytest.raises(
        DataplaneError, match=r"^the compiler of the data plane was killed: it needs some 150 MB"
    ):
        loading.result()
    loading.abandon()


def test_compiling_is_said(other_sources: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Loading("client", Capacities()).abandon()
    assert caplog.messages == ["compiling the data plane, once"]


def test_no_compiler_for_what_is_shipped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loading = Loading("client", Capacities())
    loading.abandon()
    assert loading._compiling is None
    assert not caplog.messages
