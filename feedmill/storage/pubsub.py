"""Publishing messages on channels, and listening to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from feedmill.storage.operations import Steps

#: What a listener hears of a channel when it begins to listen to it, at first and after each lost connection: what was
#: published before that was not heard.
LISTENING = b""
#: Seconds between two tries to reach a server that is gone.
RETRY = 0.2


class Heard(NamedTuple):
    """A message, or :data:`LISTENING`."""

    #: Its channel; of :data:`LISTENING` to all channels that begin alike, what they begin with.
    channel: str
    #: As it was published.
    message: bytes


class Listener(Protocol):
    """Hears some channels until it is closed."""

    def get(self, timeout: float | None) -> list[Heard]:
        """What was heard since it was asked before; empty if up to *timeout* seconds (None: for ever) brought nothing, or when
        it is closed.

        :class:`~feedmill.errors.StorageError` if the server cannot be reached at first, or refuses; later a server that is
        gone is only silence.
        """

    def close(self) -> None:
        """Hear no more. Another thread that waits in :meth:`get` goes on at once."""


class AListener(Protocol):
    """:class:`Listener` for coroutines."""

    async def get(self, timeout: float | None) -> list[Heard]:
        """As :meth:`Listener.get`."""

    async def aclose(self) -> None:
        """Hear no more. Another task that waits in :meth:`get` goes on at once."""


class PubSub(Protocol):
    """Publishes messages, and listens to what is published."""

    def publish(self, channel: str, message: bytes) -> Steps[None]:
        """Tell all who listen on *channel*."""

    def listen(self, channels: Sequence[str], beginning: str = "") -> Listener:
        """Hear what is published on *channels* or, if *beginning* is given, on all channels whose names begin so.

        All listeners of a process share a connection, which hears only what one of them wants.
        """

    def alisten(self, channels: Sequence[str], beginning: str = "") -> AListener:
        """The same for coroutines of the running event loop, whose listeners share a connection."""
