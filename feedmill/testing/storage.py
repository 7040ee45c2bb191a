"""The contract of a storage backend, as tests that any backend can run.

Subclass :class:`BackendContract` in your tests, with a fixture ``backend`` that puts yours in force, empty::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self):
            feedmill.configure(redis_url="mine://")
            empty_it()
            return feedmill.storage.registry.backend()

Or subclass the contracts of the parts that you have: :class:`FlatContract` and so on.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from feedmill import Activity, revision, settings
from feedmill.cursor import GroupPosition
from feedmill.errors import ArgumentError
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.grouping.operations import plan
from feedmill.keys import ARRIVALS, GROUPS, ended_key, fanout_record_key
from feedmill.msgpack_codec import pack
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.storage import activity_state as state
from feedmill.storage.auxiliary import FROM_FEEDS, REFILTERED, fanout_of
from feedmill.storage.base import (
    ABSENT,
    ADDED,
    APPEND,
    BUSY,
    DELETE,
    DONE,
    LOST,
    PENDING,
    SET,
    Backend,
    Changes,
    FeedLimits,
    GroupRead,
    Lock,
    Snapshot,
    WriteRequest,
)
from feedmill.storage.hook_queue import MOST_ARRIVALS, HookSettlement, split_owner
from feedmill.storage.journal import FANOUT, HOOK, MESSAGE, Claim, NotBegun, RateLimit, Succession
from feedmill.storage.maintenance import StoredFlat, TimelineMaintenance
from feedmill.storage.operations import PAUSE, Interrupted, Steps, barrier, together
from feedmill.storage.pubsub import LISTENING, Listener
from feedmill.storage.registry import maintenance
from feedmill.storage.request_log import RequestState
from feedmill.verbs import Love

#: Seconds that a claim lasts in these tests, and within which a listener hears.
LEASE, SOON = 0.1, 10.0
NAME = "Contract"
#: A begin that wants nothing but the lock.
NOTHING = WriteRequest(())
#: What fan-outs ask for. To a journal they are names.
ADD, REMOVE, FOLLOW, UPDATE, REDELIVER = "add", "remove", "follow", "update", "redeliver"
#: What an addition makes of an update that is not done.
ABSORBING = Succession(absorbs=(UPDATE, REDELIVER), becomes=REDELIVER)


class Contract:
    """What the contracts share."""

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend that is tested, in force and empty: yours."""
        raise NotImplementedError("override the fixture `backend`")

    @pytest.fixture(autouse=True)
    def _settings(self, backend: Backend) -> Iterator[None]:
        self.tested = backend
        before = settings.current().fanout_lease
        settings.configure(fanout_lease=LEASE)
        yield
        settings.configure(fanout_lease=before)

    def run(self, operation: Steps[Any]) -> Any:
        """What *operation* comes to."""
        return self.tested.run(operation)


class DriverContract(Contract):
    """How a backend drives operations."""

    def test_together(self) -> None:
        """Operations that share their round trips come to what each comes to alone; barriers and pauses are passed."""

        def waits() -> Steps[str]:
            (reply,) = yield [(PAUSE, 0.01)]
            return f"waited: {reply}"

        number = self.tested.auxiliary.unfollows.last_number
        asked: list[Any] = [number(NAME), barrier(), waits(), number(NAME)]
        assert self.run(together(asked)) == [0, None, "waited: None", 0]

    def test_what_fails_is_interrupted(self) -> None:
        """An error of one operation is raised, after the others were interrupted and have released what they hold."""
        released = []

        def holds() -> Steps[None]:
            try:
                yield [(PAUSE, 0.0)]
                yield [(PAUSE, 0.0)]
            except Interrupted:
                yield from self.tested.auxiliary.unfollows.record_unfollow(NAME, "5", ["6"])
                released.append(True)
                raise

        def fails() -> Steps[None]:
            yield [(PAUSE, 0.0)]
            raise OSError("no database")

        with pytest.raises(OSError, match="no database"):
            self.run(together([holds(), fails()]))
        assert released and self.run(self.tested.auxiliary.unfollows.last_number(NAME)) > 0

    def test_coroutines(self) -> None:
        """From a coroutine it is the same."""

        async def read() -> Any:
            try:
                return await self.tested.arun(self.tested.auxiliary.unfollows.last_number(NAME))
            finally:
                await self.tested.aclose()

        assert asyncio.run(read()) == 0


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _at(time: int, number: int) -> bytes:
    return time.to_bytes(7, "big") + (number << 60).to_bytes(9, "big")


class FlatContract(Contract):
    """Flat timelines."""

    def test_ids_in_order(self) -> None:
        """What is added is held once, newest first, in whatever order it came; how many were new is counted."""
        flat, keys = self.tested.flat, ["contract:flat:{1}", "contract:flat:{2}"]
        assert self.run(flat.flat_add(keys, [_id(3), _id(5)], 100)) == 4
        assert self.run(flat.flat_add(keys[:1], [_id(1), _id(3), _id(4)], 100)) == 2
        assert self.run(flat.flat_slice(keys[0], 0, 10)) == [_id(n) for n in (5, 4, 3, 1)]
        assert self.run(flat.flat_slice(keys[0], 1, 3)) == [_id(4), _id(3)]
        assert self.run(flat.flat_slice(keys[0], 3, 3)) == [] == self.run(flat.flat_slice(keys[0], 9, 12))
        assert [self.run(flat.flat_count(key)) for key in (*keys, "contract:flat:{3}")] == [4, 2, 0]
        assert self.run(flat.flat_add(keys, [], 100)) == self.run(flat.flat_add([], [_id(1)], 100)) == 0

    def test_additions_at_the_end_and_before(self) -> None:
        """Additions of one and of many ids, newer than what is held, older, of the same time, and given twice: each is held once,
        and counted when it is new.
        """
        flat, keys, dice = self.tested.flat, ["contract:flat:{1}", "contract:flat:{2}"], random.Random(4)
        held: dict[str, set[bytes]] = {key: set() for key in keys}
        for step in range(400):
            newest = step // 4 + dice.choice([0, 0, 0, 1, -3])
            ids = {_at(max(0, newest - dice.randrange(2)), dice.randrange(3)) for _ in range(dice.choice([1, 1, 2, 5]))}
            some = keys[: dice.randrange(1, 3)]
            new = sum(len(ids - held[key]) for key in some)
            assert self.run(flat.flat_add(some, sorted(ids), 1000)) == new
            for key in some:
                held[key] |= ids
        for key in keys:
            assert self.run(flat.flat_slice(key, 0, 999)) == sorted(held[key], reverse=True)
            assert self.run(flat.flat_count(key)) == len(held[key])

    def test_removal(self) -> None:
        """What is taken out is counted where it was."""
        flat, keys = self.tested.flat, ["contract:flat:{1}", "contract:flat:{2}"]
        self.run(flat.flat_add(keys, [_id(n) for n in range(4)], 100))
        assert self.run(flat.flat_remove(keys[:1], [_id(1), _id(9)])) == 1
        assert self.run(flat.flat_remove(keys, [_id(1), _id(2)])) == 3
        assert self.run(flat.flat_slice(keys[0], 0, 9)) == [_id(3), _id(0)]
        self.run(flat.flat_trim(keys[0], 1))
        assert self.run(flat.flat_slice(keys[0], 0, 9)) == [_id(3)]
        self.run(flat.flat_delete(keys[0]))
        assert self.run(flat.flat_count(keys[0])) == 0

    def test_length(self) -> None:
        """A timeline holds its newest ids, and a quarter more at most."""
        flat, key = self.tested.flat, "contract:flat:{1}"
        for number in random.Random(1).sample(range(200), 200):
            self.run(flat.flat_add([key], [_id(number)], 20))
            assert self.run(flat.flat_count(key)) <= 25
        assert self.run(flat.flat_slice(key, 0, 20)) == [_id(n) for n in range(199, 179, -1)]

    def test_a_horizon(self) -> None:
        """An addition cuts off what is of a time before the horizon once that is more than an eighth, a trim all of it."""
        flat, key = self.tested.flat, "contract:flat:{1}"
        ids = [time.to_bytes(7, "big") + bytes(9) for time in range(100, 120)]
        self.run(flat.flat_add([key], ids[:18], 100, 50))
        assert self.run(flat.flat_count(key)) == 18
        self.run(flat.flat_add([key], ids[18:19], 100, 102))
        assert self.run(flat.flat_count(key)) == 19
        self.run(flat.flat_add([key], ids[19:], 100, 103))
        assert self.run(flat.flat_slice(key, 0, 99)) == ids[:2:-1]
        self.run(flat.flat_trim(key, 99, 104))
        assert self.run(flat.flat_slice(key, 0, 99)) == ids[:3:-1]
        self.run(flat.flat_trim(key, 3, 104))
        assert self.run(flat.flat_slice(key, 0, 99)) == ids[:16:-1]
        self.run(flat.flat_trim(key, 3, 120))
        assert self.run(flat.flat_count(key)) == 0
        self.run(flat.flat_add([key], ids, 100, 500))
        assert self.run(flat.flat_count(key)) == 0

    @pytest.mark.parametrize("oldest_first", [False, True])
    def test_ranges(self, oldest_first: bool) -> None:
        """Ranges are those of a list, within the newest of the window."""
        flat, key, dice = self.tested.flat, "contract:flat:{1}", random.Random(2)
        held = [_id(n) for n in range(0, 60, 2)]
        self.run(flat.flat_add([key], held, 100))
        for _ in range(100):
            low, high = (_id(dice.randrange(-1, 62) % 64) if dice.random() < 0.8 else b"" for _ in range(2))
            window, start = dice.randrange(40), dice.randrange(8)
            stop = start + dice.randrange(8)
            found = [each for each in held[-window:] if window and each >= low and (not high or each < high)]
            ordered = found if oldest_first else found[::-1]
            expected = len(found), ordered[start:stop]
            assert self.run(flat.flat_range(key, low, high, oldest_first, start, stop, window)) == expected


