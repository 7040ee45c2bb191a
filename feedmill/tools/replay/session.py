"""A Redis, workers and settings for one command, and everything gone when it ends."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from feedmill import settings
from feedmill.ids import EntityId
from feedmill.storage.registry import backend
from feedmill.tools.local_redis import LocalRedis
from feedmill.tools.local_workers import Workers, broker_of
from feedmill.tools.replay.social import DIR, SocialManager, save_graph

#: Fan-outs that may be under way before the publisher waits, and how many it waits for to be left.
MOST_OPEN, FEW_OPEN = 2000, 1000


class Session:
    """What is running: the Redis, and the workers (None in the in-memory mode)."""

    def __init__(self, local: LocalRedis, workers: Workers | None) -> None:
        self.local, self.workers = local, workers

    def open(self) -> int:
        """Fan-outs under way; also notices a worker that has ended."""
        if self.workers is None:
            return 0
        self.workers.check()
        return backend().run(backend().journal.list_due(SocialManager.name)).number

    def wait(self, most: int, seen: Callable[[int], None]) -> None:
        """Wait until at most *most* fan-outs are under way, telling *seen* how many are."""
        while True:
            count = self.open()
            seen(count)
            if count <= most:
                return
            time.sleep(0.05)


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
            backend().run(backend().journal.list_due(SocialManager.name))  # what is wrong with the Redis is said here
            if not local.private:
                stack.callback(_forget, local.url, values["key_prefix"])
                broker_prefix = settings.current().broker_options["global_keyprefix"]
                stack.callback(_forget_bindings, values["broker_url"], broker_prefix)
            environ = {f"FEEDMILL_{name.upper()}": value for name, value in values.items()}
            running = stack.enter_context(Workers(workers, {**environ, DIR: folder}))
            running.wait_ready()
            say(f"Workers: {workers} celery worker processes")
        yield Session(local, running)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _forget_bindings(url: str, prefix: str) -> None:
    """Delete what Celery wrote to a broker that is not ours; one that cannot be used was told of, and has nothing."""
    import redis

    with suppress(redis.RedisError):
        _forget(url, prefix)


def _forget(url: str, prefix: str) -> None:
    """Delete what was written to a Redis that is not ours."""
    import redis

    client = redis.Redis.from_url(url)
    batch: list[bytes] = []
    for key in client.scan_iter(match=prefix + "*", count=1000):
        batch.append(key)
        if len(batch) == 1000:
            client.unlink(*batch)
            batch = []
    if batch:
        client.unlink(*batch)
    client.close()
