"""An installed browser for tests of pages; without one they skip."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needs(*packages: str) -> list[pytest.MarkDecorator]:
    """Marks that skip a module where a package or the browser is missing, with the reason."""
    missing = [name for name in (*packages, "playwright") if importlib.util.find_spec(name) is None]
    return [
        pytest.mark.skipif(
            bool(missing), reason=f"the page is tested with {', '.join(missing)}, which is not installed"
        ),
        pytest.mark.skipif(PROGRAM is None, reason="no chromium is installed"),
    ]


@contextmanager
def launched() -> Iterator[Any]:
    """The browser, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        browser.close()
