"""Options of the whole suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the lab under test is made of."""
    group = parser.getgroup("lab")
    group.addoption(
        "--routers", choices=("linux", "vpp"), default="linux", help="what the lab's routers are made of"
    )
    group.addoption("--vpp-prefix", help="where VPP is, if not on the PATH (or HAWKWING_VPP_PREFIX)")
