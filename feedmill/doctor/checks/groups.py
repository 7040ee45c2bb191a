"""One feed of groups: what was read of it, what is wrong with it, and what would put it right.

Checked here are locks and pending writes, records and ranks, state and counts: what a feed holds and what it says of itself agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from feedmill import group_names, settings
from feedmill.activity import Activity
from feedmill.doctor.report import Finding
from feedmill.errors import CorruptRecord, NewerRecord, UnknownVerb
from feedmill.grouping import pending_writes
from feedmill.grouping.feed_state import FeedState, count_message, event_prefix
from feedmill.grouping.scoring import Bodies, bodies_of, score_of, surely_scored
from feedmill.ids import MAX_TIME
from feedmill.records.record import Record
from feedmill.storage.base import Changes
from feedmill.storage.maintenance import StoredFeed
from feedmill.storage.operations import Steps
from feedmill.worker.dead_letters import reason

#: Seconds after its end for which a lock may still have a holder.
GRACE = 30.0


@dataclasses.dataclass
class Case:
    """Checks look at it in turn; each leaves in *changes* what fixes the damage that it found."""

    feed_class: Any
    user_id: str
    key: str
    stored: StoredFeed
    #: Seconds since 1970.
    now: float
    #: Overflow that something is wrong with, and what.
    suspected: Mapping[bytes, str] = dataclasses.field(default_factory=dict)
    #: Overflow that were read whole, because their check asked for them in *wanted*.
    overflows: dict[bytes, dict[bytes, bytes]] = dataclasses.field(default_factory=dict)
    wanted: list[bytes] = dataclasses.field(default_factory=list)
    #: Activities that scores are made of; None where they are not looked at.
    bodies: Bodies = None
    #: The groups that can be read, or will be when *changes* are made; and those of them that must be written.
    records: dict[bytes, Record] = dataclasses.field(default_factory=dict)
    written: dict[bytes, Record] = dataclasses.field(default_factory=dict)
    #: Groups whose record is fine but cannot be read here.
    foreign: set[bytes] = dataclasses.field(default_factory=set)
    state: FeedState = dataclasses.field(default_factory=FeedState)

    def __post_init__(self) -> None:
        self.serializer = self.feed_class.serializer()
        self.counted: bool = self.feed_class.counted
        self.changes = Changes(self.key, self.stored.state, count_key=self.feed_class.count_key_of(self.user_id))

    def examined(self, checks: Iterable[Check]) -> list[Finding]:
        """What *checks* find, one after the other."""
        return [finding for check in checks for finding in check(self)]

    @property
    def held(self) -> bool:
        """Whether a writer that may live holds the feed: clocks differ, and one that lets go of it hands it over."""
        lock = self.stored.lock
        return lock is not None and self.now - settings.current().lock_ttl - GRACE < lock < self.now + far_ahead()

    def shown_ids(self) -> list[bytes]:
        """The ids that the groups show, oldest first."""
        return sorted(member.raw_id for record in self.records.values() for member in record.shown)

    def put(self, group: bytes, record: Record) -> None:
        """Have *record* written in place of what is stored."""
        self.records[group] = self.written[group] = record

    def drop(self, group: bytes) -> None:
        """Have the group deleted, with its overflow."""
        self.changes.delete.append(group)
        self.changes.drop_overflow.append(group)
        self.records.pop(group, None)
        self.written.pop(group, None)

    def score(self, group: bytes, record: Record) -> float | None:
        """What the aggregator gives; None if that cannot be told, as of a group that lost a body.

        Whatever the aggregator raises, and a DeclarationError for what is no score.
        """
        if not surely_scored(record, self.bodies):
            return None
        return score_of(self.feed_class, FeedState.salvaged(self.stored.state), group, record, self.bodies)

    def finish(self) -> Steps[Changes]:
        """What must be written, with its scores; a group that the aggregator fails to score stands where it stood."""
        self.bodies = yield from bodies_of(self.feed_class, self.written.values())
        for group, record in self.written.items():
            try:
                score = score_of(self.feed_class, self.state, group, record, self.bodies)
            except Exception:
                if group not in self.stored.scores:
                    raise
                score = self.stored.scores[group]
            self.changes.put.append((group, self.serializer.encode(record), score))
        return self.changes


#: Looks at a case and says what is wrong.
Check = Callable[[Case], Iterator[Finding]]


def far_ahead() -> float:
    """Seconds from now beyond which no writer can have meant its lock to end; clocks may differ by minutes."""
    return 10 * settings.current().lock_ttl + 600


def stuck_locks(case: Case) -> Iterator[Finding]:
    """A lock whose holder is dead, or that ends so far ahead that nobody can have meant it."""
    lock = case.stored.lock
    if lock is not None and not case.held:
        text = f"it expired {case.now - lock:.0f} s ago, and its writer did not release it"
        yield Finding(
            "stuck lock", case.key, text if lock < case.now else "it expires too far in the future, so nobody can write"
        )


def orphaned_pending_writes(case: Case) -> Iterator[Finding]:
    """What was left for a writer that died: it is applied now instead of with the next write.

    What this process cannot do stays for one that can.
    """
    if not case.stored.pending or case.held:
        return
    writes = pending_writes.read(case.feed_class, case.stored.pending)
    kept = writes.kept
    if sum(len(write.data) for write in kept) < len(case.stored.pending):
        yield Finding(
            "orphaned pending writes",
            case.key,
            f"{len(case.stored.pending)} bytes of pending writes, and no writer applies them",
        )
    if kept:
        kind = "verb not registered" if isinstance(kept[0].error, UnknownVerb) else "pending writes"
        text = f"{len(kept)} pending writes wait for a process that can apply them: {kept[0].why}"
        yield Finding(kind, case.key, text, fixable=False)


def damaged_records(case: Case) -> Iterator[Finding]:
    """A group whose record or name cannot be read; it is dropped, which is what readers do already."""
    for group, stored in case.stored.records.items():
        where = f"{case.key} group {group_names.spelled(group)!r}"
        try:
            record = case.serializer.decode(stored)
            _check(record, whole=case.serializer.embeds_activities)
            group_names.check(group)
        except NewerRecord as error:
            case.foreign.add(group)
            yield Finding("newer record", where, f"{error}; the group is not changed", fixable=False)
        except (CorruptRecord, UnknownVerb, UnicodeError) as error:
            unknown = error if isinstance(error, UnknownVerb) else error.__cause__
            if isinstance(unknown, UnknownVerb):
                yield foreign(case, group, where, unknown)
                continue
            yield Finding("damaged group", where, f"{error}; readers skip the group, --fix deletes it")
            case.drop(group)
        else:
            case.records[group] = record


def decodable(case: Case) -> Iterator[Record]:
    """The records that can be read at all."""
    for stored in case.stored.records.values():
        with contextlib.suppress(CorruptRecord, UnknownVerb):
            yield case.serializer.decode(stored)


def _check(record: Record, *, whole: bool) -> None:
    """Look at every part of *record*: readers and writers decode what they need, and meet the rest one day."""
    if len(set(record.members)) < len(record.members):
        raise CorruptRecord("a member stands in it more than once")
    if record.members[-1].microseconds > MAX_TIME:
        raise CorruptRecord("a member is of a time that cannot be")
    if whole:
        for member in record.members:
            look_at(member.body)


def look_at(body: bytes) -> Activity:
    """Decode all of a packed activity; :class:`~feedmill.errors.CorruptRecord`, or an unknown verb."""
    activity = Activity.unpack(body)
    activity.raw_id, activity.extra_context  # noqa: B018  # both are worked out when they are asked for
    return activity


def foreign(case: Case, group: bytes, where: str, error: UnknownVerb) -> Finding:
    """The finding for a group that another application's verb is in; nothing of the group is touched."""
    case.foreign.add(group)
    return Finding("verb not registered", where, f"{error}; the group is not changed", fixable=False)