class _Feeds:
    """Feeds of groups by their keys."""

    def __init__(self, *users: int, counted: bool = True) -> None:
        self.users, self.counted = users, counted

    def __len__(self) -> int:
        return len(self.users)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Their keys."""
        return [key_of(user) for user in self.users[start:stop]]

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        """The keys of their counts."""
        return [f"{key_of(user)}:count" for user in self.users[start:stop]] if self.counted else []

    def event_prefixes(self, start: int, stop: int) -> Sequence[str]:
        """The front of what is published."""
        return ["{" for _ in self.users[start:stop]] if self.counted else []


def key_of(user: int) -> str:
    """The key of a feed of groups."""
    return f"contract:groups:{{{user}}}"


def _actors(number: int) -> list[bytes]:
    return [b"actor%d" % each for each in range(number)]


class ContractNews(RedisAggregatedFeed):
    """Groups without counts."""

    key_format = "contract:news:%(user_id)s"


class ContractNotes(RedisNotificationFeed):
    """Groups with counts."""

    key_format = "contract:notes:%(user_id)s"
    count_format = "contract:notes:%(user_id)s:count"


class GroupsContract(Contract):
    """Timelines of groups: locks, what begin reads and what commit writes."""

    @pytest.fixture(autouse=True)
    def _locks(self, _settings: None) -> None:
        self.now, self.limits, self.counted = time.time(), FeedLimits(100, 0, "contract"), True
        #: On what each writer's commit is based.
        self.basis: dict[bytes, Any] = {}

    def begin(
        self, token: bytes, task: WriteRequest = NOTHING, limits: FeedLimits | None = None, *, later: float = 0
    ) -> Any:
        """What becomes of the feed of user 1."""
        lock, feeds = Lock(token, self.now + later, 10), _Feeds(1, counted=self.counted)
        found = self.run(self.tested.groups.begin(feeds, task, lock, limits or self.limits))[0]
        if isinstance(found, Snapshot):
            self.basis[token] = found.basis
        return found

    def commit(self, token: bytes, later: float = 0, **changes: Any) -> Any:
        """What becomes of a commit to the feed of user 1."""
        count_key = f"{key_of(1)}:count" if self.counted else ""
        basis = self.basis.get(token)
        changed = Changes(key_of(1), changes.pop("state", b""), count_key=count_key, basis=basis, **changes)
        return self.run(self.tested.groups.commit([changed], Lock(token, self.now + later, 10), self.limits.channel))[0]

    def write(self, **changes: Any) -> None:
        """Begin and commit."""
        assert isinstance(self.begin(b"writer__"), Snapshot)
        assert self.commit(b"writer__", **changes) == DONE

    @pytest.mark.parametrize("counted", [False, True])
    def test_a_stolen_token_is_refused(self, counted: bool) -> None:
        """A commit under a token that is no longer the lock's is refused; what came meanwhile keeps the lock."""
        self.limits, self.counted = FeedLimits(100, 0, "contract" if counted else ""), counted
        assert isinstance(self.begin(b"first___"), Snapshot)
        assert isinstance(self.begin(b"first___"), Snapshot), "sent again, its answer lost"
        assert self.begin(b"second__") == BUSY
        assert self.begin(b"second__", WriteRequest((), b"left")) == PENDING
        taken = self.begin(b"second__", later=11)
        assert isinstance(taken, Snapshot) and taken.pending == b"left"
        put = [(b"g", b"\0record", 5.0)]
        assert self.commit(b"first___", put=put) == LOST
        assert self.run(self.tested.groups.groups_count(key_of(1))) == 0
        assert self.commit(b"second__", put=put) == b"left"
        assert self.run(self.tested.groups.groups_count(key_of(1))) == 1
        assert self.commit(b"second__", put=[(b"h", b"\0record", 6.0)]) == b"left", "sent again: it is known as done"
        assert self.run(self.tested.groups.groups_count(key_of(1))) == 1
        following = Lock(b"second__", 0, 0).following
        assert isinstance(self.begin(following, later=11), Snapshot), "its writer reads again what it has written"
        assert self.commit(following, pending_done=4) == DONE
        assert self.commit(b"second__") == LOST == self.commit(following)

    def test_what_stays_in_the_pending_writes(self) -> None:
        """What could not be done is kept in front of what came meanwhile, and the lock goes only when nothing came."""
        self.begin(b"first___")
        self.begin(b"second__", WriteRequest((), b"aabb"))
        taken = self.begin(b"second__", later=11)
        assert taken.pending == b"aabb"
        assert self.begin(b"third___", WriteRequest((), b"cc"), later=11) == PENDING
        assert self.commit(b"second__", later=11, pending_done=4, pending_kept=b"bb") == b"cc"
        following = Lock(b"second__", 0, 0).following
        assert self.begin(following, later=11).pending == b"bbcc"
        assert self.commit(following, later=11, pending_done=4, pending_kept=b"bb") == DONE
        assert self.begin(b"third___", later=11).pending == b"bb"
        assert self.run(self.tested.auxiliary.pending_index.has_pending([key_of(1), key_of(2)])) == [True, False]

    def test_release(self) -> None:
        """Only what is held under one of the tokens is let go, and it is told whether something waits there."""
        self.begin(b"first___")
        release = self.tested.groups.release
        assert self.run(release([key_of(1), key_of(2)], [b"second__"])) == [False, False]
        assert self.begin(b"second__") == BUSY
        self.begin(b"second__", WriteRequest((), b"left"))
        assert self.run(release([key_of(1), key_of(2)], [b"first___", b"other___"])) == [True, False]
        assert isinstance(self.begin(b"second__"), Snapshot)
        assert self.run(release([], [b"first___"])) == []

    def test_what_begin_reads(self) -> None:
        """Records and overflow of the groups that are wanted, state, and the newest and oldest where they are asked for."""
        records = {b"g%d" % n: b"\0record%d" % n for n in range(5)}
        records[b"g1"] = bytes([HAS_OVERFLOW]) + records[b"g1"]
        overflow: list[Any] = [(b"g1", actor, SET, actor * 2) for actor in _actors(3)]
        self.write(
            state=b"state", put=[(name, data, float(name[1:])) for name, data in records.items()], overflow=overflow
        )
        reads = GroupRead(b"g1", (b"actor0", b"actor2", b"actor9")), GroupRead(b"g2", ()), GroupRead(b"new", None)
        found = self.begin(b"reader__", WriteRequest(reads), FeedLimits(5, 2, "contract"))
        assert (found.done, found.state, found.pending, found.records) == (
            *(0, b"state", b""),
            [records[b"g1"], records[b"g2"], None],
        )
        assert found.overflows == [{actor: actor * 2 for actor in (b"actor0", b"actor2")}, {}, {}]
        assert found.newest == [(name, float(name[1:]), records[name]) for name in (b"g4", b"g3")]
        assert found.oldest[:1] == [(b"g0", 0.0, records[b"g0"])] and found.groups == 5
        self.run(self.tested.groups.release([key_of(1)], [b"reader__"]))
        found = self.begin(b"reader__", WriteRequest((GroupRead(b"g1", None),)))
        assert (len(found.overflows[0]), found.oldest, found.groups, found.newest) == (3, [], 0, [])

    def test_what_commit_writes(self) -> None:
        """Groups come and go, overflow are appended to, set and deleted."""
        groups, head = self.tested.groups, bytes([HAS_OVERFLOW])
        self.write(put=[(b"a", head + b"1", 1.0), (b"b", head + b"1", 2.0)], overflow=[(b"a", b"x", SET, b"1")])
        self.write(put=[(b"a", head + b"2", 3.0)], overflow=[(b"a", b"x", APPEND, b"2"), (b"a", b"y", SET, b"3")])
        assert self.run(groups.group_get(key_of(1), GroupRead(b"a", None))) == (
            b"",
            head + b"2",
            {b"x": b"12", b"y": b"3"},
            0,
        )
        assert self.run(groups.group_get(key_of(1), GroupRead(b"a", (b"y", b"z")))).overflow == {b"y": b"3"}
        assert sorted(self.run(groups.group_actors(key_of(1), b"a"))[1]) == [b"x", b"y"]
        assert self.run(groups.group_overflow(key_of(1), b"a", [b"y", b"z"])) == (head + b"2", {b"y": b"3"})
        self.write(overflow=[(b"a", b"x", DELETE, b"")])
        assert self.run(groups.group_get(key_of(1), GroupRead(b"a", None))).overflow == {b"y": b"3"}
        self.write(put=[(b"a", b"\0", 3.0)], drop_overflow=[b"a"], delete=[b"b"])
        assert self.run(groups.group_actors(key_of(1), b"a")) == (b"\0", [])
        for name in (b"b", b"never"):
            assert self.run(groups.group_get(key_of(1), GroupRead(name, None)))[1:] == (None, {}, None)
        assert self.run(groups.groups_count(key_of(1))) == 1

    def test_the_oldest_groups(self) -> None:
        """Groups of a low score are read with the counts, counted, and given to whoever begins with a horizon."""
        groups, key, count_key = self.tested.groups, key_of(1), f"{key_of(1)}:count"
        assert self.run(groups.counts_and_oldest(key, count_key, 9.0)) == ((0, 0, 0), b"", [], None)
        rows = [(b"g%d" % n, float(n), b"\0%d" % n) for n in range(1, 6)]
        put = [(name, data, score) for name, score, data in rows]
        self.write(state=b"state", put=put, count=(2, 3, 7, "{}"))

        def oldest(below: float, count: str = count_key) -> Any:
            counts, state, found, lowest = self.run(groups.counts_and_oldest(key, count, below))
            return tuple(counts), state, [(name, float(score), data) for name, score, data in found], lowest

        assert oldest(3) == ((2, 3, 7), b"state", rows[:2], 1.0)
        assert oldest(math.inf) == ((2, 3, 7), b"state", rows, 1.0)
        assert oldest(1.0) == oldest(-math.inf) == ((2, 3, 7), b"", [], 1.0)
        assert oldest(2, "")[0] == (0, 0, 0)
        assert [self.run(groups.groups_count(key, horizon)) for horizon in (0, 1, 3, 6)] == [5, 5, 3, 0]
        for horizon, expected in ((3, rows[:2]), (1, [])):
            found = self.begin(b"reader__", limits=FeedLimits(100, 0, "contract", horizon))
            assert found.oldest == expected and found.groups == (5 if expected else 0)

    def test_overflows_are_read_in_pages(self) -> None:
        """Each field that is there all the while is found."""
        overflow: list[Any] = [(b"g", actor, SET, b"x") for actor in _actors(700)]
        self.write(put=[(b"g", bytes([HAS_OVERFLOW]), 1.0)], overflow=overflow)
        place, found = 0, dict[bytes, bytes]()
        while True:
            record, place, some = self.run(self.tested.groups.overflow_scan(key_of(1), b"g", place, 50))
            found |= some
            assert record == bytes([HAS_OVERFLOW])
            if not place:
                break
        assert set(found) == set(_actors(700))
        assert self.run(self.tested.groups.overflow_scan(key_of(1), b"none", 0, 50)).record is None

    def test_pages(self) -> None:
        """Groups by score and then by name, the highest first, from a rank or behind a place, within the window."""
        groups = self.tested.groups
        self.write(state=b"state", put=[(b"g%d" % n, b"\0%d" % n, float(n // 2)) for n in range(8)])
        order = [b"g%d" % n for n in range(7, -1, -1)]

        def names(*args: Any) -> Any:
            found = self.run(groups.groups_slice(key_of(1), *args))
            assert found.state == b"state" or not args[1]
            assert all(
                float(score) == int(name[1:]) // 2 and data == b"\0" + name[1:] for name, score, data in found.rows
            )
            return [name for name, _, _ in found.rows], found.more

        assert names(0, 3, 100) == (order[:3], True)
        assert names(3, 9, 100) == (order[3:], False)
        assert names(2, 9, 4) == (order[2:4], False)
        assert names(0, 2, 100, GroupPosition(2.0, b"g4")) == (order[4:6], True)
        assert names(1, 2, 100, GroupPosition(2.0, b"g4")) == (order[5:7], True)
        assert names(0, 0, 100) == ([], False)
        assert self.run(groups.groups_slice(key_of(2), 0, 5, 100)) == (b"", [], False)

    def test_counts(self) -> None:
        """A count is kept and published with the commit; a feed that is deleted says so, and goes on with its number."""
        groups, count_key = self.tested.groups, f"{key_of(1)}:count"
        channel = f"contract:{key_of(1)}"
        listener = self.tested.pubsub.listen([channel])
        try:
            assert listener.get(SOON) == [(channel, LISTENING)]
            assert self.run(groups.count_get(key_of(1), count_key)) == (0, 0, 0)
            self.write(put=[(b"g", b"\0", 1.0)], count=(2, 3, 7, '{"unseen": 2}'))
            assert self.run(groups.count_get(key_of(1), count_key)) == (2, 3, 7)
            assert listener.get(SOON) == [(channel, b'{"unseen": 2}')]
            self.run(groups.groups_delete(key_of(1), count_key, "contract", "{"))
            assert listener.get(SOON) == [(channel, b'{"unseen": 0, "unread": 0, "seq": 8}')]
        finally:
            listener.close()
        assert self.run(groups.groups_count(key_of(1))) == 0
        assert self.run(groups.count_get(key_of(1), count_key))[:2] == (0, 0)
        assert int.from_bytes(self.begin(b"anew____").state[48:56], "big") == 8

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_deleted_feed_goes_on_with_its_revisions(self, times: int) -> None:
        """What is in a feed that began anew arrived after all that was in it before; so no old page marks it."""
        feed, last = ContractNotes(1), 0
        for number in range(5):
            feed.add_many([Activity(number, Love, 5), Activity(number, Love, 6)])
            page = feed.page(5)
            revisions = [revision.decode(group.revision) for group in page.items]
            assert len(revisions) == 2 and min(revisions) > last
            last = revision.decode(page.revision)
            assert last == max(revisions)
            for _ in range(times):
                feed.delete()

    def test_arrivals_are_numbered_by_time(self) -> None:
        """What a storage adds itself is numbered by the time of its ``begin``, ms; by one more than the last if that is higher."""
        feed, numbers = ContractNotes(1), []
        for number, later in enumerate((0, 60, 0)):
            request = plan(ContractNotes, [Activity(number, Love, number)]).request(ContractNotes, leave=False)
            lock = Lock(b"writer__", self.now + later, 10)
            limits = FeedLimits(100, 0, feed.channel())
            (reply,) = self.run(feed.timeline().begin(_OneFeed(feed), request, lock, limits))
            if reply != ADDED:  # left to the merge, which has a clock of its own
                return
            numbers.append(revision.decode(feed.page(1).revision) - int(self.now * 1000))
        assert numbers == [0, 60_000, 60_001]

    @pytest.mark.parametrize("feed_class", [ContractNews, ContractNotes])
    def test_additions(self, feed_class: Any) -> None:
        """Whatever a storage adds itself, groups count members and actors exactly, and what is added again changes nothing."""
        feed, dice = feed_class(1), random.Random(3)
        pool = [Activity(n % 17, Love, 5, time=Activity(1, Love, 1).time) for n in range(17)]
        pool += [Activity(n % 23, Love, 6 + n, time=pool[0].time) for n in range(60)]
        inside: set[Activity] = set()
        for _ in range(30):
            some = dice.sample(pool, dice.randint(1, 25))
            if dice.random() < 0.7:
                assert feed.add_many(some) == len(set(some) - inside)
                inside |= set(some)
            else:
                assert feed.remove_many(some) == len(set(some) & inside)
                inside -= set(some)
            assert sum(group.activity_count for group in feed[:]) == len(inside)
            for group in feed[:]:
                members = [each for each in inside if feed.get_aggregator().get_group(each) == group.group]
                assert group.actor_count == len({each.actor_id for each in members})
            assert all(feed.contains(each) == (each in inside) for each in pool)

    def test_an_addition_to_a_busy_feed(self) -> None:
        """It is left to whoever holds the lock, or done at once where the storage needs none; it is not lost."""
        feed, activity = ContractNotes(1), Activity(1, Love, 5)
        lock = Lock(b"stranger", time.time(), 0.2)
        self.run(feed.timeline().begin(_OneFeed(feed), NOTHING, lock, FeedLimits(100, 0, feed.channel())))
        feed_class: Any = ContractNotes
        feed_class._run(feed_class.deliver([1], [activity]))
        time.sleep(0.3)
        feed.add(Activity(2, Love, 5))
        assert feed.contains(activity) and feed.get_denormalized_count() == len(feed[:])
        assert ADDED == 2


class _OneFeed(_Feeds):
    """A feed of a class."""

    def __init__(self, feed: Any) -> None:
        super().__init__(1)
        self.feed = feed

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Its key."""
        return [self.feed.key][start:stop]

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        """The key of its count."""
        return [self.feed.count_key][start:stop]


class IdleContract(GroupsContract):
    """Feeds that go when nobody uses them, and timelines of groups."""

    def test_idle_feeds(self) -> None:
        """A feed that is gone is not written, unless it begins anew, and then nothing is there of what it held; it is used by being
        read and written.
        """
        flat: Any = self.tested.flat
        key = "contract:idle:{1}"
        assert self.run(flat.idle_use(key, 60)) is None is self.run(flat.idle_end(key))
        assert self.run(flat.flat_add([key], [_id(1)], 9, 0, 60)) == 0 == self.run(flat.flat_count(key))
        self.run(flat.flat_add([key], [_id(2)], 9))
        assert self.run(flat.flat_add([key], [_id(3)], 9, 0, 60, True)) == 1
        assert self.run(flat.flat_slice(key, 0, 9)) == [_id(3)] and self.run(flat.idle_use(key, 60)) == b"w"
        assert self.run(flat.flat_add([key], [_id(4)], 9, 0, 60)) == 1
        assert not self.run(flat.idle_begin(key, 60)) and self.run(flat.idle_use(key, 60)) == b"r"
        assert (
            self.run(flat.flat_add([key], [_id(5)], 9, 0, 60, True)) == 1 and self.run(flat.idle_use(key, 50)) == b"r"
        )
        assert 45 < self.run(flat.idle_end(key)) <= 50 and self.run(flat.flat_count(key)) == 3
        assert self.run(flat.idle_use(key, 1)) == b"r"
        time.sleep(1.1)
        assert self.run(flat.idle_use(key, 60)) is None and self.run(flat.flat_add([key], [_id(6)], 9, 0, 60)) == 0
        assert self.run(flat.idle_end(key)) is None and self.run(flat.flat_count(key)) == 0
        assert self.run(flat.idle_begin(key, 60)) and self.run(flat.idle_use(key, 60)) == b"r"

    def test_idle_groups(self) -> None:
        """A feed of groups that is gone is left alone, unless it begins anew: then nothing of it is there, overflow included."""
        groups: Any = self.tested.groups
        key, idle = key_of(1), FeedLimits(100, 0, "", idle=60)
        self.counted = False
        self.limits = idle._replace(begins=True)
        assert self.begin(b"first___", limits=idle) == ABSENT
        self.write(put=[(b"g", bytes([HAS_OVERFLOW]), 1.0)], overflow=[(b"g", b"x", SET, b"1")])
        assert isinstance(self.begin(b"first___", limits=idle), Snapshot)
        self.run(groups.release([key], [b"first___"]))
        assert self.run(groups.idle_use(key, 1)) == b"w"
        time.sleep(1.1)
        assert self.begin(b"first___", limits=idle) == ABSENT and self.run(groups.groups_count(key)) == 1
        assert self.begin(b"first___").records == [] and self.run(groups.groups_count(key)) == 0
        assert self.commit(b"first___", put=[(b"g", bytes([HAS_OVERFLOW]), 1.0)]) == DONE
        assert self.run(groups.group_actors(key, b"g")) == (bytes([HAS_OVERFLOW]), [])
        assert not self.run(groups.idle_begin(key, 1)) and self.run(groups.groups_count(key)) == 1
        time.sleep(1.1)
        assert self.run(groups.idle_end(key)) is None and self.run(groups.groups_count(key)) == 0


class ActivitiesContract(Contract):
    """Bodies of activities."""

    def test_bodies(self) -> None:
        """A body that is there stays as it is, unless it is replaced; what is removed is gone."""
        storage = self.tested.activities
        self.run(storage.add({_id(1): b"one", _id(2): b"two"}))
        self.run(storage.add({_id(1): b"other", _id(3): b"three"}))
        assert self.run(storage.get([_id(3), _id(1), _id(9)])) == [b"three", b"one", None]
        assert self.run(storage.replace({_id(1): b"new", _id(9): b"nine"})) == 1
        self.run(storage.remove([_id(2), _id(9)]))
        assert self.run(storage.get([_id(1), _id(2), _id(9)])) == [b"new", None, None]
        assert self.run(storage.get([])) == self.run(storage.change(state.ADDED, {})) == []
        self.run(storage.remove([]))

    def test_changes(self) -> None:
        """Whatever happens to an activity in whatever order, what is kept is what the state machine says, and so is the reply."""
        storage, dice = self.tested.activities, random.Random(4)
        changes = (state.ADDED, state.IMPORT, state.NOTIFY, state.UNNOTIFY, state.UPDATED, state.REMOVE)
        for number in range(60):
            raw_id, held = _id(number), None
            for step in range(8):
                change, body = dice.choice(changes), b"body%d" % dice.randrange(3)
                expected = state.changed(held, change, body)
                if change == state.UPDATED and held and state.decode(held).kind == state.REMOVED:
                    expected = None
                (reply,) = self.run(storage.change(change, {raw_id: body}))
                assert (reply is not None) == (expected is not None), (change, held, step)
                held = held if expected is None else expected
                assert self.run(storage.states([raw_id])) == [held], change
                assert reply == held or change != state.REMOVE
                assert self.run(storage.get([raw_id])) == [state.shown(held)]

    def test_an_expected_value(self) -> None:
        """Nothing is changed if the value is another."""
        storage = self.tested.activities
        self.run(storage.add({_id(1): b"one"}))
        assert self.run(storage.change(state.UPDATED, {_id(1): b"new"}, b"other")) == [None]
        assert self.run(storage.get([_id(1)])) == [b"one"]
        assert self.run(storage.change(state.UPDATED, {_id(1): b"new"}, b"one")) != [None]
        assert self.run(storage.get([_id(1)])) == [b"new"]

    def test_scopes(self) -> None:
        """What a manager keeps is its own."""
        storage = self.tested.activities
        mine, others = storage.scoped("Mine", 100), storage.scoped("Others", 100)
        self.run(mine.add({_id(1): b"mine"}))
        assert [self.run(each.get([_id(1)])) for each in (mine, others, storage)] == [[b"mine"], [None], [None]]


class JournalContract(Contract):
    """Fan-outs: opened, claimed, planned, done; and dead letters. Claims last for :data:`LEASE` seconds."""

    @property
    def journal(self) -> Any:
        """The journal that is tested."""
        return self.tested.journal

    def open(self, name: str = "one", op: str = ADD, **options: Any) -> str:
        """Open a fan-out; its id."""
        self.run(self.journal.open(NAME, f"{NAME}:{name}", op, b"body", **options))
        return f"{NAME}:{name}"

    def claims(self, limit: int = 100) -> list[Claim]:
        """What is due, once all leases are over."""
        time.sleep(LEASE * 1.5)
        found: list[Claim] = self.run(self.journal.claim(NAME, limit)).claims
        return found

    def end(self, done: Callable[[Claim], object]) -> None:
        """All that is due is *done* until nothing is, perhaps a last time."""
        deadline = time.monotonic() + SOON
        while self.run(self.journal.list_due(NAME)).number:
            assert time.monotonic() < deadline
            for claim in self.claims():
                done(claim)

    def planned(self, chunks: int) -> Claim:
        """A fan-out all of whose chunks are written down and sent."""
        self.open()
        (claim,) = self.claims()
        renewed: Claim = self.run(self.journal.renew(NAME, claim, {n: b"chunk%d" % n for n in range(chunks)}))
        self.run(self.journal.await_chunks(NAME, renewed, chunks, 0, chunks))
        return renewed

    def status(self, name: str = "one") -> dict[str, str]:
        """What the record says."""
        found: dict[str, str] = self.run(self.journal.get(f"{NAME}:{name}"))
        return found

    def test_one_in_one_piece(self) -> None:
        """It is opened, claimed, done whole, and no longer due; its record says so."""
        opened = self.run(self.journal.open(NAME, f"{NAME}:one", ADD, b"body", feeds=["home", "news"]))
        assert (opened.op, opened.wake) == (ADD, True)
        assert self.run(self.journal.list_due(NAME, limit=5)).ids == [f"{NAME}:one"]
        claims, wake = self.run(self.journal.claim(NAME, 10))
        (claim,) = claims
        assert (claim.id, claim.op, claim.body, claim.planned, claim.feeds) == (
            *(f"{NAME}:one", ADD, b"body", 0),
            ("home", "news"),
        )
        assert not wake and claim.generation > opened.generation and self.run(self.journal.claim(NAME, 10)).claims == []
        self.run(self.journal.finish(NAME, [(claim, 3)]))
        found = self.status()
        assert [found[name] for name in ("manager", "op", "planned", "done", "reached")] == [NAME, ADD, "1", "1", "3"]
        assert "finished" in found and "body" not in found and int(found["now"]) >= int(found["created"])
        assert self.run(self.journal.list_due(NAME)) == (0, [])
        assert self.claims() == [] and set(self.status("never")) == {"now"}

    def test_the_trace_context(self) -> None:
        """It is told with each claim and each chunk, kept for as long as the record, and replaced by what is asked for next, unless that
        says to keep it; what belongs to no trace has none.
        """
        one, journal = f"{NAME}:one", self.journal
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=1"
        self.run(journal.open(NAME, one, ADD, b"body", trace=parent))
        self.run(journal.open(NAME, f"{NAME}:two", ADD, b"body", tells=True))
        self.run(journal.open(NAME, f"{NAME}:three", FOLLOW, b"body", sent=True, trace=parent, tells=True))
        claims = {each.id: each for each in self.claims()}
        assert [claims[one].trace, claims[f"{NAME}:two"].trace] == [parent, ""]
        renewed = self.run(journal.renew(NAME, claims[one], {0: b"chunk"}))
        assert renewed.trace == parent
        begun = self.run(journal.begin_chunk(one, renewed.generation, 0))
        assert (begun.trace, begun.data, begun.times) == (parent, b"chunk", 1)
        two = self.run(journal.renew(NAME, claims[f"{NAME}:two"], {0: b"chunk"}))
        assert self.run(journal.begin_chunk(two.id, two.generation, 0)).trace == ""
        self.run(journal.end_chunk(NAME, one, renewed.generation, 0, 1))
        self.run(journal.await_chunks(NAME, renewed, 1, 0, 1))
        names = [one, f"{NAME}:two", f"{NAME}:three", f"{NAME}:never"]
        assert self.run(journal.traces(names)) == [parent, "", parent, ""]
        for trace, kept in ((None, parent), (None, parent), ("", ""), (None, ""), ("00-other", "00-other")):
            self.run(journal.open(NAME, one, ADD, b"body", trace=trace))
            assert self.run(journal.traces([one])) == [kept]

    def test_a_strange_id(self) -> None:
        """An id that is none of the manager's is refused."""
        with pytest.raises(ArgumentError, match="none of"):
            self.run(self.journal.open(NAME, "Other:one", ADD, b"body"))

    def test_a_claim_that_is_lost(self) -> None:
        """Whoever was too slow changes nothing of what another has claimed, nor keeps the claim."""
        self.open()
        (slow,) = self.claims()
        (claim,) = self.claims()
        assert claim.attempts == 2 and claim.generation > slow.generation
        assert self.run(self.journal.renew(NAME, slow, {0: b"chunk"})) is None
        self.run(self.journal.finish(NAME, [(slow, 5)]))
        self.run(self.journal.postpone(NAME, slow, 100, error="too late"))
        assert self.run(self.journal.dead_letter("too late", b"x", NAME, slow)) == ""
        assert "finished" not in self.status() and self.run(self.journal.dead_letters(5)) == []
        assert self.run(self.journal.renew(NAME, claim)) is not None
        (claim,) = self.claims()
        assert (claim.attempts, claim.planned) == (3, 0)

    def test_a_renewed_claim(self) -> None:
        """It holds for another lease, with the same listing; its old proof is worth nothing."""
        self.open()
        (claim,) = self.claims()
        time.sleep(LEASE / 5)
        renewed = self.run(self.journal.renew(NAME, claim))
        assert renewed.audience_read_at == claim.audience_read_at and float(renewed.time) > float(claim.time)
        begun = self.run(self.journal.renew(NAME, renewed, begins=True))
        assert begun.marked and begun.audience_read_at == claim.audience_read_at
        assert self.run(self.journal.renew(NAME, claim)) is None

    def test_chunks(self) -> None:
        """Chunks are written, done once each and in any order; with the last the fan-out is finished."""
        claim = self.planned(5)
        assert self.run(self.journal.chunks(claim, 0, 3)) == {0: b"chunk0", 1: b"chunk1", 2: b"chunk2"}
        for number, begun in (
            (3, (1, claim.audience_read_at, 0, b"chunk3", "")),
            (1, (1, claim.audience_read_at, 0, b"chunk1", "")),
            (3, NotBegun.DONE),
        ):
            assert self.run(self.journal.begin_chunk(claim.id, claim.generation, number)) == begun
            self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, number, 10))
        assert self.run(self.journal.chunks(claim, 1, 9)) == {2: b"chunk2", 4: b"chunk4"}
        found = self.status()
        assert (found["planned"], found["done"], found["reached"]) == ("5", "2", "20") and "finished" not in found
        (again,) = self.claims()
        assert (again.generation, again.planned, again.sent, again.attempts) == (claim.generation, 5, 5, 1)
        for number in (0, 2, 4):
            self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, number, 10))
        assert "finished" in self.status() and self.run(self.journal.chunks(claim, 0, 9)) == {}
        assert self.claims() == []

    def test_what_the_ends_of_chunks_tell(self) -> None:
        """Each chunk counts once, with the time since the call; the last one ends its fan-out, once, and a repetition counts nothing."""
        claim = self.planned(2)
        end, at = self.journal.end_chunk, (NAME, claim.id, claim.generation)
        first = self.run(end(*at, 1, 10))
        assert first[:4] == (True, 2, 1, 10) and 0 <= first.milliseconds < 60_000 and not first.ended
        assert self.run(end(*at, 1, 10))[:4] == (False, 2, 1, 10)
        assert self.run(end(*at, 0, None)) is None
        assert self.run(end(NAME, claim.id, claim.generation - 1, 0, 5)) is None
        last = self.run(end(*at, 0, 5))
        assert (*last[:4], last.ended) == (True, 2, 2, 15, True)
        assert (again := self.run(end(*at, 0, 5))) is None or not (again.counted or again.ended)

    def test_what_the_end_of_planning_tells(self) -> None:
        """Chunks that are done before the last is written: the fan-out ends when it is known that there are no more."""
        self.open()
        (claim,) = self.claims()
        claim = self.run(self.journal.renew(NAME, claim, {0: b"chunk"}))
        assert not self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 7)).ended
        told = self.run(self.journal.await_chunks(NAME, claim, 1, 9, 1))
        assert (*told[:4], told.ended) == (False, 1, 1, 7, True) and 0 <= told.milliseconds < 60_000
        assert self.run(self.journal.await_chunks(NAME, claim, 1, 9, 1)) is None

    def test_what_the_ends_of_fanouts_tell(self) -> None:
        """Each that has ended with it tells the time since the call; a claim that was lost tells nothing."""
        self.open()
        (slow,) = self.claims()
        self.open("two")
        claims = self.claims()
        ages = self.run(self.journal.finish(NAME, [(slow, 1), *((each, 1) for each in claims)]))
        assert len(ages) == 3 and ages[0] == -1 and all(0 <= age < 60_000 for age in ages[1:])
        assert list(self.run(self.journal.finish(NAME, []))) == []

    def test_what_is_repeated_tells_nothing(self) -> None:
        """What is asked for again while it runs is repeated after its end, to be on the safe side: only its first end tells a time."""
        self.open()
        self.claims()
        self.open()
        (claim,) = self.claims()
        assert self.run(self.journal.finish(NAME, [(claim, 1)]))[0] >= 0
        ends: list[int] = []
        self.end(lambda each: ends.extend(self.run(self.journal.finish(NAME, [(each, 1)]))))
        assert ends and set(ends) == {-1}

    def test_chunks_of_what_was_replaced(self) -> None:
        """What is asked for again puts the chunks of before off."""
        claim = self.planned(2)
        self.open(op=REMOVE)
        assert self.run(self.journal.begin_chunk(claim.id, claim.generation, 0)) is NotBegun.DONE
        self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 5))
        self.run(self.journal.record_error(claim.id, claim.generation, "too late"))
        assert self.status().get("done", "0") == "0" and "error" not in self.status()

    def test_who_knows_the_feeds(self) -> None:
        """A chunk that is for a feed which the caller does not know is not begun."""
        self.open(feeds=["home", "pins"])
        (claim,) = self.claims()
        claim = self.run(self.journal.renew(NAME, claim, {0: b"chunk"}))
        begin = self.journal.begin_chunk
        assert self.run(begin(claim.id, claim.generation, 0, ["home"])) is NotBegun.UNKNOWN_FEED
        assert self.run(begin(claim.id, claim.generation, 0, ["pins", "home", "x"])).times == 1

    def test_deaths_of_chunks(self) -> None:
        """Those that were begun and neither failed nor finished have died."""
        claim = self.planned(1)

        def begin() -> Any:
            return self.run(self.journal.begin_chunk(claim.id, claim.generation, 0))

        assert (begin().deaths, begin().deaths) == (0, 1)
        for _ in range(5):
            self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, None))
        assert (begin().deaths, begin().deaths) == (0, 1)
        self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 1))
        self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, None))
        assert begin() is NotBegun.DONE and self.status()["retried"] == "3"

    def test_begun_and_not_heard_of(self) -> None:
        """Only what was written down as begun counts, and writing it down twice counts once."""
        self.open()
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths, claim.marked) == (1, 0, False)
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths) == (1, 0)
        begun = self.run(self.journal.renew(NAME, claim, begins=True))
        assert begun.marked and begun.tries == 1
        assert self.run(self.journal.renew(NAME, begun, begins=True)) is not None
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths) == (2, 1)
        assert self.run(self.journal.renew(NAME, begun, begins=True)) is None, "it is another's"

    @pytest.mark.parametrize(("error", "tries"), [("", 1), ("it broke", 2)])
    def test_postponed(self, error: str, tries: int) -> None:
        """What was begun and put off was no death; it was an attempt if it failed."""
        self.open()
        self.claims()
        begun = self.run(self.journal.renew(NAME, self.claims()[0], begins=True))
        self.run(self.journal.postpone(NAME, begun, 0, error=error, waiting_queue="" if error else "queue"))
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths, claim.waiting_queue) == (tries, 0, "" if error else "queue")
        assert self.status().get("error", "") == error and self.status().get("failed", "0") == str(int(bool(error)))

    def test_postponed_for_a_reason(self) -> None:
        """What may be written in part, and is put off, counts as no attempt, whatever its error says."""
        self.open()
        self.claims()
        begun = self.run(self.journal.renew(NAME, self.claims()[0], begins=True))
        for _ in range(2):
            self.run(self.journal.postpone(NAME, begun, 0, error="away", written=True))
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths, claim.relisted) == (1, 0, True)
        assert self.status()["error"] == "away" and self.status().get("failed", "0") == "0"

    def test_postponed_twice(self) -> None:
        """What is put off once more, since the answer was lost, counts no less than no attempts."""
        self.open()
        (claim,) = self.claims()
        for _ in range(3):
            self.run(self.journal.postpone(NAME, claim, 0, waiting_queue="queue"))
        assert self.status()["attempts"] == "0"

    @pytest.mark.parametrize(("options", "relisted"), [({}, False), ({"written": True}, True), ({"error": "x"}, True)])
    def test_whether_something_is_written(self, options: Any, relisted: bool) -> None:
        """Who was not tried listed nobody; after a failure, or if a part may be written, the first listing stays."""
        self.open()
        (claim,) = self.claims()
        assert not claim.relisted
        self.run(self.tested.auxiliary.unfollows.record_unfollow(NAME, "5", ["6"]))
        number = self.run(self.tested.auxiliary.unfollows.last_number(NAME))
        self.run(self.journal.postpone(NAME, claim, 0, **options))
        (again,) = self.claims()
        assert again.relisted is relisted and (again.audience_read_at < number) is relisted

    def test_planned_whole(self) -> None:
        """A plan that is written down whole was no death, and is an attempt until a chunk is done."""
        self.open()
        self.claims()
        claim = self.run(self.journal.renew(NAME, self.claims()[0], begins=True))
        claim = self.run(self.journal.renew(NAME, claim, {0: b"a", 1: b"b"}))
        self.run(self.journal.await_chunks(NAME, claim, 2, 0, 2))
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths) == (2, 0)
        self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 5))
        (claim,) = self.claims()
        assert (claim.tries, claim.deaths) == (1, 0)

    def test_one_that_is_sent_at_once(self) -> None:
        """It is one chunk, and due only when its lease is over."""
        opened = self.run(self.journal.open(NAME, f"{NAME}:one", FOLLOW, b"body", sent=True))
        assert not opened.wake and self.run(self.journal.claim(NAME, 5)).claims == []
        assert self.run(self.journal.begin_chunk(f"{NAME}:one", opened.generation, 0)).times == 1
        (claim,) = self.claims()
        assert (claim.generation, claim.planned, self.run(self.journal.chunks(claim, 0, 5))) == (
            opened.generation,
            1,
            {0: b"body"},
        )
        self.run(self.journal.end_chunk(NAME, claim.id, opened.generation, 0, 1))
        assert "finished" in self.status()

    @pytest.mark.parametrize("op", [ADD, REMOVE])
    def test_the_last_word(self, op: str) -> None:
        """What takes the place of something that may still run is done once more when that has ended, also the same again."""
        self.open()
        self.claims()
        self.open(op=op)
        (claim,) = self.claims()
        self.run(self.journal.finish(NAME, [(claim, 1)]))
        assert "finished" in self.status() and "rerun_at" in self.status()
        (claim,) = self.claims()
        assert claim.op == op and self.status()["previous_progress"] == "1 1 1"
        self.run(self.journal.finish(NAME, [(claim, 1)]))
        self.end(lambda each: self.run(self.journal.finish(NAME, [(each, 1)])))

    def test_nobody_had_it(self) -> None:
        """What takes the place of something that nobody began, or that has ended, is done once."""
        for finished in (False, True):
            self.open(str(finished))
            for claim in self.claims() if finished else ():
                self.run(self.journal.finish(NAME, [(claim, 1)]))
            self.open(str(finished), op=REMOVE)
            self.run(self.journal.finish(NAME, [(claim, 1) for claim in self.claims()]))
            assert "finished" in self.status(str(finished)) and "rerun_at" not in self.status(str(finished))

    @pytest.mark.parametrize("sent", [False, True])
    def test_chunks_that_are_done_once_more(self, sent: bool) -> None:
        """As soon as that is due, and no later or sooner: once behind what ran before, and a lease after its end a last time."""
        self.open()
        self.claims()
        opened = self.run(self.journal.open(NAME, f"{NAME}:one", FOLLOW, b"body", sent=sent))
        runs, claim = 0, None if sent else self.claims()[0]
        while runs < 9:
            runs += 1
            if claim is None:
                self.run(self.journal.end_chunk(NAME, f"{NAME}:one", opened.generation, 0, 1))
            else:
                claim = self.run(self.journal.renew(NAME, claim, {0: b"chunk"}))
                if runs % 2:  # done before all chunks are said to be written down
                    self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 1))
                self.run(self.journal.await_chunks(NAME, claim, 1, 3600, 1))
                self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 1))
            entries = self.run(self.journal.list_due(NAME, 0, 5)).entries
            if not entries:
                break
            assert entries[0][1] == float(self.status()["rerun_at"]) - 0.25
            (claim,) = self.claims()
        assert runs == 3 if sent else runs in (2, 3)

    @pytest.mark.parametrize("by", ["one", "two in turn", "two at a chunk"])
    def test_what_was_done_alone_leaves_nothing(self, by: str) -> None:
        """What was done once more has ended for good: what is asked for next is done once. Unless another was at it, who may
        still run.
        """
        self.open()
        self.claims()
        self.open(op=REMOVE)

        def done(claim: Claim) -> None:
            if by == "two in turn":
                (claim,) = self.claims()
            if by == "two at a chunk":
                claim = self.run(self.journal.renew(NAME, claim, {0: b"chunk"}))
                self.run(self.journal.await_chunks(NAME, claim, 1, LEASE, 1))
                for _ in range(2):
                    self.run(self.journal.begin_chunk(claim.id, claim.generation, 0))
                self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, 0, 1))
            else:
                self.run(self.journal.finish(NAME, [(claim, 1)]))

        self.end(done)
        self.open()
        for claim in self.claims():
            self.run(self.journal.finish(NAME, [(claim, 1)]))
        assert ("rerun_at" in self.status()) is (by != "one")

    def test_what_is_done_once_more_may_still_run(self) -> None:
        """What takes its place meanwhile is itself done once more."""
        self.open()
        self.claims()
        self.open(op=REMOVE)
        self.run(self.journal.finish(NAME, [(claim, 1) for claim in self.claims()]))
        assert self.claims()
        self.open()
        self.run(self.journal.finish(NAME, [(claim, 1) for claim in self.claims()]))
        assert "rerun_at" in self.status()

    @pytest.mark.parametrize("sent", [False, True])
    def test_what_is_not_done_is_absorbed(self, sent: bool) -> None:
        """It has what is left of that to do as well, where it says so."""
        self.open(op=UPDATE)
        opened = self.run(self.journal.open(NAME, f"{NAME}:one", ADD, b"body", succession=ABSORBING, sent=sent))
        assert opened.op == REDELIVER and self.claims()[0].op == REDELIVER
        assert self.run(self.journal.open(NAME, f"{NAME}:one", REMOVE, b"body", sent=sent)).op == REMOVE
        assert self.run(self.journal.open(NAME, f"{NAME}:one", ADD, b"body", succession=ABSORBING)).op == ADD

    def test_what_is_done_is_not_absorbed(self) -> None:
        """Nothing is left of it; unless it was given up, or is to be done once more."""
        one, absorbing = f"{NAME}:one", {"succession": ABSORBING}
        self.open(op=UPDATE)
        (claim,) = self.claims()
        self.run(self.journal.finish(NAME, [(claim, 1)]))
        assert self.run(self.journal.open(NAME, one, ADD, b"body", **absorbing)).op == ADD
        self.open(op=UPDATE)
        (claim,) = self.claims()
        assert self.run(self.journal.dead_letter("why", b"payload", NAME, claim))
        assert self.run(self.journal.open(NAME, one, ADD, b"body", **absorbing)).op == REDELIVER
        self.claims()
        self.open(op=UPDATE)
        (claim,) = self.claims()
        self.run(self.journal.finish(NAME, [(claim, 1)]))
        assert {"finished", "rerun_at"} <= set(self.status())
        assert self.run(self.journal.open(NAME, one, ADD, b"body", **absorbing)).op == REDELIVER

    def test_cancelled(self) -> None:
        """What is not begun will not be, once, unless it is about something else."""
        self.open()
        (claim,) = self.claims()
        assert not self.run(self.journal.cancel(claim.id, REMOVE))
        assert self.run(self.journal.cancel(claim.id, ADD)) and not self.run(self.journal.cancel(claim.id))
        assert {"cancelled", "finished"} <= set(self.status())
        assert self.run(self.journal.renew(NAME, claim)) is None and self.claims() == []
        assert not self.run(self.journal.cancel(f"{NAME}:never"))

    def test_wake_up_messages(self) -> None:
        """One is on its way at a time; a claim takes it off, and more that is due wants another."""
        opened = [self.run(self.journal.open(NAME, f"{NAME}:{n}", ADD, b"body")).wake for n in range(3)]
        assert opened == [True, False, False]
        assert self.run(self.journal.wake_if_overdue(NAME)) == (3, False)
        claims, wake = self.run(self.journal.claim(NAME, 2))
        assert len(claims) == 2 and wake and self.run(self.journal.wake_if_overdue(NAME)) == (1, False)
        assert len(self.run(self.journal.claim(NAME, 2)).claims) == 1
        assert self.run(self.journal.wake_if_overdue(NAME)) == (0, False)
        time.sleep(LEASE * 1.5)
        assert self.run(self.journal.wake_if_overdue(NAME)) == (3, True)

    def test_an_author_at_the_limit(self) -> None:
        """What is beyond the burst is accepted, and due later."""
        for number in range(4):
            self.open(str(number), rate_limit=RateLimit(5, 1 / LEASE, 2))
        assert [claim.id for claim in self.run(self.journal.claim(NAME, 9)).claims] == [f"{NAME}:0", f"{NAME}:1"]
        assert {claim.id for claim in self.claims()} >= {f"{NAME}:2"}

    def test_the_oldest_too(self) -> None:
        """When more is due than one takes, it takes from both ends: neither the newest nor the oldest waits for all others."""
        settings.configure(fanout_lease=60)
        names = []
        for number in range(9):
            names.append(self.open(f"f{number}"))
            time.sleep(0.002)
        assert [claim.id for claim in self.run(self.journal.claim(NAME, 4)).claims] == [*names[:2], *names[7:]]
        assert [claim.id for claim in self.run(self.journal.claim(NAME, 5)).claims] == names[2:7]

    def test_racing_claimers(self) -> None:
        """Workers that claim at the same time never get the same fan-out."""
        settings.configure(fanout_lease=60)
        wanted = [self.open(f"f{number}") for number in range(100)]

        def claim(_: int) -> list[str]:
            taken: list[str] = []
            while claims := self.run(self.journal.claim(NAME, 7)).claims:
                taken += [each.id for each in claims]
            return taken

        with ThreadPoolExecutor(8) as pool:
            taken = [name for names in pool.map(claim, range(8)) for name in names]
        assert sorted(taken) == sorted(wanted)

    def test_errors(self) -> None:
        """A failure is counted, bad ids are told; the last error stays."""
        claim = self.planned(1)
        self.run(self.journal.record_error(claim.id, claim.generation, "first"))
        self.run(self.journal.record_error(claim.id, claim.generation, "2 bad ids", skipped=2))
        assert [self.status()[name] for name in ("failed", "skipped", "error")] == ["1", "2", "2 bad ids"]

    def test_dead_letters(self) -> None:
        """The newest first; what is given up is finished, and asked for again makes the letter go."""
        message = self.run(self.journal.dead_letter("no such task", b"payload"))
        self.open()
        (claim,) = self.claims()
        given_up = self.run(self.journal.dead_letter("tried too often", b"what", NAME, claim))
        first, second = self.run(self.journal.dead_letters(5))
        assert (first.id, first.kind, first.reason, first.payload, first.manager, first.fanout) == (
            *(given_up, FANOUT, "tried too often", b"what"),
            *(NAME, claim.id),
        )
        assert (second.id, second.kind, second.fanout) == (message, MESSAGE, "") and second.seconds > 0
        assert self.run(self.journal.count_dead_letters()) == 2
        assert self.run(self.journal.dead_letters(1)) == [first]
        assert self.run(self.journal.dead_letters(1, message)) == [second]
        assert self.run(self.journal.dead_letters(1, "1-1")) == []
        assert self.status()["dead"] == given_up and "finished" in self.status() and self.claims() == []
        assert self.run(self.journal.delete_dead_letters([message, "1-1"])) == 1
        assert self.run(self.journal.delete_dead_letters([])) == 0
        self.open()
        assert self.run(self.journal.dead_letters(5)) == [] and "dead" not in self.status()

    def test_a_sample_of_chunks(self) -> None:
        """Some of those that are not done, as they were written; none of what was never planned."""
        claim = self.planned(3)
        self.run(self.journal.begin_chunk(claim.id, claim.generation, 0))
        assert sorted(self.run(self.journal.sample_chunks(claim.id, 9))) == [b"chunk0", b"chunk1", b"chunk2"]
        assert len(self.run(self.journal.sample_chunks(claim.id, 1))) == 1
        for number in range(3):
            self.run(self.journal.end_chunk(NAME, claim.id, claim.generation, number, 10))
        assert self.run(self.journal.sample_chunks(claim.id, 9)) == []
        assert self.run(self.journal.sample_chunks(f"{NAME}:nothing", 9)) == []

    def test_the_last_sweep(self) -> None:
        """It is known how long ago it was, once there was one."""
        assert self.run(self.journal.last_sweep()) is None
        self.run(self.journal.record_sweep())
        time.sleep(0.3)
        first = self.run(self.journal.last_sweep())
        assert 0.2 < first < 60
        self.run(self.journal.record_sweep())
        assert self.run(self.journal.last_sweep()) < first

    def test_what_is_listed(self) -> None:
        """Those first that are to be looked at soonest, some of them at a time."""
        names = [self.open(f"f{number}", rate_limit=RateLimit(5, 0.1, 1)) for number in range(4)]
        found = self.run(self.journal.list_due(NAME, 1, 2))
        assert found.number == 4 and found.ids == names[1:3]
        assert [at for _, at in found.entries] == sorted(at for _, at in found.entries)
        assert self.run(self.journal.list_due("Nobody", 0, 5)) == (0, [])


