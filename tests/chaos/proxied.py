"""The other side of the proxy: what a scenario says to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from feedmill.storage.redis import scripts

ROOT = Path(__file__).parent.parent.parent
#: Scripts that write into feeds, and the one that writes what was merged under a lock.
WRITING, COMMITTING = ("begin", "commit", "flat_add", "flat_remove"), ("commit",)


def digests(names: Iterable[str]) -> list[str]:
    """How the calls of scripts *names* look on the wire."""
    return [scripts.sha(name) for name in names]


class Proxied:
    """A server behind a proxy: ``port`` is where its clients are sent."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port: int = self._answer()["port"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def _tell(self, do: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def rule(self, patterns: list[str], *, side: str, after: int = 0, action: str = "cut", times: int = 1) -> None:
        """Strike the next *times* connections that send one of *patterns*, *after* bytes of the ``request`` or ``answer``."""
        self._tell("rule", patterns=patterns, side=side, after=after, action=action, times=times)

    def forget(self) -> None:
        """No rules any more."""
        self._tell("forget")

    def fuse(self, after: int | None) -> None:
        """Cut every connection after *after* more bytes, and each new one after as many; None ends it."""
        self._tell("fuse", after=after)

    def set(self, *, delay: float | None = None, **switches: bool) -> None:
        """*delay* each piece by seconds; switch ``frozen``, ``dropping`` (swallow everything) or ``refusing`` on or off."""
        self._tell("set", **switches, **({} if delay is None else {"delay": delay}))

    def cut(self) -> None:
        """Cut all connections."""
        self._tell("cut")

    def release(self) -> None:
        """Let go on what is held."""
        self._tell("release")

    @property
    def hits(self) -> int:
        """Strikes so far."""
        return int(self._tell("count")["hits"])

    @property
    def held(self) -> int:
        """Connections that are held."""
        return int(self._tell("count")["held"])

    def wait_hits(self, wanted: int, timeout: float = 30.0) -> None:
        """Wait until there were *wanted* strikes."""
        deadline = time.monotonic() + timeout
        while self.hits < wanted:
            assert time.monotonic() < deadline, f"{self.hits} of {wanted} strikes after {timeout} s"
            time.sleep(0.01)

    def stop(self) -> None:
        """End the proxy with all connections."""
        self._process.kill()
        self._process.communicate()
