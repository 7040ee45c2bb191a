"""A headless Chromium for tests: pages that note what goes wrong in them, the rules of axe, and screenshots for the docs."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import needed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

#: Milliseconds for what a page does: many times what it takes, since the machine may be busy with other things.
PATIENCE = 60_000
#: Width and height of a window, and of a telephone.
WIDE, NARROW = (1280, 860), (390, 844)
#: What axe calls bad enough to keep somebody from using a page.
BAD = ("serious", "critical")
#: A screenshot in the docs has at most so many bytes.
LARGEST = 200_000


def executable() -> str:
    """The installed Chromium, or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return needed(found, "no chromium on PATH; apt-get install chromium")


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser. Playwright runs an event loop in this thread until it ends: no ``asyncio.run`` meanwhile."""
    path = executable()
    needed("playwright" if find_spec("playwright") else None, "no Playwright; pip install -e '.[browser]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root has no sandbox, and /dev/shm is small in containers.
        flags = ["--disable-dev-shm-usage", "--font-render-hinting=none", *arguments]
        found = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.getuid() != 0, args=flags)
        try:
            yield found
        finally:
            found.close()


@dataclasses.dataclass
class Visit:
    """Somebody's window, in a browser context of its own: cookies and storage are not shared."""

    page: Page
    context: BrowserContext
    #: Errors of the console, exceptions of scripts, and what the security policy refused.
    errors: list[str] = dataclasses.field(default_factory=list)

    def axe(self, *, within: str = "") -> list[str]:
        """What the page does wrong for people with disabilities that is serious or critical: the rule, and where."""
        if not self.page.evaluate("typeof window.axe === 'object'"):
            self.page.evaluate(f"() => {{ {_axe()} }}")
        found: dict[str, Any] = self.page.evaluate(
            "scope => axe.run(scope || document, {resultTypes: ['violations']})", within
        )
        return [
            f"{rule['impact']}: {rule['id']}: {node['target']}: {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in BAD
            for node in rule["nodes"]
        ]


@contextmanager
def visit(
    browser: Browser, url: str = "", *, size: Sequence[int] = WIDE, dark: bool = False, scale: float = 1, **options: Any
) -> Iterator[Visit]:
    """A window of *size* on *url*; *options* are those of Playwright's ``new_context``."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        reduced_motion="reduce",
        locale="en-GB",
        **options,
    )
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(PATIENCE)
    page = context.new_page()
    found = Visit(page, context)
    page.on("console", lambda message: message.type == "error" and found.errors.append(message.text))
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    try:
        if url:
            page.goto(url)
        yield found
    finally:
        with suppress(Exception):  # what failed in the test is told, and not that the browser is gone
            context.close()


def screenshot(page: Page, path: Path, **options: Any) -> None:
    """Write what *page* shows to *path*, as a PNG that a repository can hold; *options* are Playwright's."""
    data = packed(page.screenshot(animations="disabled", caret="hide", **options))
    assert len(data) <= LARGEST, f"{path.name} has {len(data):,} bytes; show less, or at a smaller scale"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


#: The nearest of 86 shades.
_SHADES = bytes(round(value / 255 * 85) * 255 // 85 for value in range(256))


def packed(png: bytes) -> bytes:
    """The picture in two thirds of its bytes: in 86 shades of each colour, and without filters, as flat pictures pack best."""
    at, parts = 8, dict[bytes, bytes]()
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind = png[at + 4 : at + 8]
        parts[kind] = parts.get(kind, b"") + png[at + 8 : at + 8 + size]
        at += size + 12
    width, _, depth, colours = struct.unpack_from(">IIBB", parts[b"IHDR"])
    assert depth == 8 and colours in (2, 6), "a browser's pictures have 8 bits of red, green, blue, and perhaps opacity"
    step = 3 if colours == 2 else 4
    rows = _without_filters(zlib.decompress(parts[b"IDAT"]), width * step, step)
    flat = b"".join(b"\0" + row.translate(_SHADES) for row in rows)
    wanted = [(b"IHDR", parts[b"IHDR"]), (b"IDAT", zlib.compress(flat, 9)), (b"IEND", b"")]
    made = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in wanted]
    return min(png, png[:8] + b"".join(made), key=len)


def _without_filters(data: bytes, size: int, step: int) -> Iterator[bytes]:
    """Rows of *size* bytes of *data*, in which each byte is stored as the difference from its neighbours."""
    above = bytes(size)
    for start in range(0, len(data), size + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + size])
        for i in range(size if kind else 0):
            left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
            if kind == 4:
                guess = left + above[i] - corner
                nearest = min((left, above[i], corner), key=lambda each: abs(guess - each))
            else:
                nearest = (left, above[i], (left + above[i]) // 2)[kind - 1]
            row[i] = (row[i] + nearest) & 255
        yield bytes(row)
        above = row


@functools.cache
def _axe() -> str:
    """The source of axe-core."""
    spec = needed_spec("axe_playwright_python")
    return (Path(spec) / "axe.min.js").read_text()


def needed_spec(package: str) -> str:
    """The folder of an installed *package*."""
    spec = find_spec(package)
    found = next(iter(spec.submodule_search_locations or []), None) if spec else None
    return needed(found, f"no {package}; pip install -e '.[browser]'")
