"""What is sent in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis

from feedmill.storage.operations import DRIVER_COMMANDS, PAUSE, Command

#: Bytes of packed commands that are sent at once: the server works while the next are made.
SEND_SIZE = 4096


class CommandBuffer:
    """The commands of one round trip, made as they are sent and kept so that they can be sent again."""

    def __init__(self, wanted: Iterable[Command]) -> None:
        self.commands: list[Command] = []
        self._rest = iter(wanted)

    def _all(self) -> Iterator[Command]:
        yield from tuple(self.commands)
        kept = self.commands.append
        for command in self._rest:
            kept(command)
            yield command

    def packed(self, pause: Callable[[float], Any]) -> Iterator[list[bytes]]:
        """What to send, in pieces of about :data:`SEND_SIZE`; *pause* is called with the seconds to wait before."""
        pieces: list[bytes] = []
        size = 0
        for command in self._all():
            if command[0] in DRIVER_COMMANDS:  # one connection is in order: a barrier costs nothing
                if command[0] == PAUSE:
                    pause(command[1])
                continue
            piece = hiredis.pack_command(command)
            pieces.append(piece)
            size += len(piece)
            if size >= SEND_SIZE:
                yield [b"".join(pieces)]
                pieces, size = [], 0
        if pieces:
            yield [b"".join(pieces)]
