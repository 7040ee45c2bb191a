"""What a browser's ``EventSource`` makes of a stream, by the rules of the HTML standard."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator


@dataclasses.dataclass
class Event:
    """An event as a page gets it."""

    name: str
    data: str
    id: str


class EventSource:
    """Takes bytes as they come."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.last_event_id = ""
        self.comments = 0
        self._rest = b""
        self._name, self._data, self._id = "", list[str](), ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with *chunk*."""
        text = self._rest + chunk
        lines = re.split(b"\r\n|\r|\n", text)
        self._rest = lines.pop()
        for line in lines:
            yield from self._line(line.decode())

    def _line(self, line: str) -> Iterator[Event]:
        if not line:
            self.last_event_id = self._id
            if self._data:
                yield Event(self._name or "message", "\n".join(self._data), self.last_event_id)
            self._name, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            self.comments += 1
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isdigit():
            self.retry = int(value)