def wrong_ranks(case: Case) -> Iterator[Finding]:
    """An entry without a record, a record without an entry, or one that stands at the wrong place."""
    if case.stored.scores_flaw:
        yield Finding("damaged ranks", case.key, case.stored.scores_flaw)
    for group in case.stored.scores:
        if group not in case.stored.records:
            yield Finding(
                "entry without record",
                f"{case.key} group {group_names.spelled(group)!r}",
                "the feed lists the group, and it has no record",
            )
            case.drop(group)
    for group, record in list(case.records.items()):
        where, held = f"{case.key} group {group_names.spelled(group)!r}", case.stored.scores.get(group)
        if held is None:
            yield Finding("record without entry", where, "the feed does not list the group, so readers do not find it")
            case.put(group, record)
            continue
        try:
            score = case.score(group, record)
        except Exception as error:  # an app's own aggregator may raise anything
            name = case.feed_class.aggregator_class.__name__
            yield Finding(
                "failing score", where, f"{name}.score raised {reason(error)}; correct the method", fixable=False
            )
            continue
        if score is not None and held != score:
            yield Finding("wrong rank", where, f"the stored score is {held!r}, and should be {score!r}")
            case.put(group, record)


def damaged_state(case: Case) -> Iterator[Finding]:
    """A state that cannot be read or is behind its groups; the feed begins to count anew, with everything unseen."""
    if not case.counted:
        return
    latest = max((record.revision for record in case.records.values()), default=0)
    try:
        case.state = FeedState.decode(case.stored.state)
    except CorruptRecord as error:
        yield Finding("damaged state", case.key, f"{error}; --fix resets it, and everything becomes unseen")
        case.state = FeedState(latest)
    state = case.state
    if max(latest, state.seen_mark, state.read_mark) > state.sequence:
        yield Finding(
            "damaged state",
            case.key,
            "the feed's latest revision is lower than that of its groups, so new groups would seem seen",
        )
        state.seen_mark, state.read_mark = min(state.seen_mark, state.sequence), min(state.read_mark, state.sequence)
        state.sequence = max(latest, state.sequence)