class AuxiliaryContract(Contract):
    """Pending writes, unfollows, notified users."""

    @pytest.mark.parametrize("name", ["pending_index", "aging_index", "idle_index"])
    def test_feeds_to_look_at(self, name: str) -> None:
        """Feeds are due at their time; settling what was scheduled again meanwhile changes nothing."""
        index = getattr(self.tested.auxiliary, name)
        self.run(index.schedule("some", [b"a", b"b"], 0))
        self.run(index.schedule("some", [b"b", b"c"], 60, sooner=True))
        self.run(index.schedule("other", [b"d"], 0))
        assert [self.run(index.count(each)) for each in ("some", "other", "none")] == [3, 1, 0]
        first = self.run(index.due("some", 9))
        assert sorted(entry.owner for entry in first) == [b"a", b"b"] and len(self.run(index.due("some", 1))) == 1
        time.sleep(0.01)
        self.run(index.schedule("some", [b"a"], 0))
        self.run(index.settle("some", first, None))
        assert [entry.owner for entry in self.run(index.due("some", 9))] == [b"a"]
        self.run(index.settle("some", self.run(index.due("some", 9)), 60))
        self.run(index.settle("some", [], None))
        assert self.run(index.due("some", 9)) == []
        assert [entry.owner for entry in self.run(index.due("other", 9))] == [b"d"]

    def test_unfollows(self) -> None:
        """What happened since a number is told, until it is taken back; numbers only grow."""
        unfollows = self.tested.auxiliary.unfollows
        assert self.run(unfollows.last_number(NAME)) == 0
        self.run(unfollows.record_unfollow(NAME, "1", ["7", "8"]))
        first = self.run(unfollows.last_number(NAME))
        self.run(unfollows.record_unfollow(NAME, "2", ["7"]))
        second = self.run(unfollows.last_number(NAME))
        assert second > first > 0 == self.run(unfollows.last_number("Other"))
        pairs = [("1", "7"), ("1", "8"), ("2", "7")]
        assert self.run(unfollows.unfollowed_since(NAME, 0, lambda: pairs)) == set(pairs)
        assert self.run(unfollows.unfollowed_since(NAME, first, lambda: pairs)) == {("2", "7")}
        assert sorted(self.run(unfollows.unfollowers_since(NAME, "7", 0))) == ["1", "2"]
        self.run(unfollows.clear_unfollow(NAME, "1", ["7", "9"]))
        assert self.run(unfollows.unfollowers_since(NAME, "7", 0)) == ["2"]
        assert self.run(unfollows.changes_since(NAME, "1", 0)) == ({"8"}, {"7"})

    def test_many_unfollows(self) -> None:
        """However many there are, those of the pairs that matter are told."""
        unfollows, targets = self.tested.auxiliary.unfollows, list(map(str, range(400)))
        self.run(unfollows.record_unfollow(NAME, "1", targets))
        found = self.run(unfollows.unfollowed_since(NAME, 0, lambda: [("1", "5"), ("1", "x"), ("2", "5")]))
        assert ("1", "5") in found and found <= {("1", target) for target in targets}
        assert self.run(unfollows.unfollowers_since(NAME, "5", 0)) == ["1"]

    def test_rebuilds(self) -> None:
        """While feeds are rebuilt, it is known whom their owner follows anew."""
        unfollows = self.tested.auxiliary.unfollows
        number = self.run(unfollows.begin_rebuild(NAME, "1"))
        self.run(unfollows.clear_unfollow(NAME, "1", ["7"]))
        self.run(unfollows.clear_unfollow(NAME, "2", ["7"]))
        assert self.run(unfollows.changes_since(NAME, "1", number)) == (set(), {"7"})
        assert self.run(unfollows.changes_since(NAME, "2", number)) == (set(), set())

    def test_removal_index(self) -> None:
        """Entries are kept in their order, also twice; the oldest are taken out only if they are what they were."""
        index = self.tested.auxiliary.removal_index
        self.run(index.add(NAME, {0: [b"a", b"\0b", b"a"], 7: [b"z"]}))
        self.run(index.add(NAME, {0: [b"c"]}))
        assert self.run(index.entries(NAME, [0])) == [[b"a", b"\0b", b"a", b"c"]]
        assert self.run(index.entries(NAME, [0], 2)) == [[b"a", b"\0b"]]
        assert self.run(index.entries(NAME, [1])) == [[]] == self.run(index.entries("Other", [0]))
        assert not self.run(index.turn(NAME, 0, [b"\0b"], [b"\0b"]))
        assert self.run(index.turn(NAME, 0, [b"a", b"\0b", b"a"], [b"\0b"]))
        assert self.run(index.entries(NAME, [0])) == [[b"c", b"\0b"]]
        assert self.run(index.turn(NAME, 0, [b"c", b"\0b"], [])) and self.run(index.entries(NAME, [0])) == [[]]

    def test_the_rate_of_requests(self) -> None:
        """A caller has a burst, and then as many as the bucket empties by; whoever is refused has used nothing up."""
        take, burst = self.tested.auxiliary.request_log.take, 3
        hour = 3600 * 1_000_000
        assert [self.run(take("ann", hour, burst * hour)) for _ in range(burst)] == [0, 0, 0]
        waits = [self.run(take("ann", hour, burst * hour)) for _ in range(3)]
        assert all(3_500_000 < wait <= 3_600_000 for wait in waits)
        assert self.run(take("bob", hour, burst * hour)) == 0
        second = 1_000_000
        assert [self.run(take("cleo", second, second)), self.run(take("cleo", second, second)) > 0] == [0, True]
        time.sleep(1.1)
        assert self.run(take("cleo", second, second)) == 0
        assert 0 < self.run(take("ann", 1000, 1000)) <= 1, "what is fuller than it can be counts as full"

    def test_requests_with_keys(self) -> None:
        """One carries a request out at a time; its answer is known to all, and another request has no use for its key."""
        log = self.tested.auxiliary.request_log
        minute, first = 60_000, self.run(log.begin("name", b"this", b"mine", 60_000, 600))
        assert first.state == RequestState.BEGUN and abs(first.first / 1e6 - time.time()) < 60
        assert self.run(log.begin("name", b"this", b"mine", minute, 600)).state == RequestState.BEGUN
        assert self.run(log.begin("name", b"this", b"theirs", minute, 600)).state == RequestState.RUNNING
        assert self.run(log.begin("name", b"that", b"theirs", minute, 600)).state == RequestState.OTHER
        self.run(log.end("name", b"theirs", b"wrong", 600))
        self.run(log.end("name", b"mine", b"", 600))  # it failed
        again = self.run(log.begin("name", b"this", b"theirs", minute, 600))
        assert (again.state, again.first) == (RequestState.BEGUN, first.first)
        self.run(log.end("name", b"mine", b"late", 600))
        self.run(log.end("name", b"theirs", b"answer", 600))
        self.run(log.end("name", b"theirs", b"twice", 600))
        for token in (b"mine", b"theirs"):
            found = self.run(log.begin("name", b"this", token, minute, 600))
            assert found == (RequestState.DONE, first.first, b"answer")
        assert self.run(log.begin("name", b"that", b"mine", minute, 600)).state == RequestState.OTHER
        assert self.run(log.begin("other", b"that", b"mine", minute, 600)).state == RequestState.BEGUN

    def test_a_holder_that_died(self) -> None:
        """Whoever begins a request again that was not ended in time has it, and knows when it came first."""
        log = self.tested.auxiliary.request_log
        first = self.run(log.begin("name", b"this", b"mine", 1, 600))
        time.sleep(0.03)
        again = self.run(log.begin("name", b"this", b"theirs", 60_000, 600))
        assert (again.state, again.first) == (RequestState.BEGUN, first.first)
        self.run(log.end("name", b"mine", b"late", 600))
        assert self.run(log.begin("name", b"this", b"others", 60_000, 600)).state == RequestState.RUNNING
        assert self.run(log.begin("brief", b"this", b"mine", 1, 1)).state == RequestState.BEGUN
        self.run(log.end("brief", b"mine", b"answer", 1))
        time.sleep(1.1)
        assert self.run(log.begin("brief", b"that", b"mine", 1, 1)).state == RequestState.BEGUN

    def test_what_hooks_are_told(self) -> None:
        """One takes a bucket at a time, and for a lease; what was scheduled again meanwhile stays; what failed is put off."""
        queue = self.tested.auxiliary.hook_queue
        self.run(queue.schedule(NAME, {3: [b"a", b"b"], 9: [b"c"]}))
        assert self.run(queue.due(NAME)) == [3, 9] and self.run(queue.due("Other")) == []
        assert self.run(queue.overdue(NAME, -60)) == 3 and self.run(queue.overdue(NAME, 60)) == 0
        first, second = self.run(queue.take(NAME, 3, b"mine", 60_000, 9))
        assert [(each.owner, each.begun, each.deaths) for each in (first, second)] == [(b"a", 0, 0), (b"b", 0, 0)]
        assert self.run(queue.take(NAME, 3, b"theirs", 60_000, 9)) is None
        assert self.run(queue.begin(NAME, 3, b"mine", 60_000, [first, second]))
        assert not self.run(queue.begin(NAME, 3, b"theirs", 60_000, [first]))
        self.run(queue.schedule(NAME, {3: [b"a"]}))
        self.run(queue.settle(NAME, 3, [HookSettlement(first, None), HookSettlement(second, 60, failed=True)], b"mine"))
        (again,) = self.run(queue.take(NAME, 3, b"theirs", 60_000, 9))
        assert (again.owner, again.begun) == (b"a", 0)
        assert self.run(queue.begin(NAME, 3, b"theirs", 1, [again]))
        time.sleep(0.05)  # whoever has it is dead
        (left,) = self.run(queue.take(NAME, 3, b"mine", 60_000, 9))
        assert (left.owner, left.begun, left.deaths) == (b"a", 1, 1)
        self.run(queue.settle(NAME, 3, [HookSettlement(left, None)], b"mine"))
        assert self.run(queue.take(NAME, 3, b"mine", 60_000, 9)) == [] and self.run(queue.due(NAME)) == [9]
        self.run(queue.forget(NAME, {9: [b"c"], 3: [b"b"]}))
        assert self.run(queue.due(NAME)) == [] and self.run(queue.overdue(NAME, -7200)) == 0

    def test_items_that_hooks_are_told_apart(self) -> None:
        """An item that is noted apart has a time and attempts of its own, and goes with its owner; of who is forgotten none is."""
        queue = self.tested.auxiliary.hook_queue
        self.run(queue.schedule(NAME, {3: [b"a", b"ab"]}))
        assert self.run(queue.set_apart(NAME, 3, b"a", [b"\0one", b"two"], 0, 1, 0))
        assert self.run(queue.set_apart(NAME, 3, b"ab", [b"one"], 60, 2, 2))
        assert not self.run(queue.set_apart(NAME, 3, b"nobody", [b"one"], 0, 1, 1))
        assert self.run(queue.set_apart(NAME, 3, b"a", [b"two"], 60, 9, 9))  # once more: nothing changes
        claims = self.run(queue.take(NAME, 3, b"mine", 60_000, 9))
        found = {split_owner(each.owner): (each.begun, each.deaths) for each in claims}
        assert found == {
            (b"a", None): (0, 0),
            (b"ab", None): (0, 0),
            (b"a", b"\0one"): (1, 1),
            (b"a", b"two"): (1, 1),
        }
        assert self.run(queue.overdue(NAME, -7200)) == 5
        self.run(queue.forget(NAME, {3: [b"a"]}))
        assert self.run(queue.overdue(NAME, -7200)) == 2
        (left,) = self.run(queue.take(NAME, 3, b"mine", 60_000, 9))
        assert left.owner == b"ab"
        self.run(queue.forget(NAME, {3: [b"ab"]}))
        assert self.run(queue.overdue(NAME, -7200)) == 0

    def test_lists_of_what_hooks_are_told(self) -> None:
        """Items are read from the oldest on; dropping what is gone changes nothing. A wake-up message counts as sent until it is answered."""
        queue = self.tested.auxiliary.hook_queue
        key = ContractNotes.key_of(5) + ARRIVALS
        self.run(queue.put(key, [b"one", b"two", b"three"]))
        assert self.run(queue.items([key, key + "x"], 2)) == [[b"one", b"two"], []]
        assert self.run(queue.drop(key, [b"two"])) == 2 == self.run(queue.drop(key, [b"two"]))
        assert (
            self.run(queue.items([key], 9)) == [[b"one", b"three"]]
            and self.run(queue.drop(key, [b"one", b"three"])) == 0
        )
        assert self.run(queue.wake(NAME)) and not self.run(queue.wake(NAME)) and self.run(queue.wake("Other"))
        self.run(queue.due(NAME, answering=True))
        assert self.run(queue.wake(NAME))
        many = [b"%d" % number for number in range(MOST_ARRIVALS + 1)]
        self.run(queue.put(key, many))  # what is told once more is as much as there was, of ended fan-outs say
        assert self.run(queue.items([key], 2 * MOST_ARRIVALS)) == [many]

    def test_dead_letters_that_hooks_are_told(self) -> None:
        """Those of a manager and of nobody, from the oldest on, up to which they were told."""
        queue, journal = self.tested.auxiliary.hook_queue, self.tested.journal
        assert self.run(queue.untold_dead_letters(NAME, 9)) == ([], "")
        ids = [self.run(journal.dead_letter("why", b"x", manager)) for manager in ("", NAME, "Other", NAME)]
        found, last = self.run(queue.untold_dead_letters(NAME, 9))
        assert [each.id for each in found] == [ids[0], ids[1], ids[3]] and last == ids[3]
        assert [each.kind for each in found] == [MESSAGE, HOOK, HOOK]
        self.run(queue.dead_letters_told(NAME, ids[1]))
        assert [each.id for each in self.run(queue.untold_dead_letters(NAME, 1)).dead_letters] == []
        assert [each.id for each in self.run(queue.untold_dead_letters(NAME, 9)).dead_letters] == [ids[3]]

    def test_ended_fanouts(self) -> None:
        """Each that is to be told stands in a list once it has ended, once; those of which nobody is told do not."""
        journal, queue = self.tested.journal, self.tested.auxiliary.hook_queue
        for name, tells in (("one", True), ("two", True), ("three", True), ("silent", False)):
            self.run(journal.open(NAME, f"{NAME}:{name}", ADD, b"body", tells=tells))
        claims, _ = self.run(journal.claim(NAME, 9))
        by_name = {claim.id.partition(":")[2]: claim for claim in claims}
        for _ in range(2):
            self.run(journal.finish(NAME, [(by_name["one"], 7), (by_name["silent"], 1)]))
        self.run(journal.cancel(f"{NAME}:two"))
        self.run(journal.open(NAME, f"{NAME}:three", REMOVE, b"body", tells=True))
        (items,) = self.run(queue.items([ended_key(NAME)], 9))
        assert [item.split(b"\n")[:2] for item in items] == [
            [b"done", b"one"],
            [b"cancelled", b"two"],
            [b"replaced", b"three"],
        ]
        assert items[0].split(b"\n")[3:7] == [ADD.encode(), b"1", b"1", b"7"]

    def test_arrivals(self) -> None:
        """What a commit says came in stands beside the feed, if the lock was held; a deleted feed has none."""
        feed, queue = ContractNotes(7), self.tested.auxiliary.hook_queue
        limits = FeedLimits(100, 0, "", tells=True)
        for token, item in ((b"holder__", b"first"), (b"holder__", b"late")):
            if item == b"first":
                lock = Lock(token, time.time(), 30)
                (snapshot,) = self.run(feed.timeline().begin(_OneFeed(feed), NOTHING, lock, limits))
                basis = snapshot.basis
            changes = Changes(feed.key, b"", count_key=feed.count_key, arrivals=[item], basis=basis)
            self.run(feed.timeline().commit([changes], lock, ""))
        assert self.run(queue.items([feed.key + ARRIVALS], 9)) == [[b"first"]]
        feed.delete()
        assert self.run(queue.items([feed.key + ARRIVALS], 9)) == [[]]

    def test_rebuilds_where_there_are_filters(self) -> None:
        """Who rebuilds feeds that are filtered says so to all who asked the filters before, and to them alone."""
        unfollows = self.tested.auxiliary.unfollows
        before = self.run(unfollows.last_number(NAME))
        number = self.run(unfollows.begin_rebuild(NAME, "1", refiltered=True))
        assert number == self.run(unfollows.last_number(NAME)) > before
        mark = ("1", REFILTERED)
        assert self.run(unfollows.unfollowed_since(NAME, before, lambda: [mark])) == {mark}
        assert self.run(unfollows.unfollowed_since(NAME, number, lambda: [mark])) == set()
        assert self.run(unfollows.changes_since(NAME, "1", before)) == (set(), set())
        self.run(unfollows.begin_rebuild(NAME, "1"))
        assert self.run(unfollows.unfollowed_since(NAME, number, lambda: [mark])) == set()

    def test_notified_users(self) -> None:
        """The last call about a user counts, by its number; a removal makes all before it void."""
        notified, raw_id = self.tested.auxiliary.notified_users, _id(1)
        assert self.run(notified.numbers(NAME, raw_id)) is None
        first = self.run(notified.record(NAME, raw_id, True, {"a": b"users", "b": b"others"}))
        assert self.run(notified.record(NAME, raw_id, True, {"c": b"more"}, first)) == first
        second = self.run(notified.record(NAME, raw_id, False, {"a": b"users"}))
        self.run(notified.record(NAME, raw_id, True, {"a": b"late"}, first))
        found = self.run(notified.notifications(NAME, raw_id))
        assert second > first and found.numbers == (second, -1) == self.run(notified.numbers(NAME, raw_id))
        assert found.notifications == {"a": (second, False), "b": (first, True), "c": (first, True)}
        assert self.run(notified.users(NAME, raw_id, ["a", "b", "x"])) == {"a": b"users", "b": b"others"}
        assert self.run(notified.users(NAME, raw_id, [])) == {}
        self.run(notified.void(NAME, raw_id))
        last, removed = self.run(notified.numbers(NAME, raw_id))
        assert last == removed > second

    def test_a_user_is_taken_out_of_what_was_said(self) -> None:
        """What is left of a direct notification has another name, and the activity another number; of a second user it keeps that name."""
        notified, raw_id = self.tested.auxiliary.notified_users, _id(1)
        first = self.run(
            notified.record(NAME, raw_id, True, {"M:a1": pack([1, "2", 3]), "M:b": pack([3]), "M:c": b"?"})
        )
        self.run(notified.record("Other", raw_id, True, {"M:a1": pack([1])}))
        self.run(notified.forget_user(NAME, "1"))
        last = self.run(notified.numbers(NAME, raw_id)).last
        left = f"M:a1*{first}"
        assert last > first and (fanout_of(left), fanout_of("M:b")) == ("M:a1", "M:b")
        said = {left: (first, True), "M:b": (first, True), "M:c": (first, True)}
        assert self.run(notified.notifications(NAME, raw_id)).notifications == said
        self.run(notified.record(NAME, raw_id, False, {"M:a1": pack([1, "2", 3])}))
        self.run(notified.forget_user(NAME, "3"))
        again = self.run(notified.notifications(NAME, raw_id))
        assert again.numbers.last > last and {*again.notifications} >= {left, "M:c"} and len(again.notifications) == 3
        users = self.run(notified.users(NAME, raw_id, [*again.notifications]))
        assert users.pop("M:c") == b"?" and users.pop(left) == pack(["2"]) and [*users.values()] == [pack([1, "2"])]
        assert self.run(notified.users("Other", raw_id, ["M:a1"])) == {"M:a1": pack([1])}

    def test_unfollows_of_a_user_are_forgotten(self) -> None:
        """Those up to a number, by whom and of whom they are; what rebuilds left up to a number of its own, or not at all."""
        unfollows = self.tested.auxiliary.unfollows
        for user, target in (("1", "2"), ("2", "1"), ("2", FROM_FEEDS + "1"), ("2", "3"), ("3", "1")):
            self.run(unfollows.record_unfollow(NAME, user, [target]))
        number = self.run(unfollows.last_number(NAME))
        mark = self.run(unfollows.begin_rebuild(NAME, "1", refiltered=True))
        self.run(unfollows.record_unfollow(NAME, "3", ["1"]))
        later, before = [("3", "1"), ("2", "3")], [("1", "2"), ("2", "1"), ("2", FROM_FEEDS + "1")]
        pairs = [*later, ("1", REFILTERED), *before]
        self.run(unfollows.forget_user(NAME, "1", number, None))
        assert self.run(unfollows.unfollowed_since(NAME, 0, lambda: pairs)) == {*pairs[:3]}
        self.run(unfollows.clear_unfollow(NAME, "1", ["9"]))
        assert self.run(unfollows.changes_since(NAME, "1", mark)) == (set(), {"9"})
        self.run(unfollows.forget_user(NAME, "1", number, mark))
        assert self.run(unfollows.unfollowed_since(NAME, 0, lambda: pairs)) == {*later}
        after = self.run(unfollows.last_number(NAME))
        self.run(unfollows.clear_unfollow(NAME, "1", ["9"]))
        assert self.run(unfollows.changes_since(NAME, "1", after)) == (set(), set())


