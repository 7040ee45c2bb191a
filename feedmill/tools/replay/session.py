"""A Redis, workers and settings for one command, and everything gone when it ends."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType

import redis

from feedmill import settings
from feedmill.ids import EntityId
from feedmill.storage.registry import backend
from feedmill.tools.local_servers import LocalRedis, Workers, broker_of
from feedmill.tools.replay.social import DIR, SocialManager, save_graph

#: Fan-outs that may be under way before the publisher waits.
MOST_OPEN = 2000


class Session:
    """What is running: workers, or nothing in the in-memory mode."""

    def __init__(self, workers: Workers | None) -> None:
        self._workers = workers

    def open(self) -> int:
        """Fan-outs under way; also notices a worker that has ended."""
        if self._workers is not None:
            self._workers.check()
        return backend().run(backend().journal.count_open([SocialManager.name]))

    def until(self, most: int) -> Iterator[int]:
        """Wait until at most *most* fan-outs are under way; gives how many are, again and again."""
        yield (count := self.open())
        while count > most:
            time.sleep(0.05)
            yield (count := self.open())


@contextmanager
def session(
    redis_url: str,
    workers: int,
    followers: Mapping[EntityId, list[EntityId]],
    rule: str,
    first: Mapping[EntityId, Mapping[EntityId, int]],
    say: Callable[[str], None],
) -> Iterator[Session]:
    """Bring up a Redis and *workers* processes over the graph; take all of it down again, also on a signal."""
    with ExitStack() as stack:
        previous = signal.signal(signal.SIGTERM, _interrupt)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        local = stack.enter_context(LocalRedis(redis_url))
        say(f"Redis: {local.source} ({local.url})" if local.private else f"Redis: {local.source}")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="feedmill-replay-"))
        save_graph(Path(folder), followers, rule, first)
        os.environ[DIR] = folder
        in_process = local.url.startswith("memory:")
        values = {
            "redis_url": local.url,
            "broker_url": "" if in_process else broker_of(local.url),
            "modules": "feedmill.tools.replay.social",
            "key_prefix": f"fm-replay-{os.urandom(4).hex()}:",
            "celery_app": "feedmill.tasks:app",
        }
        settings.configure(**values)
        import feedmill.tasks  # noqa: F401  reads the settings above, so not sooner

        running = None
        if not in_process:
            Session(None).open()  # what is wrong with the Redis is said here
            if not local.private:
                stack.callback(_forget, local.url, values["key_prefix"])
                broker_prefix = settings.current().broker_options["global_keyprefix"]
                stack.callback(_forget, values["broker_url"], broker_prefix)
            environ = {f"FEEDMILL_{name.upper()}": value for name, value in values.items()}
            running = stack.enter_context(Workers(workers, {**environ, DIR: folder}))
            running.wait_ready()
            say(f"Workers: {workers} celery worker processes")
        yield Session(running)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _forget(url: str, prefix: str) -> None:
    """Delete what was written to a Redis that is not ours; one that cannot be used was told of, and has nothing."""
    with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
        keys = client.scan_iter(match=prefix + "*", count=1000)
        while batch := list(islice(keys, 1000)):
            client.unlink(*batch)
