"""Options of the whole suite; and however it is ended, fixtures take away what they have made."""

import signal

import pytest

from hawkwing import ending


class Ended(KeyboardInterrupt):
    """A signal has come: pytest ends the session as it does for Ctrl-C, with the signal's own exit status."""


_came: list[int] = []


def _ended(number: int) -> Ended:
    _came.append(number)
    return Ended(signal.Signals(number).name)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """SIGTERM and SIGHUP end the session as tidily as Ctrl-C; a second signal doesn't disturb it.

    After pytest's own hook for what destructors raise, which knows nothing of signals.
    """
    ending.tidily("", _ended, once=True)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # Under nohup: programs that are started would inherit it.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def pytest_runtest_setup() -> None:
    """A library may have swallowed it."""
    ending.check()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last fixture: the status that a shell gives to a signal."""
    if _came:
        session.exitstatus = 128 + _came[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the lab under test is made of."""
    group = parser.getgroup("lab")
    group.addoption(
        "--routers", choices=("linux", "vpp"), default="linux", help="what the lab's routers are made of"
    )
    group.addoption("--vpp-prefix", help="where VPP is, if not on the PATH (or HAWKWING_VPP_PREFIX)")