class PubSubContract(Contract):
    """Publishing, and listening from threads and coroutines."""

    def publish(self, channel: str, *messages: bytes) -> None:
        """Publish *messages* on *channel*."""
        for message in messages:
            self.run(self.tested.pubsub.publish(channel, message))

    @staticmethod
    def heard(listener: Listener, number: int) -> list[tuple[str, bytes]]:
        """The next *number* things that *listener* hears, or fewer if they do not come."""
        found: list[tuple[str, bytes]] = []
        while len(found) < number and (some := listener.get(SOON)):
            found += some
        return found

    def test_a_listener(self) -> None:
        """It hears its channels, from when it says that it listens until it is closed."""
        listener = self.tested.pubsub.listen(["contract:one", "contract:{2}"])
        try:
            begun = [("contract:one", LISTENING), ("contract:{2}", LISTENING)]
            assert sorted(self.heard(listener, 2)) == sorted(begun)
            self.publish("contract:two", b"not this")
            self.publish("contract:one", b"first", b"second \xff\x00")
            self.publish("contract:{2}", b"third")
            found = [("contract:one", b"first"), ("contract:one", b"second \xff\x00"), ("contract:{2}", b"third")]
            assert self.heard(listener, 3) == found
            assert listener.get(0.05) == listener.get(0) == []
        finally:
            listener.close()
        assert listener.get(None) == [] == listener.get(0)

    def test_many_listeners(self) -> None:
        """Each hears what it wants, whoever else wants it, or wants it no more."""
        listeners = [self.tested.pubsub.listen(["contract:one"]) for _ in range(3)]
        other = self.tested.pubsub.listen(["contract:two"])
        everything = self.tested.pubsub.listen([], "contract:[*?")
        try:
            assert [self.heard(each, 1) for each in listeners] == [[("contract:one", LISTENING)]] * 3
            assert self.heard(other, 1) == [("contract:two", LISTENING)]
            assert self.heard(everything, 1) == [("contract:[*?", LISTENING)]
            listeners.pop().close()
            self.publish("contract:one", b"one")
            self.publish("contract:x", b"to nobody")
            self.publish("contract:[*?x", b"to all")
            self.publish("contract:two", b"two")
            assert [self.heard(each, 1) for each in listeners] == [[("contract:one", b"one")]] * 2
            assert self.heard(other, 1) == [("contract:two", b"two")]
            assert self.heard(everything, 1) == [("contract:[*?x", b"to all")]
            other.close()
            again = self.tested.pubsub.listen(["contract:two"])
            listeners.append(again)
            assert self.heard(again, 1) == [("contract:two", LISTENING)]
            self.publish("contract:two", b"again")
            assert self.heard(again, 1) == [("contract:two", b"again")]
        finally:
            for each in (*listeners, other, everything):
                each.close()

    def test_a_listener_that_is_late(self) -> None:
        """Of more than a thousand messages that nobody took it may be told instead that some were missed."""
        listener = self.tested.pubsub.listen(["contract:one"])
        try:
            assert self.heard(listener, 1) == [("contract:one", LISTENING)]
            self.publish("contract:one", *(b"%d" % number for number in range(1500)))
            found = self.heard(listener, 1)
            while found[-1][1] not in (LISTENING, b"1499") and (some := listener.get(SOON)):
                found += some
            assert found[-1][1] in (LISTENING, b"1499")
            self.publish("contract:one", b"last")
            found = self.heard(listener, 1)
            while found[-1][1] != b"last" and (some := listener.get(SOON)):
                found += some
            assert found[-1] == ("contract:one", b"last")
        finally:
            listener.close()

    def test_closed_while_it_waits(self) -> None:
        """Who waits goes on at once when another thread closes it."""
        listener = self.tested.pubsub.listen(["contract:one"])
        assert self.heard(listener, 1)
        timer = threading.Timer(0.05, listener.close)
        timer.start()
        assert listener.get(SOON) == []
        timer.join()

    def test_a_coroutine_listens(self) -> None:
        """So it is from a coroutine."""

        async def hear() -> list[Any]:
            listener = self.tested.pubsub.alisten(["contract:one"])
            other = self.tested.pubsub.alisten(["contract:one"])
            try:
                heard = [await listener.get(SOON), await other.get(SOON)]
                await self.tested.arun(self.tested.pubsub.publish("contract:one", b"message"))
                heard += [await listener.get(SOON), await other.get(SOON), await listener.get(0.05)]
                asyncio.get_running_loop().call_later(0.05, lambda: tasks.append(asyncio.ensure_future(other.aclose())))
                return [*heard, await other.get(None)]
            finally:
                await listener.aclose()
                await self.tested.aclose()

        tasks: list[Any] = []
        begun, message = [("contract:one", LISTENING)], [("contract:one", b"message")]
        assert asyncio.run(hear()) == [begun, begun, message, message, [], []]


