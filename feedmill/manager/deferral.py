"""Calls of a manager that are written down in a transaction of the app's database, and made when it is committed.

An outbox (:mod:`feedmill.contrib.outbox`) is in force for a block of code or for the whole process. Then the methods of a
manager that write check what they are given as always, and hand the outbox a :class:`Call` for each thing to be done.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from feedmill import tracing
from feedmill.activity import Activity
from feedmill.errors import (
    ActivityError,
    ArgumentError,
    BatchError,
    CorruptRecord,
    FeedmillError,
    MessageError,
    UnknownActivity,
)
from feedmill.fanout import publisher
from feedmill.fanout.deferred import DeferredFanout, DeferredFanouts
from feedmill.fanout.handle import Fanout
from feedmill.fanout.operations import (
    ADD,
    DELETE_USER,
    FOLLOW,
    IMPORT,
    NOTIFY,
    REBUILD,
    REMOVE,
    REMOVE_ACTOR,
    REMOVE_OBJECT,
    UNFOLLOW,
    UNNOTIFY,
    UPDATE,
    FanoutOperation,
)
from feedmill.ids import ACTOR_SLICE, Entity, actor_hashes, entity_id, owner_id
from feedmill.iteration import batched
from feedmill.manager import activity_bodies, batches, notified_users, overriding, removals, writes
from feedmill.msgpack_codec import MAX_BYTES, pack, unpack
from feedmill.registry import get_manager
from feedmill.storage.procedures import Procedure, both
from feedmill.validation import require_int

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Call(NamedTuple):
    """One call, as it is written down."""

    #: The name of the manager, and of its method.
    manager: str
    method: str
    #: The arguments, packed.
    payload: bytes
    #: Calls of one lane are made one after the other, in the order in which they were written.
    lane: str
    #: What the call is about: a later call about the same may take its place.
    subject: str
    #: What its handle says: the kind of fan-out, the ids of the fan-outs, and the id of the activity.
    op: str
    fanouts: tuple[str, ...] = ()
    activity_id: str = ""


class Outbox(Protocol):
    """What takes calls down."""

    def record(self, calls: Sequence[Call]) -> Procedure[list[DeferredFanout]]:
        """Write *calls* in the caller's transaction."""


#: The outbox of a block of code; None: that of the process, if there is one.
_bound: ContextVar[Outbox | None] = ContextVar("feedmill_outbox", default=None)
_of_process: Outbox | None = None


def use(outbox: Outbox | None) -> None:
    """Have every call of this process that no block has an outbox for go to *outbox*; None: to none."""
    global _of_process
    _of_process = outbox


@contextlib.contextmanager
def bound(outbox: Outbox) -> Iterator[None]:
    """While the block runs, calls go to *outbox*."""
    token = _bound.set(outbox)
    try:
        yield
    finally:
        _bound.reset(token)


#: The id of the activity whose update, if an outbox takes it down, adds the activity where it is not known when the call is made.
_added: ContextVar[bytes] = ContextVar("feedmill_added", default=b"")


@contextlib.contextmanager
def added_if_unknown(activity: Activity) -> Iterator[None]:
    """While the block runs, an update of *activity* that an outbox takes down is one that adds it where it is not there by then.

    Without an outbox ``update_activity`` raises :class:`~feedmill.errors.UnknownActivity`, and the caller can add it.
    """
    token = _added.set(activity.raw_id)
    try:
        yield
    finally:
        _added.reset(token)


#: What relays what outboxes of this process could not relay before, by their names.
_sweeps: dict[str, Callable[[], int]] = {}


def add_sweep(name: str, sweep: Callable[[], int]) -> None:
    """Have :func:`sweep` call *sweep*, which raises nothing, for the outbox *name*."""
    _sweeps[name] = sweep


def sweep() -> int:
    """Relay what waits in the outboxes of this process; how many calls were made."""
    return sum(each() for each in [*_sweeps.values()])


#: What a row says in place of the name of a method: update an activity, or add it if it is not there.
UPDATE_OR_ADD = "update_or_add"
#: The methods that write, by name, as they are without an outbox.
_METHODS: dict[str, Callable[..., Procedure[Any]]] = {}


