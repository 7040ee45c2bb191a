"""Text on a terminal: what was stored, or stands in a file, is shown and never obeyed."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator

import click

#: Characters that a terminal acts on, breaks a line at, turns the direction of text with, or cannot show: control
#: characters, separators of lines, half characters, and formatting marks but for the two that letters are joined with.
_ACTED_ON = ("Cc", "Zl", "Zp", "Cs")
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    r"""*text* in one line, with an escape such as ``\x1b`` or ``\n`` in place of each character that is more than a sign."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(_escaped(sign) if _is_acted_on(sign) else sign for sign in shown)


def say(text: object, *, error: bool = False) -> None:
    """Print *text* as one line, at once."""
    click.echo(printable(text), err=error)
    (sys.stderr if error else sys.stdout).flush()


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left on a terminal, else nothing; it is told how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    began = time.monotonic()

    def rate(_: object) -> str:
        return f"{bar.pos / max(time.monotonic() - began, 0.001):,.0f}/s"

    def show(done: int, total: int) -> None:
        bar.length = total
        bar.update(max(0, done - bar.pos))  # it never goes back

    bar = click.progressbar(length=1, label=label, show_pos=True, item_show_func=rate, file=sys.stderr)
    with bar:
        yield show


class LogFormatter(logging.Formatter):
    """What is logged while a command runs: a message is one line, a traceback as many as it has."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message, made printable."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """All of the record, made printable."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def _is_acted_on(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return kind in _ACTED_ON or (kind == "Cf" and sign not in _JOINERS)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