class TimelineMaintenanceContract(Contract):
    """What the doctor sees and repairs of timelines, on whatever servers they are."""

    @property
    def reads(self) -> TimelineMaintenance:
        """What reads them."""
        return maintenance(self.tested.groups)

    def test_all_feeds_are_seen(self) -> None:
        """A scan finds each feed once or more, with its type, and others of this name are not there."""
        feed, flat = ContractNotes(1), "fm:contract:flat:{1}"
        feed.add(Activity(1, Love, 5))
        self.run(self.tested.flat.flat_add([flat], [_id(1)], 10))
        hashes = [(feed.key + GROUPS).encode(), (ContractNotes(2).key + GROUPS).encode()]
        assert {hashes[0], flat.encode()} <= self._scanned()
        keys = [*hashes, flat.encode(), b"none"]
        assert self.run(self.reads.types(keys)) == ["hash", "none", "string", "none"]
        assert self.run(self.reads.number(keys)) == 2
        assert self.run(self.reads.size()) >= 2

    def _scanned(self) -> set[bytes]:
        cursor, found = 0, set[bytes]()
        while True:
            cursor, keys = self.run(self.reads.scan(cursor))
            found |= set(keys)
            if not cursor:
                return found

    def test_a_feed(self) -> None:
        """All of a feed is seen; a lock is let go if it is still the one that was seen."""
        feed, reads = ContractNotes(1), self.reads
        feed.add(Activity(1, Love, 5))
        lock = Lock(b"stranger", time.time(), 30)
        self.run(feed.timeline().begin(_OneFeed(feed), NOTHING, lock, FeedLimits(100, 0, feed.channel())))
        found = self.run(reads.feed(feed.key, feed.count_key))
        assert (len(found.scores), list(found.records), found.wrong, found.pending) == (1, list(found.scores), {}, b"")
        assert found.lock == pytest.approx(lock.now + lock.ttl, abs=0.002) and found.count == b"1 1 1"
        assert found.scores_flaw == ""
        self.run(reads.clear(feed.key, feed.count_key))
        assert self.run(reads.feed(feed.key, feed.count_key)) == found
        self.run(reads.unlock(feed.key, found.lock + 5))
        assert self.run(reads.feed(feed.key, feed.count_key)).lock == found.lock
        self.run(reads.unlock(feed.key, found.lock))
        assert self.run(reads.feed(feed.key, feed.count_key)).lock is None
        assert self.run(reads.feed(ContractNotes(2).key, "")).records == {}

    def test_flat_feeds(self) -> None:
        """A flat feed is read whole, and loses the ids that are to go."""
        key, ids = "contract:flat:{1}", [_id(number) for number in range(1, 4)]
        self.run(self.tested.flat.flat_add([key], ids, 10))
        (found, none) = self.run(self.reads.flats([key.encode(), b"none"]))
        assert found == (b"".join(ids), ()) and none is None
        assert self.run(self.reads.flat_put(key, found, ids[0] + ids[2]))
        assert self.run(self.tested.flat.flat_slice(key, 0, 9)) == [ids[2], ids[0]]
        self.run(self.reads.flat_put(key, found, ids[2]))  # of what was read before
        assert ids[2] in self.run(self.tested.flat.flat_slice(key, 0, 9))

    def test_overflows(self) -> None:
        """A group's overflow is read between two looks at its record."""
        groups, reads, head = self.tested.groups, self.reads, bytes([HAS_OVERFLOW])
        lock, limits = Lock(b"writer__", time.time(), 10), FeedLimits(100, 0, "")
        self.run(groups.begin(_Feeds(1, counted=False), NOTHING, lock, limits))
        overflow: list[Any] = [(b"g", actor, SET, b"x") for actor in _actors(3)]
        self.run(groups.commit([Changes(key_of(1), b"", put=[(b"g", head, 1.0)], overflow=overflow)], lock, ""))
        asked = [(key_of(1), b"g"), (key_of(1), b"none")]
        assert self.run(reads.overflow_sizes(asked)) == [3, 0]
        found = dict.fromkeys(_actors(3), b"x")
        assert self.run(reads.overflows(asked)) == [(head, found, head), (None, {}, None)]
        assert self.run(reads.feed(key_of(1), "")).overflows == {b"g": 3}
        assert self.run(reads.feed(key_of(1), "", [b"g", b"none"])).overflows == {b"g": 3, b"none": 0}


