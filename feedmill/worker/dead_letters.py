"""Dead letters: what could not be processed, kept with the reason until somebody retries or deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedmill import metrics
from feedmill.errors import CorruptRecord, FeedmillError, MessageError, UnknownName
from feedmill.fanout import handle, publisher
from feedmill.fanout.operations import PLANNED, operation_called
from feedmill.iteration import batched
from feedmill.msgpack_codec import pack, unpack
from feedmill.registry import get_manager
from feedmill.storage import procedures
from feedmill.storage.journal import FANOUT, HOOK, MESSAGE, Claim, DeadLetter
from feedmill.storage.registry import backend
from feedmill.worker import hook_wakeups

#: Characters of a reason that are kept.
LONGEST_REASON = 500
#: Bytes of an unreadable message that are kept.
LONGEST_BODY = 65_536
#: Dead letters that are dropped in one go.
AT_ONCE = 100


class AttemptsExhausted(FeedmillError):
    """A fan-out, or a chunk of one, was tried too often."""


class UnknownDeadLetter(UnknownName):
    """There is no dead letter of that id."""


def reason(error: BaseException) -> str:
    """*error* as it is kept and shown."""
    return f"{type(error).__name__}: {error}"[:LONGEST_REASON]


def dead_letter(manager: str, claim: Claim, why: str) -> None:
    """Give up a claimed fan-out. When its activity is added or removed again, the dead letter goes."""
    payload = pack([claim.op, claim.body, claim.id])
    _counted(FANOUT, backend().run(backend().journal.dead_letter(why, payload, manager, claim)))


def keep_message(task: str, args: Sequence[Any], why: str) -> str:
    """Keep a message that was refused; the dead letter's id."""
    try:
        payload = pack([task, list(args)])
    except (TypeError, ValueError, OverflowError):
        payload = pack([task, [repr(args)]])
    return _counted(MESSAGE, backend().run(backend().journal.dead_letter(why, payload)))


def keep_untold(manager: str, hook: str, owner: bytes, items: Sequence[bytes], why: str) -> str:
    """Keep what *hook* could not be told of the list of *owner*; the dead letter's id."""
    payload = pack([hook, owner, list(items)])
    return _counted(HOOK, backend().run(backend().journal.dead_letter(why, payload, manager)))


def _counted(kind: str, dead_letter_id: str) -> str:
    """*dead_letter_id*, of a dead letter that was written now; it is empty if there is none."""
    if metrics.sink is not None and dead_letter_id:
        metrics.sink.add(metrics.DEAD_LETTERS, 1, (kind,))
    return dead_letter_id


def newest(limit: int = 100) -> list[DeadLetter]:
    """The newest dead letters, newest first."""
    return backend().run(backend().journal.dead_letters(limit))


def get(dead_letter_id: str) -> DeadLetter:
    """The dead letter of that id; :class:`UnknownDeadLetter` without."""
    letters = (
        backend().run(backend().journal.dead_letters(1, dead_letter_id)) if is_dead_letter_id(dead_letter_id) else None
    )
    if not letters:
        raise UnknownDeadLetter(f"no dead letter {dead_letter_id!r}; `feedmill dead list` shows those there are")
    return letters[0]


def content(dead_letter: DeadLetter) -> list[Any]:
    """What the dead letter is about: op, body and fan-out; or task and arguments; or hook, owner and items."""
    values = unpack(dead_letter.payload)
    if not isinstance(values, list) or len(values) != (2 if dead_letter.kind == MESSAGE else 3):
        raise CorruptRecord(
            f"dead letter {dead_letter.id} holds something that is no fan-out, message or call of a hook; drop it"
        )
    return values


def retry(dead_letter_id: str) -> str:
    """Try again what the dead letter is about, from the beginning, and forget the dead letter; what was done, in words."""
    dead_letter = get(dead_letter_id)
    values = content(dead_letter)
    if dead_letter.kind == MESSAGE:
        task, args = values
        if not task.startswith("feedmill."):
            raise MessageError(
                f"dead letter {dead_letter_id} names no task of ours ({task!r}); all that is left is to drop it"
            )
        publisher.send(
            task, args, queue=publisher.HIGH_QUEUE, description=f"{task} once more, from dead letter {dead_letter_id}"
        )
        done = f"sent {task} again"
    elif dead_letter.kind == HOOK:
        hook, owner, items = values
        hook_wakeups.tell_again(get_manager(dead_letter.manager)(), owner, items)
        done = f"{dead_letter.manager}.{hook} is called again"
    else:
        op, body, name = values
        begin = handle.enqueue if op in PLANNED else handle.enqueue_and_publish
        procedures.run(begin(dead_letter.manager, operation_called(op), [(name, body)], again=True))
        done = f"{op} in {dead_letter.manager} starts again as fan-out {name}"
    delete([dead_letter_id])
    return done


def delete(ids: Sequence[str]) -> int:
    """Forget dead letters; how many were there."""
    known = [name for name in ids if is_dead_letter_id(name)]
    return sum(backend().run(backend().journal.delete_dead_letters(part)) for part in batched(known, AT_ONCE))


def is_dead_letter_id(text: str) -> bool:
    """Whether *text* can be a dead letter's id."""
    first, _, second = text.partition("-")
    return first.isdigit() and second.isdigit()