def writing(
    procedure: Callable[Concatenate[S, P], Procedure[T]],
) -> tuple[Callable[Concatenate[S, P], T], Callable[Concatenate[S, P], Coroutine[Any, Any, T]]]:
    """:func:`~feedmill.storage.procedures.both`, for a method that writes: where an outbox is in force, that takes the call down."""
    name = procedure.__name__.lstrip("_")
    _METHODS[name] = procedure

    @functools.wraps(procedure)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> Procedure[T]:
        outbox = _bound.get() or _of_process
        if outbox is None:
            return procedure(self, *args, **kwargs)
        return _deferred(outbox, procedure, name, self, *args, **kwargs)

    return both(call)  # type: ignore[arg-type]  # to a type checker, what wraps is an object of its own kind


def _deferred(outbox: Outbox, procedure: Any, name: str, manager: Any, *args: Any, **kwargs: Any) -> Procedure[Any]:
    once = _ONE_OF.get(name)
    if once is not None and overriding.is_overridden(manager, once):
        return (yield from procedure(manager, *args, **kwargs))  # which calls the override for each: that is taken down
    given = inspect.signature(procedure).bind(manager, *args, **kwargs)
    given.apply_defaults()
    publisher.ready()
    return (yield from _TAKE_DOWN[name](outbox, *given.args))


# -- what is written down


def _lane(manager: Any, *key: Any) -> str:
    """The lane of what is about *key*, a text of 41 characters; without a key, that of what waits for all lanes of the manager."""
    lane = _key_hash(*key) if key else "*"
    return f"{blake2b(manager.name.encode(), digest_size=8).hexdigest()}:{lane}"


def _key_hash(*key: Any) -> str:
    return blake2b(pack(key), digest_size=12).hexdigest()


#: Characters of a lane that tell the manager, with the colon; and what stands behind them where a call waits for all lanes.
SCOPE_SIZE, BARRIER = 17, "*"


def barrier_of(lane: str) -> str:
    """The lane of those calls that wait for all lanes of the same manager, and for which those wait."""
    return lane[:SCOPE_SIZE] + BARRIER


def is_barrier(lane: str) -> bool:
    """Whether calls of *lane* wait for all others of the manager."""
    return lane.endswith(BARRIER)


def lanes_before(lane: str, method: str, payload: bytes) -> list[str]:
    """The lanes for which a call in the *lane* of a barrier waits although their rows fail: what somebody did comes before their
    deletion, or it would come back afterwards."""
    try:
        user = arguments(method, payload)[0] if method == "delete_user" else None
        hashes = set() if user is None else actor_hashes(user)
    except (FeedmillError, IndexError):  # which the call itself will tell of
        return []
    return sorted(lane[:SCOPE_SIZE] + _key_hash("actor", each) for each in hashes)


def _call(
    manager: Any,
    method: str,
    values: Sequence[Any],
    op: FanoutOperation,
    lane: str,
    subject: Sequence[Any],
    fanouts: Sequence[str] = (),
    activity_id: str = "",
) -> Call:
    trace = "" if tracing.sink is None else _recorded(manager, method, fanouts, activity_id)
    payload = pack({"arguments": [*values], "trace": trace} if trace else [*values])
    if len(payload) > MAX_BYTES:
        raise ArgumentError(
            f"{method} would write {len(payload):,} bytes into the outbox; the limit is {MAX_BYTES:,}. Call it with fewer at a time"
        )
    about = blake2b(pack([*subject]), digest_size=16).hexdigest()
    return Call(manager.name, method, payload, lane, about, op.name, tuple(fanouts), activity_id)


def _recorded(manager: Any, method: str, fanouts: Sequence[str], activity_id: str) -> str:
    """The trace context that a call belongs to: that it is written down is a step in the current trace."""
    about: dict[str, Any] = {"feedmill.method": method}
    about.update({"feedmill.fanout.id": fanouts[0]} if len(fanouts) == 1 else {})
    about.update({"feedmill.activity.id": activity_id} if activity_id else {})
    with tracing.sending(tracing.RECORD, manager.name, about) as trace:
        return trace


def _about(
    manager: Any, method: str, op: FanoutOperation, raw_id: bytes, values: Sequence[Any], names: Sequence[str] = ()
) -> Call:
    """A call about one activity: all of one author are in one lane, and the id tells the author."""
    lane = _lane(manager, "actor", raw_id[ACTOR_SLICE])
    fanouts = names or [writes.name_of(manager, raw_id)]
    return _call(manager, method, values, op, lane, ["activity", raw_id], fanouts, raw_id.hex())