class MaintenanceContract(TimelineMaintenanceContract):
    """What the doctor sees and repairs."""

    def test_everything_is_seen(self) -> None:
        """A scan finds each key once or more, with its type."""
        feed, record = ContractNotes(1), fanout_record_key(f"{NAME}:one").encode()
        feed.add(Activity(1, Love, 5))
        self.run(self.tested.journal.open(NAME, f"{NAME}:one", ADD, b"body"))
        found = self._scanned()
        assert {feed.key.encode() + b":groups", feed.count_key.encode(), record} <= found
        assert self.run(self.reads.types([record, feed.count_key.encode(), b"none"])) == ["hash", "string", "none"]
        assert self.run(self.reads.number([record, b"none"])) == 1 and self.run(self.reads.size()) >= len(found)
        assert self.run(self.tested.maintenance.expires([fanout_record_key(f"{NAME}:one")])) == [True]

    def test_a_flat_feed_is_replaced_whole(self) -> None:
        """Nothing is done with one that was changed since it was read."""
        key = "contract:flat:{1}"
        self.run(self.tested.flat.flat_add([key], [_id(1), _id(2)], 10))
        assert not self.run(self.reads.flat_put(key, StoredFlat(_id(1)), _id(3)))
        assert self.run(self.tested.flat.flat_slice(key, 0, 9)) == [_id(2), _id(1)]

    def test_the_journal(self) -> None:
        """Records and bodies are read; what is due is put in and taken out."""
        maintenance, fanout = self.tested.maintenance, f"{NAME}:one"
        self.run(self.tested.journal.open(NAME, fanout, ADD, b"body"))
        (record, none) = self.run(maintenance.fanout_records([fanout, f"{NAME}:two"]))
        assert (record["op"], record["manager"], none) == (ADD.encode(), NAME.encode(), {}) and "body" not in record
        assert self.run(maintenance.fanout_records([fanout], body=True)) == [{**record, "body": b"body"}]
        assert self.run(maintenance.overdue(NAME, 0)) == 1 and self.run(maintenance.overdue(NAME, 60)) == 0
        self.run(maintenance.due_drop(NAME, fanout))
        assert self.run(maintenance.due_at(NAME, fanout)) is None and self.run(maintenance.overdue(NAME, 0)) == 0
        self.run(maintenance.due_put(NAME, fanout))
        assert self.run(maintenance.due_at(NAME, fanout)) is not None
        self.run(maintenance.forget(fanout_record_key(fanout), 60))
        assert self.run(maintenance.fanout_records([fanout])) == [record]
        self.run(maintenance.forget(fanout_record_key(fanout)))
        assert self.run(maintenance.fanout_records([fanout])) == [{}]

    def test_the_server(self) -> None:
        """Facts are texts; there may be none."""
        assert all(map(str.isascii, self.run(self.tested.maintenance.facts())))


class BackendContract(
    DriverContract,
    FlatContract,
    IdleContract,
    ActivitiesContract,
    JournalContract,
    AuxiliaryContract,
    PubSubContract,
    MaintenanceContract,
):
    """All that a backend must do."""
