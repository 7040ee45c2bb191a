"""The code blocks of a Markdown page, and what it takes to run them.

What is run, block by block and in the order of the page, all of a page in one namespace:

- ``python``: as it stands, ``await`` at the top included. One that begins with ``# name.py`` is a file of that name,
  which later blocks can import; ``# name.py, continued`` adds to it. Every page can import ``pins``, the file of
  docs/how-to/index.md, and ``orchard``, the package that the tutorial has its reader write.
- ``text`` right behind a ``python`` block: what that block prints, with … for what differs from time to time. Any other
  ``text`` block is a picture.
- ``pycon``: as a doctest.
- ``console``: ``$ feedmill …`` and what it prints.
- ``html``: what is opened is closed.
- ``sh``, ``bash``: bash must be able to read it. There, and in files for other tools (``ini``, ``yaml``, ``json``, ``dockerfile``,
  which are parsed), what is said of Feedmill must exist: commands, options, settings, targets of make.

What is not run, but compared with a file of the repository, by ``tests/test_docs.py``:

- a block of any language whose first line names a file below ``examples/`` (``# examples/flask/app.py``) is an excerpt
  of that file. A comment ``…`` stands for lines that are left out.
- ``# name.py, a copy of examples/shared/feeds.py``: that file of the reader, with the blocks that continue it, is the
  other one, line by line.

An HTML comment right before a block says what is different about it: ``<!-- setup … -->`` is Python that runs first and
that readers do not see; ``<!-- run by tests/test_x.py -->``, with a name behind a colon for that test, and the names in :data:`ELSEWHERE` stand for a block that
another test runs; ``<!-- not run: reason -->`` is for what cannot be run.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
#: The page with ``pins.py``, which the how-to guides import.
GUIDES = DOCS / "how-to" / "index.md"
#: Comments by which other tests find the block that they run.
ELSEWHERE = {"example": "test_readme.py", "session": "test_procfile.py", "acl": "test_secure_servers.py"}
#: Directives whose text is prose, with blocks of its own.
PROSE = ("note", "tip", "warning", "important", "caution", "admonition")
#: Directives that the build of the documentation checks.
BUILT = ("eval-rst", "toctree", "glossary", "figure", "image")

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*", re.DOTALL)
_DIRECTIVE = re.compile(r"\{([\w-]+)\}\s*(\S*)")
_FILE = re.compile(r"(?:#|//|\{#) ([\w./-]+\.\w+)(, continued)?(?:, a copy of (\S+))?(?: #\})?\n")
_LEFT_OUT = re.compile(r"^ *(?:(?:#|//) …|\{# … #\})\n", re.MULTILINE)
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
        """The file of the reader that the block is, or belongs to; or nothing."""
        found = _FILE.match(self.text)
        return found[1] if found and not self.source else ""

    @property
    def continued(self) -> bool:
        """Whether a block before this one is the beginning of the file."""
        found = _FILE.match(self.text)
        return bool(found and found[2])

    @property
    def source(self) -> str:
        """The file of the repository that the block is an excerpt of, or nothing."""
        found = _FILE.match(self.text)
        return found[1] if found and found[1].startswith("examples/") else ""

    @property
    def original(self) -> str:
        """The file of the repository that the reader's file is a copy of, or nothing."""
        found = _FILE.match(self.text)
        return found[3] or "" if found else ""

    @property
    def code(self) -> str:
        """The text without the line that names the file."""
        return _FILE.sub("", self.text, count=1) if _FILE.match(self.text) else self.text


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


def files_of(page: Path) -> dict[str, str]:
    """The files that a reader of *page* has at its end, by name; a line before each part names the file."""
    found: dict[str, str] = {}
    for block in blocks_of(page):
        if block.continued:
            found[block.file] += f"\n\n{block.text}"
        elif block.file:
            found[block.file] = block.text
    return found


def is_excerpt(code: str, text: str) -> bool:
    """Whether the lines of *code* stand in *text* together and in this order, but for empty lines and the depth of indentation.

    A comment … in *code* stands for any lines.
    """
    lines, at = _lines(text), 0
    for part in _LEFT_OUT.split(code):
        wanted = _lines(textwrap.dedent(part))
        starts = range(at, len(lines) - len(wanted) + 1)
        found = (i for i in starts if _lines(textwrap.dedent("\n".join(lines[i : i + len(wanted)]))) == wanted)
        at = next(found, -1) + len(wanted)
        if at < len(wanted) or not wanted:
            return False
    return True


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


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
