"""The code blocks of a Markdown page, and what it takes to run them.

What is run, block by block and in the order of the page, all of a page in one namespace:

- ``python``: as it stands, ``await`` at the top included. One that begins with ``# name.py`` is a file of that name,
  which later blocks can import. Every page can import ``pins``, the file that the tutorial has its reader write.
- ``text`` right behind a ``python`` block: what that block prints, with … for what differs from time to time. Any other
  ``text`` block is a picture.
- ``pycon``: as a doctest.
- ``console``: ``$ feedmill …`` and what it prints.
- ``html``: what is opened is closed.
- ``sh``, ``bash``: bash must be able to read it. There, and in files for other tools (``ini``, ``yaml``, ``json``,
  which are parsed), what is said of Feedmill must exist: commands, options, settings, targets of make.

An HTML comment right before a block says what is different about it: ``<!-- setup … -->`` is Python that runs first and
that readers do not see; ``<!-- run by tests/test_x.py -->`` and the names in :data:`ELSEWHERE` stand for a block that
another test runs; ``<!-- not run: reason -->`` is for what cannot be run.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
#: Comments by which other tests find the block that they run.
ELSEWHERE = {"example": "test_readme.py", "session": "test_webapp.py", "acl": "test_secure_servers.py"}
#: Directives whose text is prose, with blocks of its own.
PROSE = ("note", "tip", "warning", "important", "caution", "admonition")
#: Directives that the build of the documentation checks.
BUILT = ("eval-rst", "toctree", "glossary", "figure", "image")

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*", re.DOTALL)
_DIRECTIVE = re.compile(r"\{([\w-]+)\}\s*(\S*)")
_MARKDOWN = MarkdownIt()


@dataclasses.dataclass(frozen=True)
class Block:
    """One code block."""

    page: Path
    line: int
    language: str
    text: str
    #: The comments right before it.
    comments: tuple[str, ...]

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def said(self, word: str) -> list[str]:
        """What follows *word* in each comment that begins with it."""
        return [
            rest[1:].strip() if rest[:1] == ":" else rest.strip()
            for comment in self.comments
            if (rest := comment.removeprefix(word)) != comment and not rest[:1].isalnum()
        ]

    @property
    def file(self) -> str:
        """The name of the file that a python block is, or nothing."""
        found = re.match(r"# (\w+\.py)\n", self.text) if self.language == "python" else None
        return found[1] if found else ""


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
    ]


def blocks_of(page: Path, text: str | None = None, line: int = 1) -> list[Block]:
    """The code blocks of *page*, those in admonitions included."""
    found: list[Block] = []
    comments: list[str] = []
    for token in _MARKDOWN.parse(page.read_text(encoding="utf-8") if text is None else text):
        if token.type == "html_block":
            comments += _COMMENT.findall(token.content)
            continue
        if token.type in ("fence", "code_block"):
            at = line + (token.map or [0])[0]
            directive = _DIRECTIVE.match(token.info)
            if directive and directive[1] in PROSE:
                found += blocks_of(page, token.content, at + 1)
            elif not (directive and directive[1] in BUILT):
                language = directive[2] if directive and directive[1] == "code-block" else token.info.strip()
                found.append(Block(page, at, language, token.content, tuple(comments)))
        comments = []
    return found


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Each ``$ command`` of a console block with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        else:
            found.append(("", [line]))
    return found


def pattern(expected: str) -> re.Pattern[str]:
    """What matches *expected*, in which … stands for anything."""
    lines = [line.rstrip() for line in expected.rstrip("\n").splitlines()]
    return re.compile(".*?".join(map(re.escape, "\n".join(lines).split("…"))) + r"\s*", re.DOTALL)


def prints(printed: str, expected: str) -> bool:
    """Whether *printed* is what *expected* says, spaces at the ends of lines aside."""
    return pattern(expected).fullmatch("\n".join(line.rstrip() for line in printed.splitlines())) is not None