def _addition(manager: Any, activity: Activity) -> Call:
    return _about(manager, "add_activity", ADD, activity.raw_id, [activity.pack()])


def _removal(manager: Any, raw_id: bytes, activity: Activity | None) -> Call:
    return _about(manager, "remove_activity", REMOVE, raw_id, [raw_id.hex() if activity is None else activity.pack()])


def _one(outbox: Outbox, call: Call) -> Procedure[Fanout]:
    return (yield from outbox.record([call]))[0]


def _add_activity(outbox: Outbox, manager: Any, activity: Activity) -> Procedure[Fanout]:
    return _one(outbox, _addition(manager, activity_bodies.accepted(manager, activity)))


def _add_activities(outbox: Outbox, manager: Any, items: Iterable[Any]) -> Procedure[Any]:
    def record(good: list[Activity], refuse: batches.Refuse) -> Procedure[Sequence[Fanout]]:
        return outbox.record([_addition(manager, activity) for activity in good])

    return _many(batches.add(manager, items, record))


def _batch_import(
    outbox: Outbox, manager: Any, user_id: Entity, items: Iterable[Any], fanout: bool, chunk_size: int
) -> Procedure[Any]:
    require_int("chunk_size", chunk_size, 1)

    def record(good: list[Activity], refuse: batches.Refuse) -> Procedure[Sequence[Fanout]]:
        values = [entity_id(user_id, "user"), [each.pack() for each in good], bool(fanout), chunk_size]
        ids = sorted(each.raw_id for each in good)
        names = [batches.import_id(manager, ids)] if fanout else []
        lane = _lane(manager, "actor", ids[0][ACTOR_SLICE])
        return outbox.record([_call(manager, "batch_import", values, IMPORT, lane, ["import", *ids], names)])

    return _many(batches.import_(manager, user_id, items, fanout, chunk_size, record))


def _many(procedure: Procedure[Any]) -> Procedure[DeferredFanouts]:
    """What *procedure* returns, or raises, with handles that know of the outbox."""
    try:
        return DeferredFanouts((yield from procedure))
    except BatchError as error:
        error.fanouts = DeferredFanouts(error.fanouts)
        raise


def _remove_activity(outbox: Outbox, manager: Any, activity: Activity | str) -> Procedure[Fanout]:
    raw_id = activity_bodies.raw_id(activity)
    return _one(outbox, _removal(manager, raw_id, activity if isinstance(activity, Activity) else None))


def _remove_activities(outbox: Outbox, manager: Any, items: Iterable[Activity | str]) -> Procedure[Any]:
    def record(manager: Any, given: removals.Given) -> Procedure[tuple[list[Fanout], dict[bytes, FeedmillError]]]:
        calls = [_removal(manager, raw_id, activity) for raw_id, activity in given.items()]
        return list((yield from outbox.record(calls))), {}

    return _many(removals.remove_many(manager, items, record))


def _remove_object(outbox: Outbox, manager: Any, object_id: Entity, as_target: bool) -> Procedure[Fanout]:
    removals.check_index(manager, "remove_object")
    thing, as_target = entity_id(object_id, "object"), bool(as_target)
    names = [removals.remove_object_id(manager, thing, as_target)]
    subject = ["object", str(thing), as_target]
    return _one(
        outbox,
        _call(manager, "remove_object", [thing, as_target], REMOVE_OBJECT, _lane(manager), subject, names),
    )


def _update_activity(outbox: Outbox, manager: Any, activity: Activity) -> Procedure[Fanout]:
    activity = activity_bodies.checked(manager, activity)
    method = UPDATE_OR_ADD if _added.get() == activity.raw_id else "update_activity"
    return _one(outbox, _about(manager, method, UPDATE, activity.raw_id, [activity.pack()]))


def _notify(outbox: Outbox, manager: Any, user_ids: Iterable[Entity], activity: Activity) -> Procedure[Any]:
    return _told(outbox, manager, "notify", NOTIFY, user_ids, activity)


