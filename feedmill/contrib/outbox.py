"""The transactional outbox: calls of managers that are rows of the app's database until they are relayed.

What holds the rows is :mod:`feedmill.contrib.django.outbox` or :mod:`feedmill.contrib.sqlalchemy`; how they are written and
relayed is here, once for both. See ``docs/decisions/0110-outbox.md``.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from feedmill import settings, tracing
from feedmill.errors import (
    RETRY_ELSEWHERE,
    ActivityError,
    ArgumentError,
    CorruptRecord,
    DeclarationError,
    FeedBusy,
    MessageError,
    StorageError,
    UnknownActivity,
    UnknownName,
    WrongType,
)
from feedmill.fanout.deferred import DeferredFanout, Place, Waiting
from feedmill.manager import deferral
from feedmill.manager.deferral import REPLACES, Call
from feedmill.storage import procedures
from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.procedures import Procedure

logger = logging.getLogger(__name__)

#: Rows that are read, and activities that are added, at a time; and lanes that a sweep takes at a time.
ROWS_AT_ONCE, LANES_AT_ONCE = 200, 100
#: Failed attempts after which a row is given up; those do not count for which the storage could not be reached, or a feed was locked.
MOST_ATTEMPTS = 12
#: Seconds until the first attempt is repeated, and at most until the next; where the storage cannot be reached it is soon again.
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_OUTAGE_PAUSE = 1.0, 300.0, 15.0
#: Seconds for which commits of this process do not try to relay, after one could not reach the storage: the sweep does.
LEFT_TO_SWEEP = 30.0
#: Seconds after which a commit goes on with nothing more, and leaves what is not relayed yet to the sweep.
COMMIT_TIME = 1.0
#: Seconds that a sweep takes at most, and failures of the storage, one after the other, with which it ends.
SWEEP_TIME, SWEEP_FAILURES = 60.0, 3
#: Errors that come again however often a row is relayed, but for those that another process may not have.
HOPELESS = (ActivityError, ArgumentError, CorruptRecord, MessageError)
#: The method whose calls are made together.
ADDS = "add_activity"
#: Characters of an error that are kept.
ERROR_SIZE = 1000


class Row(NamedTuple):
    """A call that waits."""

    id: int
    manager: str
    method: str
    payload: bytes
    lane: str
    subject: str
    #: When it was written, and before when it is not to be relayed, in seconds since 1970.
    created: float
    due: float
    #: Attempts that failed, but for those where the storage could not be reached or the feed stayed locked; and the last error.
    attempts: int
    error: str
    #: Whether it was given up.
    dead: bool

    def __str__(self) -> str:
        return f"{self.manager}.{deferral.described(self.method, self.payload)}"


class RowCounts(NamedTuple):
    """How many rows there are."""

    waiting: int
    dead: int
    #: Seconds since the oldest that waits was written; 0 if none does.
    oldest: float


class Claimed(NamedTuple):
    """A lane that somebody relays at present."""

    lane: str
    token: str
    until: float


#: Outboxes of this process, by name.
_outboxes: dict[str, Outbox] = {}


def outboxes() -> list[Outbox]:
    """The outboxes of this process, by name."""
    return [_outboxes[name] for name in sorted(_outboxes)]


class Outbox(ABC):
    """What both kinds have in common. A method that begins with an underscore and takes *db* is one short transaction.

    Times are seconds since 1970 by the clock of the database.
    """

    #: What commands and messages call it.
    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        self._left_until = 0.0
        _outboxes[name] = self
        deferral.add_sweep(self.name, self._swept)

    # -- what the two kinds do in their own way

    def record(self, calls: Sequence[Call]) -> Procedure[list[DeferredFanout]]:
        """Write *calls* in the caller's transaction, and have them relayed when it is committed.

        Raises :class:`~feedmill.errors.DeclarationError` if it is not known which transaction that is.
        """
        raise DeclarationError("which transaction is meant? use outbox.bind(session)")

    @abstractmethod
    def _ask(self, function: Callable[..., Any], *args: Any) -> Procedure[Any]:
        """Ask for *function*, a method that takes *db*, in a transaction of its own or, if there is one, the caller's."""

    @abstractmethod
    def _clock(self, db: Any) -> float:
        """What time it is."""

    @abstractmethod
    def _insert(self, db: Any, calls: Sequence[Call], now: float) -> list[int]:
        """Write rows; their ids, which are higher than those of all rows that were written before."""

    @abstractmethod
    def _insert_claims(self, db: Any, lanes: Sequence[str], token: str, until: float) -> None:
        """Write claims on *lanes*, which are sorted, except where there is one."""

    @abstractmethod
    def _claims(self, db: Any, lanes: Sequence[str]) -> list[Claimed]:
        """The claims on *lanes*."""

    @abstractmethod
    def _delete_claims(self, db: Any, lanes: Sequence[str], token: str | None, before: float | None) -> None:
        """Delete the claims on *lanes* that are *token*'s, or that ended *before*."""

    @abstractmethod
    def _extend_claims(self, db: Any, token: str, until: float) -> int:
        """Have the claims of *token* last until then; how many there are."""

    @abstractmethod
    def _rows(self, db: Any, lanes: Sequence[str], limit: int) -> list[Row]:
        """The oldest rows of *lanes* that are not dead, in the order of their ids."""

    @abstractmethod
    def _first(self, db: Any, scope: str, even: Sequence[str]) -> int | None:
        """The lowest id of the rows that are not dead and whose lane begins with *scope*, except in lanes with a failed attempt that
        are not among *even*; None if there are none."""

    @abstractmethod
    def _heads(self, db: Any, after: int, limit: int, lanes: Sequence[str] | None) -> list[tuple[int, str]]:
        """The lowest id of each lane, of *lanes* or all, among the rows that are not dead, if it is above *after*; lowest first."""

    @abstractmethod
    def _delete(self, db: Any, ids: Sequence[int], replaced: Sequence[tuple[int, str, str, Sequence[str]]]) -> None:
        """Delete rows, and the dead ones that they replace: of ids below one, of a manager, of a subject, and of methods."""

    @abstractmethod
    def _fail(self, db: Any, row_id: int, attempts: int, error: str, due: float, dead: bool) -> None:
        """Note a failed attempt."""

    @abstractmethod
    def _row(self, db: Any, row_id: int) -> Row | None:
        """A row."""

    @abstractmethod
    def _list(self, db: Any, dead: bool, limit: int) -> list[Row]:
        """The oldest rows that wait, or are dead."""

    @abstractmethod
    def _count(self, db: Any, now: float) -> RowCounts:
        """How many there are."""

    @abstractmethod
    def _revive(self, db: Any, ids: Sequence[int] | None, due: float) -> list[str]:
        """Have dead rows, of *ids* or all, wait anew; their lanes."""

    @abstractmethod
    def _drop(self, db: Any, row_id: int, now: float) -> bool:
        """Delete a row unless its lane is claimed; whether there was one."""

    # -- what handles ask

    def waiting(self, row_id: int) -> Procedure[Waiting | None]:
        """How it stands with a row; None if there is none."""
        found: Waiting | None = yield from self._ask(self._waiting, row_id)
        return found

    def _waiting(self, db: Any, row_id: int) -> Waiting | None:
        row = self._row(db, row_id)
        if row is None:
            return None
        return Waiting(max(0.0, self._clock(db) - row.created), row.attempts, row.error, row.dead)

    def drop(self, row_id: int) -> Procedure[bool]:
        """Delete a row that nobody relays at this moment; whether there was one."""
        dropped: bool = yield from self._ask(self._dropped, row_id)
        return dropped

    def _dropped(self, db: Any, row_id: int) -> bool:
        return self._drop(db, row_id, self._clock(db))

    def _handles(self, ids: Sequence[int], calls: Sequence[Call], place: Place | None = None) -> list[DeferredFanout]:
        return [
            DeferredFanout(call.fanouts, call.op, call.manager, call.activity_id, row_id=row_id, place=place or self)
            for row_id, call in zip(ids, calls)
        ]

    # -- what an operator asks

    def counts(self) -> RowCounts:
        """How many rows wait, and how many are dead."""
        counts: RowCounts = procedures.run(self._ask(self._counted))
        return counts

    def _counted(self, db: Any) -> RowCounts:
        return self._count(db, self._clock(db))

    def rows(self, dead: bool = False, limit: int = 100) -> list[Row]:
        """The oldest rows that wait or, with *dead*, were given up."""
        found: list[Row] = procedures.run(self._ask(self._list, dead, limit))
        return found

    def retry(self, ids: Iterable[int] | None = None) -> int:
        """Relay dead rows, those of *ids* or all, as if they were written now and for the first time; how many there were.

        They are relayed before what waits about the same author or pair, since they are older.
        """
        given = None if ids is None else list(ids)
        lanes: list[str] = procedures.run(self._ask(self._revived, given))
        procedures.run(self.relay_lanes(lanes))
        return len(lanes)

    def _revived(self, db: Any, ids: Sequence[int] | None) -> list[str]:
        return self._revive(db, ids, self._clock(db))

    def discard(self, row_id: int) -> bool:
        """Delete a row for good, unless it is being relayed; whether there was one."""
        return procedures.run(self.drop(row_id))

    # -- relaying

    def relay(self) -> int:
        """Relay what waits and is due, of all lanes; how many rows were relayed. What the sweep does."""
        return procedures.run(self._relay_all())

    async def arelay(self) -> int:
        """:meth:`relay` from a coroutine."""
        return await procedures.arun(self._relay_all())

    def after_commit(self, lanes: Iterable[str]) -> Procedure[None]:
        """Relay *lanes* now that they are committed. Raises nothing: what cannot be relayed now is relayed by a sweep."""
        if time.monotonic() < self._left_until:
            return
        try:
            relay = yield from self.relay_lanes(lanes, seconds=COMMIT_TIME)
        except Exception as error:
            logger.warning("what was committed waits in outbox %r: %s: %s", self.name, type(error).__name__, error)
        else:
            if relay.away:
                self._left_until = time.monotonic() + LEFT_TO_SWEEP

    def relay_lanes(self, lanes: Iterable[str], failures: int = 1, seconds: float = math.inf) -> Procedure[_Relay]:
        """Relay the rows of *lanes* that are due, in order, except of those lanes that somebody else relays.

        It ends when the storage could not be reached that many times, one after the other, and begins no call after so many
        *seconds*.
        """
        relay = _Relay(self, failures, time.monotonic() + seconds)
        yield from relay.run(sorted({*lanes}))
        if relay.relayed and not relay.unreachable:
            self._left_until = 0.0
        return relay

    def _relay_all(self) -> Procedure[int]:
        began, after, relayed = time.monotonic(), 0, 0
        while time.monotonic() < began + SWEEP_TIME:
            heads: list[tuple[int, str]] = yield from self._ask(self._heads, after, LANES_AT_ONCE, None)
            if not heads:
                break
            left = began + SWEEP_TIME - time.monotonic()
            relay = yield from self.relay_lanes([lane for _, lane in heads], SWEEP_FAILURES, left)
            relayed += relay.relayed
            if relay.away:
                break
            after = heads[-1][0]
        return relayed

    def _swept(self) -> int:
        """What a sweep calls: it raises nothing."""
        try:
            return self.relay()
        except Exception as error:
            logger.error("outbox %r cannot be swept: %s: %s", self.name, type(error).__name__, error)
            return 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class _Relay:
    """One pass through some lanes: claims them, makes their calls one after the other, and gives them back."""

    def __init__(self, outbox: Outbox, failures: int, ends: float) -> None:
        self.outbox, self.token, self.failures = outbox, uuid.uuid4().hex, failures
        #: When it ends, by the monotonic clock.
        self._ends = ends
        #: Rows that were relayed; and how often, one time after the other, the storage could not be reached.
        self.relayed = self.unreachable = 0
        #: When the claims end, and how far the clock of the database is ahead of the monotonic one.
        self._until = self._ahead = 0.0
        #: Lanes of this pass that go no further now.
        self._stuck: set[str] = set()
        #: Lanes that this pass is about.
        self._going: set[str] = set()
        #: Rows whose calls were made and that are not deleted yet, and what they are about.
        self._done: list[Row] = []
        self._subjects: set[tuple[str, str]] = set()

    @property
    def away(self) -> bool:
        """Whether it makes no sense to go on."""
        return self.unreachable >= self.failures

    @property
    def _over(self) -> bool:
        """Whether no more calls are begun."""
        return self.away or time.monotonic() >= self._ends

    def run(self, lanes: Sequence[str]) -> Procedure[None]:
        """Relay what is due of *lanes*, and what others write to them meanwhile."""
        ask, outbox = self.outbox._ask, self.outbox
        while lanes and not self._over:
            mine = yield from self._claim(lanes)
            if not mine:
                return
            try:
                while (yield from self._pass(mine)):
                    pass
            finally:
                yield from ask(outbox._delete_claims, mine, self.token, None)
            # Who committed while the lane was claimed found it so, and left the row to this pass.
            heads: list[tuple[int, str]] = yield from ask(outbox._heads, 0, len(mine), mine)
            lanes = sorted({lane for _, lane in heads} - self._stuck)

    def _claim(self, lanes: Sequence[str]) -> Procedure[list[str]]:
        """Take those of *lanes* that nobody has, or whose holder's time is over."""
        ask, outbox = self.outbox._ask, self.outbox
        now, until = yield from self._lease()
        yield from ask(outbox._insert_claims, lanes, self.token, until)
        found: list[Claimed] = yield from ask(outbox._claims, lanes)
        over = sorted(each.lane for each in found if each.until < now)
        if over:
            yield from ask(outbox._delete_claims, over, None, now)
            yield from ask(outbox._insert_claims, over, self.token, until)
            found = yield from ask(outbox._claims, lanes)
        return sorted(each.lane for each in found if each.token == self.token)

    def _lease(self) -> Procedure[tuple[float, float]]:
        """What time it is, and until when claims last that are made now."""
        lease, began = settings.current().fanout_lease, time.monotonic()
        now: float = yield from self.outbox._ask(self.outbox._clock)
        self._until, self._ahead = began + lease, now - began
        return now, now + lease

    def _pass(self, mine: Sequence[str]) -> Procedure[bool]:
        """Make the calls of the oldest rows; whether there may be more."""
        ask, outbox = self.outbox._ask, self.outbox
        if time.monotonic() > self._until - settings.current().fanout_lease / 2:
            _, until = yield from self._lease()
            if (yield from ask(outbox._extend_claims, self.token, until)) < len(mine):
                return False  # it took so long that somebody else has them
        before = self.relayed, len(self._stuck)
        now = self._ahead + time.monotonic()
        going = self._going = {*mine} - self._stuck
        barriers = {deferral.barrier_of(lane) for lane in going}
        rows: list[Row] = yield from ask(outbox._rows, sorted(going | barriers), ROWS_AT_ONCE)
        adding: list[Row] = []
        try:
            for row in rows:
                if deferral.is_barrier(row.lane):  # what is older comes first, whatever becomes of this
                    yield from self._add(adding, now)
                    adding = []
                if row.lane not in going or row.due > now:
                    self._stick(row.lane)
                if row.lane in self._stuck:
                    continue
                if _can_join(row, adding):
                    adding.append(row)
                    continue
                yield from self._add(adding, now)
                adding = [row] if row.method == ADDS else []
                if not adding and row.lane not in self._stuck and not self._over:
                    yield from self._take_turn(row, now)
                if self._over:
                    return False
            yield from self._add(adding, now)
        finally:
            yield from self._settle()
        return len(rows) == ROWS_AT_ONCE and before != (self.relayed, len(self._stuck)) and not self._over

    def _take_turn(self, row: Row, now: float) -> Procedure[None]:
        """Make the call of *row*, unless it has to wait for older rows of other lanes."""
        if deferral.is_barrier(row.lane):
            yield from self._settle()
            scope, even = row.lane[: deferral.SCOPE_SIZE], deferral.lanes_before(row.lane, row.method, row.payload)
            first: int | None = yield from self.outbox._ask(self.outbox._first, scope, even)
            if first is not None and first < row.id:
                self._stick(row.lane)
                return
        yield from self._make(row, now)

    def _stick(self, lane: str) -> None:
        """No row of *lane* is relayed any more in this pass, nor one that has to wait for it."""
        self._stuck.add(lane)
        if deferral.is_barrier(lane):
            self._stuck |= {each for each in self._going if deferral.barrier_of(each) == lane}

    def _add(self, rows: Sequence[Row], now: float) -> Procedure[None]:
        """Add many activities of one manager in one round trip; where that is not possible, one by one."""
        rows = [row for row in rows if row.lane not in self._stuck]
        if len(rows) > 1:
            yield from self._before(rows)
            try:
                activities = [deferral.arguments(row.method, row.payload)[0] for row in rows]
                with deferral.continued(rows[0].payload):
                    together = yield from deferral.made_together(rows[0].manager, activities)
            except Exception as error:
                if _is_away(error):
                    self._stuck |= {row.lane for row in rows}
                    yield from self._failed(rows[0], error, now)
                    return
                logger.debug("%d activities could not be added together: %r", len(rows), error)
            else:
                if together is not None:
                    self._finished(rows)
                    return
        for row in rows:  # each alone tells which of them is the reason
            if row.lane not in self._stuck and not self._over:
                yield from self._make(row, now)

    def _make(self, row: Row, now: float) -> Procedure[None]:
        """Make the call of *row*."""
        yield from self._before([row])
        try:
            given = deferral.arguments(row.method, row.payload)
            with deferral.continued(row.payload):
                yield from deferral.made(row.manager, row.method, given)
        except UnknownActivity as error:
            logger.warning("outbox %r: nothing is left to be done of %s: %s", self.outbox.name, row, error)
        except Exception as error:
            yield from self._failed(row, error, now)
            return
        self._finished([row])
        if row.method not in REPLACES:  # it may be about more than its subject says
            yield from self._settle()

    def _before(self, rows: Sequence[Row]) -> Procedure[None]:
        """Nothing is done before what was done about the same is settled, nor after the time of the claim.

        So the process may die anywhere: what is relayed once more is what was done last about its subject.
        """
        if not self._subjects.isdisjoint((row.manager, row.subject) for row in rows):
            yield from self._settle()
        if time.monotonic() > self._until:
            raise LeaseExpired(
                f"outbox {self.outbox.name!r} was not relayed within FEEDMILL_FANOUT_LEASE; others will do it"
            )

    def _finished(self, rows: Sequence[Row]) -> None:
        self.relayed += len(rows)
        self.unreachable = 0
        self._done += rows
        self._subjects |= {(row.manager, row.subject) for row in rows}

    def _settle(self) -> Procedure[None]:
        """Delete the rows whose calls were made."""
        rows, self._done, self._subjects = self._done, [], set()
        if rows:
            replaced = [
                (row.id, row.manager, row.subject, REPLACES[row.method]) for row in rows if row.method in REPLACES
            ]
            yield from self.outbox._ask(self.outbox._delete, [row.id for row in rows], replaced)

    def _failed(self, row: Row, error: Exception, now: float) -> Procedure[None]:
        """Note what went wrong, and when *row* is tried again; or give it up, and let its lane go on."""
        unreachable = _is_away(error)
        transient = unreachable or isinstance(error, FeedBusy)
        hopeless = isinstance(error, HOPELESS) and not isinstance(error, RETRY_ELSEWHERE)
        attempts = row.attempts + (not transient)
        dead = not transient and (hopeless or attempts >= MOST_ATTEMPTS)
        if transient:  # it waits as long as it has waited already
            due = now + min(LONGEST_OUTAGE_PAUSE, max(FIRST_PAUSE, now - row.created))
        else:
            due = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(row.attempts, 20))
        self.unreachable += unreachable
        if not dead:
            self._stick(row.lane)
        reason = _storable(f"{type(error).__name__}: {error}")[:ERROR_SIZE]
        level, what = (logging.ERROR, "was given up") if dead else (logging.WARNING, "is tried again")
        logger.log(level, "outbox %r: %s %s: %s", self.outbox.name, row, what, reason)
        yield from self.outbox._ask(self.outbox._fail, row.id, attempts, reason, due, dead)


def _storable(text: str) -> str:
    """*text* as every database takes it: with escapes for NUL and for what has no UTF-8."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _is_away(error: Exception) -> bool:
    """Whether nothing can be relayed at present."""
    return isinstance(error, StorageError) and not isinstance(error, WrongType)


def _can_join(row: Row, adding: Sequence[Row]) -> bool:
    """Whether *row* can be added together with *adding*: in one trace, where somebody traces."""
    if row.method != ADDS or (adding and adding[0].manager != row.manager):
        return False
    if tracing.sink is None or not adding:
        return True
    first, other = (tracing.id_of(deferral.trace_of(each.payload)) for each in (adding[0], row))
    return first == other


def named(name: str) -> Outbox:
    """The outbox of that name; :class:`~feedmill.errors.UnknownName` if this process has none."""
    if name not in _outboxes:
        known = ", ".join(map(repr, sorted(_outboxes))) or "none"
        raise UnknownName(f"no outbox {name!r}; known: {known}")
    return _outboxes[name]


__all__ = ["Claimed", "Outbox", "Row", "RowCounts", "named", "outboxes"]
