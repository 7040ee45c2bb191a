"""The documentation: it builds without a warning, and what it says runs."""

from __future__ import annotations

import collections
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import feedmill
import feedmill.aggregators
import feedmill.feeds
from feedmill.fanout import publisher
from tests.conftest import needed
from tests.documents import DOCS, ELSEWHERE, ROOT, Block, blocks_of, is_excerpt, pages, prints
from tests.fake_broker import arrive, replaced
from tests.reader import check_words, read_all, reading

#: How many blocks of which page cannot be run; each says why in the comment before it.
NOT_RUN: dict[str, int] = {"docs/how-to/watch-with-flower.md": 1}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runs_elsewhere(block: Block) -> bool:
    """Whether another test runs *block*: that test must know of it."""
    if block.source:
        return True  # by the test of excerpts below
    for marker, test in ELSEWHERE.items():
        if block.said(marker):
            assert f"<!-- {marker}" in (ROOT / "tests" / test).read_text(), (
                f"{block.where}: {test} does not look for it"
            )
            return True
    for test in (said.partition(": ")[0] for said in block.said("run by")):
        assert (ROOT / test).is_file(), f"{block.where}: there is no {test}"
        assert block.page.name in (ROOT / test).read_text(), f"{block.where}: {test} does not mention the page"
        return True
    return False


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_of_the_page_runs(
    page: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed in from top to bottom, with workers that are never late, the page does and prints what it says."""
    monkeypatch.chdir(tmp_path)  # where a page's database is made
    with replaced(monkeypatch), reading(tmp_path, monkeypatch) as reader:

        def send(name: str, args: Any, **_: Any) -> None:
            arrive(name, list(args))

        monkeypatch.setattr(publisher, "send", send)
        monkeypatch.setattr(publisher, "inline", lambda: True)
        read_all(reader, blocks_of(page), lambda block: bool(block.said("not run")) or runs_elsewhere(block))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_what_the_page_shows_of_the_examples_is_there(page: Path) -> None:
    """An excerpt stands in its file; what the reader is to write as a copy, in one block or several, is that file, line by line."""
    blocks = blocks_of(page)
    for block in blocks:
        if block.source:
            assert (ROOT / block.source).is_file(), f"{block.where}: there is no {block.source}"
            text = (ROOT / block.source).read_text()
            assert is_excerpt(block.code, text), f"{block.where}: {block.source} does not say so"
        if block.original:
            parts = [each.code.strip() for each in blocks if each.file == block.file]
            text = (ROOT / block.original).read_text()
            assert "\n\n\n".join(parts) == text.strip(), f"{block.where}: {block.original} differs"


def test_what_is_not_run_is_listed_here_and_says_why() -> None:
    """Leaving a block out takes a reason on the page and a line in this file."""
    left = [block for page in pages() for block in blocks_of(page) if block.said("not run")]
    assert collections.Counter(name_of(block.page) for block in left) == NOT_RUN
    for block in left:
        assert len(" ".join(block.said("not run")).split()) > 2, f"{block.where}: say why"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """What README and CONTRIBUTING point at is in the repository; the pages' links are for the build."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    """Sphinx finds no broken reference, no page that is in no list, and no docstring that it cannot read."""
    found = all(importlib.util.find_spec(name) for name in ("sphinx", "myst_parser", "furo", "sphinx_click"))
    needed("sphinx" if found else None, "no Sphinx; pip install 'feedmill[docs]' to build the documentation")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    reference = "".join(path.read_text() for path in (tmp_path / "html" / "reference").glob("*.html"))
    described = {name.rpartition(".")[2] for name in re.findall(r'id="(feedmill\.[\w.]+)"', reference)}
    for module in (feedmill, feedmill.manager, feedmill.fanout, feedmill.feeds, feedmill.aggregators):
        assert set(module.__all__) - {"FanoutPriority"} <= described


class TestTheReaderIsStrict:
    """The tests above can fail."""

    @pytest.mark.parametrize(
        ("block", "complaint"),
        [
            ("```python\n1 / 0\n```", "division by zero"),
            ("```python\nprint(1)\n```\n\n```text\n2\n```", r"what was printed is\n *1"),
            ("```pycon\n>>> 1 + 1\n3\n```", "Expected:"),
            ("```pycon\nno prompt\n```", "no >>>"),
            ("```console\n$ feedmill dead list\nmany\n```", "no dead letters"),
            ("```console\n$ feedmill nonsense\n```", "No such command"),
            ("```console\n$ rm x\n```", "only `[$] feedmill"),
            ("```sh\nif true\n```", "syntax error"),
            ("```sh\nfeedmill fly\n```", "no command"),
            ("```sh\nfeedmill doctor --cure\n```", "has no --cure"),
            ("```sh\nmake nonsense\n```", "no target 'nonsense'"),
            ("```sh\nexport FEEDMILL_COLOUR=red\n```", "no setting FEEDMILL_COLOUR"),
            ("```ini\nnonsense\n```", "no section"),
            ("```yaml\na: b: c\n```", "mapping values"),
            ("```json\n{\n```", "Expecting"),
            ("```klingon\nqapla\n```", "klingon"),
            ("```\nanything\n```", "without language"),
            ("    indented", "without language"),
            ("````{note}\n```python\nassert False, 'inside'\n```\n````", "inside"),
            ("<!-- setup: x = 1 -->\n```python\nassert x == 2, 'seen'\n```", "seen"),
            ("```python\nimport asyncio\nawait asyncio.sleep(0)\nassert False, 'awaited'\n```", "awaited"),
        ],
    )
    def test_a_wrong_block_fails(
        self, block: str, complaint: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each kind of mistake is noticed, in each kind of block."""
        with reading(tmp_path, monkeypatch) as reader, pytest.raises(Exception, match=complaint):
            read_all(reader, blocks_of(DOCS / "wrong.md", block))

    def test_names_in_other_blocks_are_looked_at(self) -> None:
        """A command in a unit file is checked like one in a shell."""
        (block,) = blocks_of(DOCS / "wrong.md", "```ini\n[Service]\nExecStart=/srv/bin/feedmill fly\n```")
        with pytest.raises(AssertionError, match="no command"):
            check_words(block)

    def test_an_ellipsis_stands_for_anything(self) -> None:
        """And for nothing else than where it stands."""
        assert prints("took 3 s\nfine\n", "took … s\nfine\n")
        assert not prints("took 3 s\nbad\n", "took … s\nfine\n")

    @pytest.mark.parametrize(
        ("code", "stands"),
        [
            ("def f():\n    return 1\n", True),
            ("    def f():\n        return 1\n", True),
            ("x = 1\n# …\ndef g():\n    # …\n    return 2\n", True),
            ("def f():\n    return 2\n", False),
            ("def f():\n        return 1\n", False),
            ("def g():\n    # …\nx = 1\n", False),
            ("x = 1\ndef g():\n", False),
            ("return 3\n", False),
            ("# …\n", False),
            ("", False),
        ],
    )
    def test_an_excerpt_is_compared(self, code: str, stands: bool) -> None:
        """Each line counts, with its indentation below the first; lines between may be left out, but not exchanged."""
        assert (
            is_excerpt(code, "x = 1\n\n\ndef f():\n    return 1\n\n\ndef g():\n    y = 1\n\n    return 2\n") == stands
        )
