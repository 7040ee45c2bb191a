"""Server-sent events as bytes, as a browser's ``EventSource`` reads them. No framework, no I/O."""

from __future__ import annotations

import json
import re
from typing import Any

from feedmill.errors import ArgumentError

#: What a response with events says of itself: its type, that nobody may keep or change it, that middleware must not compress it
#: (Django's would compress each event on its own, which browsers do not read), and that nginx passes it on at once.
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}
#: The header in which a browser that connects again sends the id of the last event that it has got.
LAST_EVENT_ID = "Last-Event-ID"

_LINE_ENDS = re.compile("\r\n|\r|\n")
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def event(data: Any, *, name: str = "", id: str = "") -> bytes:
    """One event, with the blank line that ends it.

    *data*: a text as it is, anything else as JSON. *name*: for ``addEventListener``; the browser calls events without one
    "message". *id*: what the browser sends as ``Last-Event-ID`` when it connects again. Raises
    :class:`~feedmill.errors.ArgumentError` for a name or an id of more than one line, and for data that JSON cannot hold.
    """
    lines = [f"{field}: {_one_line(field, text)}" for field, text in (("event", name), ("id", id)) if text]
    lines += [f"data: {line}" for line in _LINE_ENDS.split(_text(data))]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def comment(text: str = "") -> bytes:
    """A line that browsers pass over: it keeps a connection from being closed as idle, and shows whether it is still there."""
    return f": {_one_line('a comment', text)}\n\n".encode("utf-8", "replace")


def retry(seconds: float) -> bytes:
    """Tell the browser how long to wait before it connects again; raises :class:`~feedmill.errors.ArgumentError` if it cannot."""
    if not 0 <= seconds < 1e6:
        raise ArgumentError(f"retry is {seconds!r}; use a number of seconds")
    return f"retry: {round(seconds * 1000)}\n\n".encode()


def _text(data: Any) -> str:
    if isinstance(data, str):
        return data
    try:
        return _JSON.encode(data)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"data {repr(data)[:80]} is no JSON: {error}; use to_dict() of activities and groups"
        ) from error


def _one_line(field: str, text: str) -> str:
    if _LINE_ENDS.search(text) or "\0" in text:
        raise ArgumentError(f"{field} is {text[:80]!r}; use a text of one line, without NUL")
    return text
