"""Processes that do the same thing at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import feedmill
from benchmarks.measure import WrongResult

#: Seconds that a job may take.
PATIENCE = 120.0


class Writers:
    """*size* processes that wait for work, each with its own connection to the server at *url*."""

    def __init__(self, url: str, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._members: list[tuple[Any, Connection]] = []
        for _ in range(size):
            here, there = context.Pipe()
            member = context.Process(target=_member, args=(url, there), daemon=True)
            member.start()
            there.close()
            self._members.append((member, here))
        self.together(_nothing, [()] * size)

    def together(self, job: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> tuple[float, list[Any]]:
        """Seconds until the last has done ``job(*arguments[n])``, and what each answered."""
        busy = [here for (_, here), _ in zip(self._members, arguments)]
        start = time.perf_counter()
        for here, each in zip(busy, arguments):
            here.send((job, each))
        answers = []
        for here in busy:
            if not here.poll(PATIENCE):
                raise WrongResult(f"{job.__name__} is not done after {PATIENCE:.0f} s")
            error, answer = here.recv()
            if error:
                raise WrongResult(f"{job.__name__}: {error}")
            answers.append(answer)
        return time.perf_counter() - start, answers

    def __enter__(self) -> Writers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member, here in self._members:
            here.close()
            if error is not None:
                member.kill()
            member.join()


def _nothing() -> None:
    return None


def _member(url: str, pipe: Connection) -> None:
    feedmill.configure(redis_url=url)
    with contextlib.suppress(EOFError):  # the crowd is sent home
        while True:
            job, arguments = pipe.recv()
            try:
                pipe.send(("", job(*arguments)))
            except Exception as error:
                pipe.send((repr(error), None))