def _unnotify(outbox: Outbox, manager: Any, user_ids: Iterable[Entity], activity: Activity) -> Procedure[Any]:
    return _told(outbox, manager, "unnotify", UNNOTIFY, user_ids, activity)


def _told(
    outbox: Outbox, manager: Any, method: str, op: FanoutOperation, user_ids: Iterable[Entity], activity: Activity
) -> Procedure[DeferredFanouts]:
    found, activity = writes.checked_notification(manager, op, user_ids, activity)
    raw_id, people = activity.raw_id, list(found)
    if not people:
        return DeferredFanouts()
    names = [notified_users.name_of(manager, raw_id, ids) for ids in batched(people, manager.fanout_chunk_size)]
    call = _about(manager, method, op, raw_id, [people, activity.pack()], names)
    return DeferredFanouts((yield from outbox.record([call])))


def _copies(
    manager: Any, method: str, op: FanoutOperation, user_id: Entity, target_ids: Iterable[Entity], limit: int | None
) -> list[Call]:
    user, targets = writes.checked_copy(manager, op, user_id, target_ids, limit)
    calls = []
    for target in targets:
        pair = ["pair", str(user), str(target)]
        names = [writes.copy_id(manager, user, target)]
        values = [user, target] if limit is None else [user, target, limit]
        calls.append(_call(manager, method, values, op, _lane(manager, *pair), pair, names))
    return calls


def _follow(outbox: Outbox, manager: Any, user_id: Entity, target_id: Entity, limit: int | None) -> Procedure[Fanout]:
    return _one(outbox, _copies(manager, "follow", FOLLOW, user_id, [target_id], limit)[0])


def _follow_many(
    outbox: Outbox, manager: Any, user_id: Entity, target_ids: Iterable[Entity], limit: int | None
) -> Procedure[Any]:
    return _many(outbox.record(_copies(manager, "follow", FOLLOW, user_id, target_ids, limit)))


def _unfollow(outbox: Outbox, manager: Any, user_id: Entity, target_id: Entity) -> Procedure[Fanout]:
    return _one(outbox, _copies(manager, "unfollow", UNFOLLOW, user_id, [target_id], None)[0])


def _unfollow_many(outbox: Outbox, manager: Any, user_id: Entity, target_ids: Iterable[Entity]) -> Procedure[Any]:
    return _many(outbox.record(_copies(manager, "unfollow", UNFOLLOW, user_id, target_ids, None)))


def _remove_actor(outbox: Outbox, manager: Any, user_id: Entity, actor_id: Entity) -> Procedure[Fanout]:
    user, actor = removals.checked_pair(manager, user_id, actor_id)
    names = [removals.remove_actor_id(manager, user, actor)]
    subject = ["actor of", str(user), str(actor)]
    return _one(outbox, _call(manager, "remove_actor", [user, actor], REMOVE_ACTOR, _lane(manager), subject, names))


def _delete_user(outbox: Outbox, manager: Any, user_id: Entity, about_them: bool) -> Procedure[Fanout]:
    removals.check_index(manager, "delete_user")
    user, about_them = owner_id(user_id), bool(about_them)
    names = [removals.delete_user_id(manager, user)]
    subject = ["user", str(user)]
    return _one(outbox, _call(manager, "delete_user", [user, about_them], DELETE_USER, _lane(manager), subject, names))


def _rebuild(outbox: Outbox, manager: Any, user_id: Entity) -> Procedure[Fanout]:
    user = writes.rebuilt_user(manager, user_id)
    key = ["rebuild", str(user)]
    names = [writes.rebuild_id(manager, user)]
    return _one(outbox, _call(manager, "rebuild", [user], REBUILD, _lane(manager, *key), key, names))


