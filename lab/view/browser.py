"""A headless Chromium, for pictures and tests of the page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import LabError

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 800), (390, 844)
_VARIABLE = "HAWKWING_BROWSER"


def missing() -> str:
    """What must be installed to use a browser; empty if nothing is missing."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no playwright: install Chromium (apt install chromium), and ./run installs it"
    if _program() is None:
        return f"no Chromium: install it (apt install chromium), or name it in {_VARIABLE}"
    return ""


def require() -> None:
    """LabError if there is no browser."""
    if why := missing():
        raise LabError(why)


def _program() -> str | None:
    named = os.environ.get(_VARIABLE)
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """Context manager that runs Chromium; LabError if there is none."""

    def __enter__(self) -> Self:
        require()
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            # Root has no sandbox in many containers; only our own page is opened.
            self._browser = self._playwright.chromium.launch(
                executable_path=_program(), args=["--no-sandbox", "--disable-gpu"]
            )
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, url: str, size: tuple[int, int] = DESKTOP, dark: bool = False, calm: bool = False) -> Any:
        """A page in a window of this size, once it receives events; phones use touch, not clicks."""
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if calm else "no-preference",
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("html[data-live=yes]")
        return page

    def picture(self, url: str, file: Path) -> None:
        """Takes a PNG picture of the window."""
        page = self.open(url, calm=True)
        # Rates need two readings.
        page.locator("td.rate", has_text="?").first.wait_for(state="detached")
        page.screenshot(path=str(file))
        page.context.close()
