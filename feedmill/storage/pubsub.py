"""Publishing messages on a channel, and listening to them."""

from __future__ import annotations

from typing import Protocol

from feedmill.storage.operations import Steps

#: What a listener hears when it begins to listen, at first and after each lost connection: what was published before
#: that was not heard.
LISTENING = b""
#: Seconds between two tries to reach a server that is gone.
RETRY = 0.2


class Listener(Protocol):
    """Hears one channel until it is closed."""

    def get(self, timeout: float) -> bytes | None:
        """The next message or :data:`LISTENING`; None if up to *timeout* seconds brought none.

        :class:`~feedmill.errors.StorageError` if the server cannot be reached at first; later that is only silence.
        """

    def close(self) -> None:
        """Hear no more."""


class AListener(Protocol):
    """:class:`Listener` for coroutines."""

    async def get(self, timeout: float) -> bytes | None:
        """As :meth:`Listener.get`."""

    async def aclose(self) -> None:
        """Hear no more."""


class PubSub(Protocol):
    """Publishes messages, and listens to what is published."""

    def publish(self, channel: str, message: bytes) -> Steps[None]:
        """Tell all who listen on *channel*."""

    def listen(self, channel: str) -> Listener:
        """Begins to hear what is published on *channel* when it is first asked."""

    def alisten(self, channel: str) -> AListener:
        """The same for coroutines of the running event loop."""
