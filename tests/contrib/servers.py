"""Web servers in processes of their own, and browsers that keep streams open on them."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.conftest import free_port
from tests.contrib.event_stream import Event, EventSource
from tests.leftovers import kill_group
from tests.test_host_app_lookup import Folder

#: Seconds to wait for what must come.
SOON = 60.0
#: Seconds within which a server stops, on a machine that is busy with other tests: alone it takes less than one, and with streams
#: that do not end for ever, or as long as its own limit of 30 allows.
QUICK = 25.0


class Browser:
    """One open stream."""

    def __init__(self, port: int, path: str, last_event_id: str = "", cookie: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SOON)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"Last-Event-ID: {last_event_id}"] if last_event_id else []
        lines += [f"Cookie: {cookie}"] if cookie else []
        self._socket.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict[str, str]()
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.source = EventSource()
        self._events: list[Event] = []

    def next(self) -> Event | None:
        """The next event; None at the end of the stream, where the browser hangs up."""
        while not self._events:
            size = int(self._file.readline() or b"0", 16)
            if not size:
                self.close()
                return None
            self._events += self.source.feed(self._file.read(size))
            self._file.readline()
        return self._events.pop(0)

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def serving(folder: Folder, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server that ``python -m`` *words* starts, in which PORT stands for its port."""
    port = free_port()
    command = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in words)]
    with open(folder.path / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder.path, env=folder.env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SOON
        while not answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log_of(folder)
            time.sleep(0.02)
        yield port, process
    finally:
        kill_group(process)  # with the processes that serve for it


def log_of(folder: Folder) -> str:
    """What the server has printed."""
    return (folder.path / "server.log").read_text()


def ends_with(browsers: list[Browser], process: subprocess.Popen[bytes], folder: Folder) -> float:
    """Stop the server as operators do, while *browsers* have open streams, all of which end; how many seconds it takes."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert [browser.next() for browser in browsers] == [None] * len(browsers)
    try:
        process.wait(SOON)
    except subprocess.TimeoutExpired:
        raise AssertionError(log_of(folder)) from None
    return time.monotonic() - begun
