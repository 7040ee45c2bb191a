"""What is listened to on one connection, and by whom: what to send, and what becomes of replies. No I/O."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from feedmill.iteration import batched
from feedmill.keys import pattern_of
from feedmill.storage.mailbox import Mailbox
from feedmill.storage.operations import Command
from feedmill.storage.pubsub import LISTENING

#: Channels that one command subscribes to at most: the server does nothing else meanwhile.
BATCH = 500
#: Commands on channels, and on patterns.
SUBSCRIBE, UNSUBSCRIBE = ("SUBSCRIBE", "PSUBSCRIBE"), ("UNSUBSCRIBE", "PUNSUBSCRIBE")

#: Whether it is of a pattern, and the channel or pattern.
Key = tuple[bool, bytes]


@dataclasses.dataclass(slots=True, eq=False)
class Topic:
    """One channel or pattern."""

    #: As its listeners are told of it.
    name: str
    mailboxes: dict[Mailbox, None] = dataclasses.field(default_factory=dict)
    #: Whether the server has said, on this connection, that it is subscribed to.
    confirmed: bool = False


@dataclasses.dataclass(slots=True)
class _Asked:
    """A command on its way, and how many replies to it are to come."""

    keys: Sequence[Key]
    replies: int


class Channels:
    """Counts who listens to what. Each channel is subscribed to when the first comes, and no more when the last has gone."""

    def __init__(self) -> None:
        self._topics: dict[Key, Topic] = {}
        self._keys: dict[Mailbox, list[Key]] = {}
        #: Whether there is a connection.
        self._up = False
        self._outgoing: list[tuple[Command, _Asked]] = []
        self._asked: deque[_Asked] = deque()

    @property
    def idle(self) -> bool:
        """Whether nobody listens."""
        return not self._keys

    @property
    def mailboxes(self) -> Iterable[Mailbox]:
        """Of all listeners."""
        return tuple(self._keys)

    def join(self, mailbox: Mailbox, channels: Sequence[str], beginning: str) -> None:
        """*mailbox* hears *channels* or, if *beginning* is given, all that begin so."""
        wanted = [(True, pattern_of(beginning))] if beginning else [(False, channel) for channel in channels]
        keys, new = list[Key](), list[Key]()
        for (is_pattern, text), name in zip(wanted, mailbox.names):
            key = (is_pattern, text.encode())
            topic = self._topics.get(key)
            if topic is None:
                topic = self._topics[key] = Topic(name)
                new.append(key)
            elif topic.confirmed:
                mailbox.put(name, LISTENING)
            topic.mailboxes[mailbox] = None
            keys.append(key)
        self._keys[mailbox] = keys
        self._ask(SUBSCRIBE, new)

    def leave(self, mailbox: Mailbox) -> None:
        """It hears no more."""
        gone = []
        for key in self._keys.pop(mailbox, ()):
            topic = self._topics[key]
            topic.mailboxes.pop(mailbox, None)
            if not topic.mailboxes:
                del self._topics[key]
                gone.append(key)
        self._ask(UNSUBSCRIBE, gone)

    def _ask(self, commands: tuple[str, str], keys: Sequence[Key]) -> None:
        if not self._up:  # all is subscribed to when there is a connection
            return
        for is_pattern in (False, True):
            some = [key for key in keys if key[0] is is_pattern]
            for part in batched(some, BATCH):
                command = (commands[is_pattern], *(name for _, name in part))
                self._outgoing.append((command, _Asked(part, len(part))))

    def ping(self) -> None:
        """Ask whether the server is there."""
        self._outgoing.append((("PING",), _Asked((), 1)))

    def connected(self) -> None:
        """There is a new connection."""
        self._up = True
        self._ask(SUBSCRIBE, list(self._topics))

    def lost(self) -> None:
        """There is none any more."""
        self._up = False
        self._outgoing.clear()
        self._asked.clear()
        for topic in self._topics.values():
            topic.confirmed = False

    def outgoing(self) -> list[Command]:
        """What is to be sent now."""
        commands = [command for command, _ in self._outgoing]
        self._asked.extend(asked for _, asked in self._outgoing)
        self._outgoing.clear()
        return commands

    def heard(self, reply: Any) -> Iterator[tuple[Mailbox, ResponseError]]:
        """Put what the server says into mailboxes. For each listener whom it refuses something: that, and the error."""
        if isinstance(reply, ResponseError):
            yield from self._refused(reply)
            return
        kind = reply[0] if isinstance(reply, list) else b""
        if kind == b"message":
            topic, name, message = self._topics.get((False, reply[1])), "", reply[2]
        elif kind == b"pmessage":
            topic, name, message = self._topics.get((True, reply[1])), reply[2].decode(errors="replace"), reply[3]
        else:
            topic, name, message = None, "", LISTENING
            self._answered()
            if kind in (b"subscribe", b"psubscribe"):
                topic = self._topics.get((kind == b"psubscribe", reply[1]))
                if topic is not None:
                    topic.confirmed = True
        if topic is not None:
            for mailbox in topic.mailboxes:
                mailbox.put(name or topic.name, message)

    def _answered(self) -> None:
        if self._asked:
            self._asked[0].replies -= 1
            if not self._asked[0].replies:
                self._asked.popleft()

    def _refused(self, error: ResponseError) -> Iterator[tuple[Mailbox, ResponseError]]:
        asked = self._asked.popleft() if self._asked else _Asked((), 0)
        for key in asked.keys:
            topic = self._topics.get(key)
            for mailbox in tuple(topic.mailboxes) if topic is not None else ():
                yield mailbox, error
