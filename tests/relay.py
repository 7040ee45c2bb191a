"""A TCP relay in this process that counts what passes, and can let connections stand still without a word."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Between clients and the server on *port*; ``url`` is where clients connect, on *listens* or any port."""

    def __init__(self, port: int, listens: int = 0) -> None:
        self._port, self._listener = port, socket.create_server(("127.0.0.1", listens))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        #: Bytes to the server, and from it.
        self.sent = self.received = 0
        #: Connections that were made.
        self.connections = 0
        self._listening: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                self.connections += 1
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65_536):
                if up:
                    self.sent += len(block)
                    if b"SUBSCRIBE" in block:
                        self._listening |= {source, target}
                else:
                    self.received += len(block)
                if source not in self._silent:
                    target.sendall(block)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """From now on nothing passes on the connections that listen, which stay open."""
        self._silent |= self._listening

    def close(self) -> None:
        """Hang up all."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