def drifted_counts(case: Case) -> Iterator[Finding]:
    """Counts that a recount does not give, or a count of a feed that is not there."""
    if not case.counted:
        return
    if case.foreign:  # then a recount is not to be had
        case.changes.state = case.state.encode()
        return
    state, count_key = case.state, case.changes.count_key
    unseen = sum(not state.is_seen(record) for record in case.records.values())
    unread = sum(not state.is_read(record) for record in case.records.values())
    kept = numbers(case.stored.count)
    known = state.unseen, state.unread, state.published
    if kept is not None and not case.stored.state and not case.stored.records:
        if kept[:2] == (0, 0):
            return
        yield Finding("count without feed", count_key, f"the count is {kept[0]} unseen, and the feed does not exist")
    elif (state.unseen, state.unread) != (unseen, unread):
        text = f"the feed says {state.unseen} unseen and {state.unread} unread; a recount gives {unseen} and {unread}"
        yield Finding("drifted count", count_key, text)
    elif kept is None and case.stored.count is not None:
        yield Finding("drifted count", count_key, f"{case.stored.count[:40]!r} is not a count")
    elif (kept or (0, 0, 0)) != known:
        text = f"it says {kept[0]} unseen and {kept[1]} unread" if kept else "it is missing"
        yield Finding("drifted count", count_key, f"{text}; the feed says {state.unseen} and {state.unread}")
    else:
        case.changes.state = state.encode()
        return
    state.unseen, state.unread = unseen, unread
    state.published = max(state.published, kept[2] if kept else 0) + 1
    message = count_message(event_prefix(case.key, case.user_id), unseen, unread, state.published)
    case.changes.count = unseen, unread, state.published, message
    case.changes.state = state.encode()


def numbers(count: bytes | None) -> tuple[int, int, int] | None:
    """What a stored count says: unseen, unread and the number of the last publication; None if it says nothing."""
    parts = (count or b"").split()
    if len(parts) != 3 or not all(part.isdigit() and len(part) < 20 for part in parts):
        return None
    unseen, unread, sequence = map(int, parts)
    return unseen, unread, sequence
