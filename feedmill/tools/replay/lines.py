"""The rows of a text file: TSV or CSV, packed with gzip or not, read once, so that a pipe will do."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from feedmill.errors import FeedmillError

#: Bytes of a line beyond which a file is no list of anything.
LONGEST_LINE = 1024 * 1024
#: Lines that a quoted field may go over: so many are taken for one that was not meant to begin.
LONGEST_FIELD = 1_000
_GZIP = b"\x1f\x8b"
#: A line with a remark; a hash that is followed by a sign begins a tag.
_COMMENT = re.compile(r"\s*#(\s|#|!|$)")


class InputError(FeedmillError, ValueError):
    """A file cannot be read as a graph or as events."""


@dataclasses.dataclass
class Garbage:
    """What was read and not understood: how many lines, and the first few with their reasons."""

    #: Lines that were skipped, of so many with data; lines of remarks are not counted in either.
    count: int = 0
    lines: int = 0
    comments: int = 0
    shown: list[str] = dataclasses.field(default_factory=list)

    def add(self, path: Path, line: int, reason: str, lines: int = 1) -> None:
        """Remember that *lines* lines, from *line* on, were skipped."""
        self.count += lines
        if len(self.shown) < 10:
            self.shown.append(f"{path}:{line}: {reason}")

    def __str__(self) -> str:
        share = 100 * self.count / max(self.lines, 1)
        return f"{self.count:,} of {self.lines:,} lines could not be read ({share:.2g} %)"


class Rows:
    """The header of a file, and its rows with the numbers of their first lines."""

    def __init__(self, path: Path, garbage: Garbage) -> None:
        self._path, self._garbage = path, garbage
        #: The number of the line that was read last, and of the first one of a row.
        self._line = self._first = 0
        self._lines = self._texts()
        try:
            heads = next(self._lines)
        except StopIteration:
            raise InputError(f"{path} is empty; its first line must be a header") from None
        self._tabs = "\t" in heads
        self.header = [name.strip().lower() for name in self._split([heads.lstrip("\ufeff")])]
        self._first = 0

    def _split(self, lines: Sequence[str]) -> list[str]:
        if self._tabs:
            return lines[0].rstrip("\r\n").split("\t")
        try:
            return next(csv.reader(lines, strict=True))
        except csv.Error as error:
            raise InputError(f"{self._path}:{self._first}: the header cannot be read: {error}") from error

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) of each row that has as many fields as the header."""
        for fields in self._tsv() if self._tabs else self._csv():
            self._garbage.lines += self._line - self._first + 1
            if len(fields) == len(self.header):
                yield self._first, [field.strip() for field in fields]
            else:
                reason = f"{len(fields)} columns instead of {len(self.header)}"
                self._garbage.add(self._path, self._first, reason, self._line - self._first + 1)

    def _tsv(self) -> Iterator[list[str]]:
        """Tabs and ends of lines are never part of a field, and a quote is a sign like others."""
        for line in self._lines:
            yield line.rstrip("\r\n").split("\t")
            self._first = 0

    def _csv(self) -> Iterator[list[str]]:
        """A field in quotes may hold commas, quotes and ends of lines. Where quotes make no sense, lines are garbage."""
        reader = csv.reader(self._bounded(), strict=True)
        while True:
            self._first = 0
            try:
                yield next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                lines = self._line - self._first + 1
                self._garbage.lines += lines
                upto = f" up to line {self._line}" if lines > 1 else ""
                self._garbage.add(self._path, self._first, f"{error}{upto}", lines)
                if self._line - self._first >= LONGEST_FIELD:
                    reader = csv.reader(self._bounded(), strict=True)

    def _bounded(self) -> Iterator[str]:
        """The lines; a row that goes on for too long is ended."""
        for line in self._lines:
            yield line
            if self._first and self._line - self._first >= LONGEST_FIELD:
                return

    def _texts(self) -> Iterator[str]:
        """Lines as text, without empty ones and remarks where a row begins. An end of the file is an end of a line."""
        try:
            with self._path.open("rb") as raw, _unpacked(raw) as stream:
                for number, data in enumerate(iter(partial(stream.readline, LONGEST_LINE), b""), 1):
                    if len(data) == LONGEST_LINE:
                        text = f"{self._path}:{number} is longer than {LONGEST_LINE:,} bytes; is it a text file?"
                        raise InputError(text)
                    try:
                        text = data.decode()
                    except UnicodeDecodeError as error:
                        if not self._line:
                            raise InputError(
                                f"{self._path} is no UTF-8 text: {error.reason} in line {number}"
                            ) from error
                        self._garbage.lines += 1
                        self._garbage.add(self._path, number, "not UTF-8")
                        continue
                    if not self._first:
                        if not text.strip("\r\n\ufeff"):
                            continue
                        if _COMMENT.match(text.lstrip("\ufeff")):
                            self._garbage.comments += 1
                            continue
                        self._first = number
                    self._line = number
                    yield text
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self._path} cannot be read: {error}") from error


def _unpacked(raw: io.BufferedReader) -> Any:
    """What *raw* holds, unpacked if it is packed. It may be a pipe, which cannot be opened once more."""
    return gzip.open(raw) if raw.peek(len(_GZIP)).startswith(_GZIP) else raw
