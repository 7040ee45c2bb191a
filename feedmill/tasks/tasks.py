"""The tasks: decode the message, call one function. Their names are literal; a message never holds a class."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

from celery import Task, current_task, shared_task

from feedmill import signing
from feedmill.errors import RETRY_ELSEWHERE, FeedBusy, FeedmillError, MessageError, StorageError
from feedmill.fanout.operations import FOLLOW, REBUILD, REFOLLOW, REMOVE_ACTOR, UNFOLLOW
from feedmill.manager import deferral
from feedmill.storage.operations import together
from feedmill.storage.registry import backend
from feedmill.tasks import foreign_messages
from feedmill.worker import (
    chunk_tasks,
    dead_letters,
    drain,
    figures,
    heartbeat,
    hook_calls,
    planned_chunks,
    reporting,
)

logger = logging.getLogger(__name__)

#: Seconds after which a task is interrupted, and after which its process is killed: of one chunk, and of planning a
#: fan-out, which streams all followers of an author. The broker's visibility timeout must be longer.
CHUNK_LIMITS, PLANNING_LIMITS = (120, 180), (int(heartbeat.LONGEST_PLANNING), 2400)


class FeedmillTask(Task):  # type: ignore[misc]
    """How every task is run: acknowledged when done, tried again only for what can heal.

    Whatever the outcome, the journal knows what is not done; tries are only the quick way.
    """

    abstract = True
    Request = "feedmill.tasks.consumer:RedactedRequest"
    serializer = "msgpack"
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    # A manager, a feed or a verb that is not known here may be known to the next worker: releases roll.
    autoretry_for = (StorageError, FeedBusy, *RETRY_ELSEWHERE)
    retry_backoff = True
    retry_backoff_max = 60
    retry_jitter = True
    max_retries = 5
    #: Where the arguments have the fan-out that they are about, or the first, and behind it the number of its plan; -1 if they are about none.
    fanout_at = -1

    def signature_from_request(self, request: Any = None, *args: Any, **kwargs: Any) -> Any:
        """What a retry sends: told of in the same sentence as before, for the same deployment."""
        signature = super().signature_from_request(request, *args, **kwargs)
        was = self.request if request is None else request
        signature.options.update(argsrepr=was.argsrepr or self.name, kwargsrepr="")
        return signature

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send it; who says nothing else has its name shown in place of its arguments.

        It is not signed: a worker must not sign what a message told it to send.
        """
        options.setdefault("argsrepr", self.name)
        options.setdefault("kwargsrepr", "")
        options["headers"] = {**signing.addressed(), **(options.get("headers") or {})}
        return super().apply_async(args, kwargs, **options)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Keep what can never succeed, and note what went wrong with a chunk: the sweep sends it again."""
        with contextlib.suppress(FeedmillError):
            if isinstance(exc, MessageError):
                dead_letters.keep_message(self.name, args, dead_letters.reason(exc))
            elif self.fanout_at >= 0:
                journal, why = backend().journal, dead_letters.reason(exc)
                about = planned_chunks.fanouts_of(args, self.fanout_at)
                backend().run(together([journal.record_error(*each, why) for each in about]))


def _task(name: str, kinds: tuple[type, ...], limits: tuple[int, int]) -> Callable[[Callable[..., int]], Any]:
    """A task whose message holds values of *kinds*; another message is refused before anything is done."""

    def decorate(function: Callable[..., int]) -> Any:
        def run(*args: Any, **named: Any) -> int:
            carried = current_task.request.headers if current_task else None
            if other := signing.other_deployment(carried):
                foreign_messages.give_back(current_task, other)
                return 0
            signing.check(name, args, carried)
            if named or len(args) != len(kinds) or not all(map(isinstance, args, kinds)):
                held = [type(value).__name__ for value in (*args, *named.values())]
                raise MessageError(
                    f"{name} takes {', '.join(kind.__name__ for kind in kinds) or 'nothing'};"
                    f" the message holds {', '.join(held) or 'nothing'}"
                )
            return function(*args)

        run.__doc__, run.__module__ = function.__doc__, function.__module__
        run.__name__ = run.__qualname__ = function.__name__
        arguments, (soft, hard) = list(inspect.signature(function).parameters), limits
        at = arguments.index("fanout_id") if "fanout_id" in arguments else -1
        return shared_task(run, name=name, base=FeedmillTask, fanout_at=at, soft_time_limit=soft, time_limit=hard)

    return decorate


@_task("feedmill.fanout", (str,), PLANNING_LIMITS)
def fan_out(manager: str) -> int:
    """Do what is due of a manager: deliver, or plan the chunks that will."""
    return drain.drain(manager, (current_task and current_task.request.id) or "")


@_task("feedmill.deliver", (str, str, bytes, str, int, int), CHUNK_LIMITS)
def deliver(manager: str, op: str, body: bytes, fanout_id: str, generation: int, chunk: int) -> int:
    """Deliver an activity to one chunk of people, whom the journal names."""
    return chunk_tasks.deliver(manager, op, body, fanout_id, generation, chunk)


@_task("feedmill.follow", (str, bytes, str, int), CHUNK_LIMITS)
def follow(manager: str, ids: bytes, fanout_id: str, generation: int) -> int:
    """Copy a user's newest activities into a new follower's feeds."""
    return chunk_tasks.copy(FOLLOW, manager, ids, fanout_id, generation)


@_task("feedmill.refollow", (str, bytes, str, int), CHUNK_LIMITS)
def refollow(manager: str, ids: bytes, fanout_id: str, generation: int) -> int:
    """Take a user's activities out of the feeds of a follower who left and is back, and copy the newest into them."""
    return chunk_tasks.copy(REFOLLOW, manager, ids, fanout_id, generation)


@_task("feedmill.unfollow", (str, bytes, str, int), CHUNK_LIMITS)
def unfollow(manager: str, ids: bytes, fanout_id: str, generation: int) -> int:
    """Take a user's activities out of a former follower's feeds."""
    return chunk_tasks.copy(UNFOLLOW, manager, ids, fanout_id, generation)


@_task("feedmill.rebuild", (str, bytes, str, int), CHUNK_LIMITS)
def rebuild(manager: str, ids: bytes, fanout_id: str, generation: int) -> int:
    """Make a user's feeds what they would be had they been kept up to date."""
    return chunk_tasks.copy(REBUILD, manager, ids, fanout_id, generation)


@_task("feedmill.remove_actor", (str, bytes, str, int), CHUNK_LIMITS)
def remove_actor(manager: str, ids: bytes, fanout_id: str, generation: int) -> int:
    """Take what an actor did out of all feeds of a user."""
    return chunk_tasks.copy(REMOVE_ACTOR, manager, ids, fanout_id, generation)


@_task("feedmill.hooks", (str,), CHUNK_LIMITS)
def hooks(manager: str) -> int:
    """Tell the hooks of a manager what happened."""
    began = time.monotonic()
    told = hook_calls.call_due(manager)
    reporting.task_done("hooks called", began, manager=manager, told=told)
    return told


@_task("feedmill.sweep", (), CHUNK_LIMITS)
def sweep() -> int:
    """Wake workers for what is overdue, and relay what waits in the outboxes of the app's databases."""
    began = time.monotonic()
    overdue, relayed = drain.sweep(), deferral.sweep()
    figures.tell_sink()
    reporting.task_done("sweep done", began, overdue=overdue, relayed=relayed)
    return overdue + relayed