_TAKE_DOWN: Mapping[str, Callable[..., Procedure[Any]]] = {
    "add_activity": _add_activity,
    "add_activities": _add_activities,
    "batch_import": _batch_import,
    "remove_activity": _remove_activity,
    "remove_activities": _remove_activities,
    "remove_object": _remove_object,
    "update_activity": _update_activity,
    "notify": _notify,
    "unnotify": _unnotify,
    "follow": _follow,
    "follow_many": _follow_many,
    "unfollow": _unfollow,
    "unfollow_many": _unfollow_many,
    "remove_actor": _remove_actor,
    "delete_user": _delete_user,
    "rebuild": _rebuild,
}
#: Methods that call another, where an app overrides that, for each of many.
_ONE_OF = {
    "add_activities": "add_activity",
    "remove_activities": "remove_activity",
    "follow_many": "follow",
    "unfollow_many": "unfollow",
}
#: Calls of the same subject that have nothing more to say once a call of that method is made.
REPLACES: Mapping[str, tuple[str, ...]] = {
    "add_activity": ("add_activity", "remove_activity"),
    "remove_activity": ("add_activity", "remove_activity", "update_activity", UPDATE_OR_ADD, "notify", "unnotify"),
    "update_activity": ("update_activity", UPDATE_OR_ADD),
    UPDATE_OR_ADD: ("add_activity", "remove_activity", "update_activity", UPDATE_OR_ADD),
    "follow": ("follow", "unfollow"),
    "unfollow": ("follow", "unfollow"),
}


# -- what is made of it


def arguments(method: str, payload: bytes) -> list[Any]:
    """The arguments of a call that was written down; :class:`~feedmill.errors.MessageError` for what nobody wrote.

    :class:`~feedmill.errors.UnknownVerb` where this process does not know the verb of its activity.
    """
    try:
        values, _ = _read(payload)
        if method in ("add_activity", "update_activity", UPDATE_OR_ADD):
            (body,) = values
            return [Activity.unpack(body)]
        if method == "remove_activity":
            (given,) = values
            return [given if isinstance(given, str) else Activity.unpack(given)]
        if method in ("notify", "unnotify"):
            people, body = values
            return [people, Activity.unpack(body)]
        if method == "batch_import":
            user, bodies, fanout, chunk_size = values
            return [user, [Activity.unpack(body) for body in bodies], fanout, chunk_size]
        if method not in _TAKE_DOWN or not isinstance(values, list):
            raise MessageError(f"this release of Feedmill knows no call of {method[:80]!r} in an outbox")
        return list(values)
    except (CorruptRecord, TypeError, ValueError) as error:
        if isinstance(error, (ActivityError, MessageError)):  # the verb is not known here, or the method
            raise
        raise MessageError(f"the row does not hold the arguments of {method[:80]}: {error}") from error


def _read(payload: bytes) -> tuple[Any, str]:
    """The packed arguments of a call, and the trace context that it belongs to, or an empty text."""
    values = unpack(payload)
    if not isinstance(values, dict):
        return values, ""
    trace = values.get("trace")
    return values.get("arguments"), trace if isinstance(trace, str) else ""


def trace_of(payload: bytes) -> str:
    """The trace context that a call belongs to which was written down; empty if there is none, or it cannot be read."""
    try:
        return _read(payload)[1]
    except CorruptRecord:
        return ""


def continued(payload: bytes) -> AbstractContextManager[Any]:
    """The block in which a call is made that was written down: what comes of it belongs to the trace of whoever wrote it."""
    return tracing.NOTHING if tracing.sink is None else tracing.sink.continued(trace_of(payload))


def made(manager: str, method: str, given: Sequence[Any]) -> Procedure[Any]:
    """Make a call that was written down. An override of the method was called when it was written, and is not called again.

    Raises :class:`~feedmill.errors.UnknownName` if this process knows no such manager.
    """
    found = get_manager(manager)()
    if method != UPDATE_OR_ADD:
        return (yield from _METHODS[method](found, *given))
    try:
        return (yield from _METHODS["update_activity"](found, *given))
    except UnknownActivity:
        return (yield from _METHODS["add_activity"](found, *given))


def made_together(manager: str, activities: Sequence[Activity]) -> Procedure[Any]:
    """Add many activities in one round trip; None, and nothing is done, where an app overrides ``add_activity``."""
    found = get_manager(manager)()
    if overriding.is_overridden(found, "add_activity"):
        return None
    return (yield from batches.add(found, activities))


def described(method: str, payload: bytes) -> str:
    """A call in words, for people: never raises."""
    try:
        shown = ", ".join(map(repr, arguments(method, payload)))
    except FeedmillError as error:
        shown = f"… ({error})"
    return f"{method}({shown[:200]})"


__all__ = ["Call", "Outbox", "added_if_unknown", "bound", "use", "writing"]
