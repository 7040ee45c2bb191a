"""What an HTTP service remembers of requests, inside this process."""

from __future__ import annotations

import dataclasses
import math
import time

from feedmill.storage.memory.data import DATA, atomic
from feedmill.storage.request_log import BegunRequest, RequestLog, RequestState

#: Requests and callers that are held before those are looked for that can go.
MANY = 1000


@dataclasses.dataclass
class Request:
    """A request with an idempotency key. Times are µs since 1970."""

    fingerprint: bytes
    first: int
    kept_until: int = 0
    holder: bytes = b""
    held_until: int = 0
    answer: bytes = b""


class MemoryRequestLog(RequestLog):
    """Dicts of :data:`DATA`."""

    @atomic
    def take(self, caller: str, fill: int, holds: int) -> int:
        now, levels = _now(), DATA.callers
        if len(levels) >= MANY and caller not in levels:
            for each in [each for each, level in levels.items() if level <= now]:
                del levels[each]
        level = max(now, min(levels.get(caller, 0), now + holds)) + fill
        if level - now > holds:
            return math.ceil((level - now - holds) / 1000)
        levels[caller] = level
        return 0

    @atomic
    def begin(self, name: str, fingerprint: bytes, token: bytes, lease: int, seconds: int) -> BegunRequest:
        now, requests = _now(), DATA.requests
        if len(requests) >= MANY and name not in requests:
            for each in [each for each, request in requests.items() if request.kept_until <= now]:
                del requests[each]
        known = requests.get(name)
        if known is None or known.kept_until <= now:
            known = requests[name] = Request(fingerprint, now)
        if known.fingerprint != fingerprint:
            return BegunRequest(RequestState.OTHER, known.first, b"")
        if known.answer:
            return BegunRequest(RequestState.DONE, known.first, known.answer)
        if known.holder not in (b"", token) and now < known.held_until <= now + lease * 1000:
            return BegunRequest(RequestState.RUNNING, known.first, b"")
        known.holder, known.held_until = token, now + lease * 1000
        known.kept_until = now + seconds * 1_000_000
        return BegunRequest(RequestState.BEGUN, known.first, b"")

    @atomic
    def end(self, name: str, token: bytes, answer: bytes, seconds: int) -> None:
        known = DATA.requests.get(name)
        if known is None or known.holder != token:
            return
        known.answer, known.holder = answer, b""
        known.kept_until = _now() + seconds * 1_000_000


def _now() -> int:
    return time.time_ns() // 1000


__all__ = ["MemoryRequestLog"]
