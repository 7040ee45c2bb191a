"""What the page's panel shows of fan-outs: their statuses, deliveries a second, and how long it took until everybody had it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections import deque
from typing import Any

from feedmill.errors import FeedmillError
from feedmill.fanout import Fanout, FanoutStatus

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is running, and of one bar of the plot.
LOOK, BAR = 0.25, 1.0
#: Number of bars, of those that the lag is of, and of fan-outs that are listed.
BARS, RECENT, LISTED = 60, 10, 5


@dataclasses.dataclass
class Watched:
    """A fan-out that this process began."""

    fanout: Fanout
    actor: str
    audience: int
    status: FanoutStatus | None = None

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self.status is None or not self.status.finished

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found = dataclasses.asdict(self.status) if self.status else {}
        kept = {name: found.get(name, 0) for name in ("planned", "done", "reached", "seconds", "retried", "failed")}
        return {"id": self.fanout.id, "actor": self.actor, "audience": self.audience, "running": self.running, **kept}


class FanoutWatch:
    """The fan-outs of this process, newest last; other threads may add some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: deque[Watched] = deque(maxlen=200)
        #: Deliveries, and the longest time until a fan-out was finished, by number of bar.
        self._bars: dict[int, list[float]] = {}

    def add(self, fanout: Fanout, actor: str, audience: int) -> None:
        """Watch *fanout*, of something that *actor* did, until it is finished."""
        with self._lock:
            self._watched.append(Watched(fanout, actor, audience))

    async def run(self) -> None:
        """Look at what is running, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            with self._lock:
                running = [each for each in self._watched if each.running]
            try:
                for each in running:
                    self._note(each, await each.fanout.astatus())
            except FeedmillError as error:
                logger.warning("fan-outs cannot be read: %s", error)

    def _note(self, each: Watched, status: FanoutStatus) -> None:
        number = int(time.monotonic() / BAR)
        bar = self._bars.setdefault(number, [0, 0])
        bar[0] += max(0, status.reached - (each.status.reached if each.status else 0))
        bar[1] = max(bar[1], status.seconds)
        each.status = status
        for old in [old for old in self._bars if old < number - BARS]:
            del self._bars[old]

    def to_dict(self) -> dict[str, Any]:
        """What the panel shows: what is running and was last, and bars of the last minute, oldest first."""
        now = int(time.monotonic() / BAR)
        bars = [self._bars.get(number, [0, 0]) for number in range(now - BARS + 1, now + 1)]
        with self._lock:
            watched = list(self._watched)
        running = [each for each in watched if each.running]
        return {
            "fanouts": [each.to_dict() for each in reversed(watched) if each.audience][:LISTED],
            "running": len(running),
            "rate": max((bar[0] / BAR for bar in bars[-3:]), default=0),
            "lag": max(bar[1] for bar in bars[-RECENT:]),
            "rates": [bar[0] / BAR for bar in bars],
        }
