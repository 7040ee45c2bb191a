"""The browser finds what is wrong with a page: otherwise no test of a page would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.browser import screenshot, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.web


def test_what_is_wrong_is_found(browser: Browser, tmp_path: Path) -> None:
    """A button without a name, an error in the console, an exception; and nothing on a page without faults."""
    good = "<!doctype html><html lang=en><title>Good</title><main><h1>Good</h1><button>Go</button></main>"
    with visit(browser) as good_page, visit(browser) as bad_page:
        good_page.page.set_content(good)
        bad_page.page.set_content(good.replace("Go<", "<"))
        bad_page.page.evaluate("() => { console.error('wrong'); setTimeout(() => { throw Error('thrown') }) }")
        bad_page.page.wait_for_timeout(100)
        assert good_page.axe() == good_page.errors == []
        assert [rule.split(":")[1].strip() for rule in bad_page.axe()] == ["button-name"]
        assert bad_page.errors == ["wrong", "thrown"]
        screenshot(good_page.page, tmp_path / "good.png")
        assert (tmp_path / "good.png").read_bytes().startswith(b"\x89PNG")
