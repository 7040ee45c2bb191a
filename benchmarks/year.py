"""Feeds of people who have been there for a year: all lengths, groups of all sizes, written and read as on any day."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.feeds import (
    FLAT,
    GROUPS,
    MEMBERS,
    Aggregated,
    Flat,
    Notification,
    copy_feed,
    deliver,
    keys_of,
    love,
)
from benchmarks.measure import Row, check, client_us, faster, in_turn, rate, server_us
from benchmarks.reads import read
from feedmill import Activity

#: Feeds that are filled through Feedmill, each of another length; the others are copies.
LENGTHS = 20
#: Members of a group: a bounded Pareto distribution, most groups have a few, and some have more than a record holds.
FEWEST, MOST, SHAPE = 1.0, 400, 0.9
#: Deliveries after which all begins anew: so many go to today's group, start one, go to that of some days ago, and are
#: older than the newest of yesterday's.
TODAY, NEW, SOME_DAYS_AGO, LATE = 11, 4, 3, 2
DAY = TODAY + NEW + SOME_DAYS_AGO + LATE
#: A user in so many marks all between two deliveries.
MARKING = 10
#: Users whose pages are read.
READERS = 40


def year(bench: Bench) -> Iterator[Row]:
    """All rows."""
    kinds: list[tuple[str, Any]] = [("flat", Flat), ("aggregated", Aggregated), ("notification", Notification)]
    for name, feed_class in kinds:
        bench.say(f"a year-old user's feed: {name}")
        bench.empty()
        users = list(range(1, bench.amounts.feeds // 2 + 1))
        for place in range(LENGTHS):
            _fill(feed_class, template := -1 - place, (place + 1) / LENGTHS)
            copy_feed(bench.client, feed_class, users[place::LENGTHS], template)
        yield _writes(bench, f"year_{name}", feed_class, users)
        yield read(bench, f"year_read_{name}", feed_class, users[:READERS])
    bench.empty()


def size_of(day: int) -> int:
    """Members of the group of day *day*."""
    chance = (day * 2_654_435_761 % 2**32 + 1) / (2**32 + 1)
    rest = 1 - chance * (1 - (FEWEST / MOST) ** SHAPE)
    return int(FEWEST / rest ** (1 / SHAPE))


def _fill(feed_class: Any, user: int, part: float) -> None:
    """Give *user* the newest *part* of what a feed may hold; the older half of it seen."""
    if feed_class is Flat:
        deliver_all(Flat, user, [love(0, number) for number in range(round(FLAT * part))])
        return
    days = range(GROUPS - round(GROUPS * part), GROUPS)
    for day in days:
        deliver_all(feed_class, user, [love(day, number) for number in range(size_of(day))])
        if feed_class is Notification and day == days[len(days) // 2]:
            feed_class(user).mark_all()


def deliver_all(feed_class: Any, user: int, activities: list[Activity]) -> None:
    """Add *activities*, a hundred at a time."""
    for start in range(0, len(activities), 100):
        feed_class(user).add_many(activities[start : start + 100])


@dataclasses.dataclass(frozen=True)
class _Delivery:
    """One of a day's deliveries."""

    day: int
    number: int
    new_group: bool = False
    seconds: int = 0

    @property
    def activity(self) -> Activity:
        return love(self.day, self.number, seconds=self.seconds)


def _delivery(number: int) -> _Delivery:
    """The *number*-th delivery. Actors are new, as groups that grow in life have no end of them."""
    step = number * 7 % DAY  # seven has no factor in common with a day: kinds take turns
    started = GROUPS - 1 + sum(_starts(earlier) for earlier in range(number + 1))
    if _starts(number):
        return _Delivery(started, 0, new_group=True)
    if step < TODAY + NEW:
        return _Delivery(started, MOST + number)
    if step < TODAY + NEW + SOME_DAYS_AGO:
        return _Delivery(started - 3, MOST + number)
    return _Delivery(started - 1, number % 50, seconds=1 + number)


def _starts(number: int) -> bool:
    return TODAY <= number * 7 % DAY < TODAY + NEW


def _writes(bench: Bench, name: str, feed_class: Any, users: list[int]) -> Row:
    """Deliveries to all *users* beside the script floor, with marks between them."""
    script, kept, entries = floors.Script(bench.client), 0, 0
    for user in users[:LENGTHS]:
        keys = keys_of(bench.client, feed_class(user).key)
        kept += sum(bench.client.memory_usage(key, samples=0) for key in keys)
        entries += feed_class(user).count()
    if feed_class is Flat:
        floors.fill_flat_floor(bench.client, users)
        first = 3 * FLAT  # newer than all that is there
        ways: dict[str, Callable[[int], Any]] = {
            "ours": lambda n: deliver(Flat, users, love(0, first + n)),
            "script": lambda n: script.flat(users, first + n, love(0, first + n).raw_id),
        }
    else:
        sizes = [
            floors.record_size(bench.client, feed_class, -LENGTHS, floors.group_of(feed_class, day))
            for day in range(GROUPS)
        ]
        size = sum(sizes) // len(sizes)
        floors.fill_groups_floor(bench.client, feed_class, users, size)
        ways = {
            "ours": lambda n: deliver(feed_class, users, _delivery(n).activity),
            "script": lambda n: script.groups(users, _floor(feed_class, n, size)),
        }
        if feed_class is Notification:
            ways["mark"] = lambda n: [feed_class(user).mark_all() for user in users[n % MARKING :: MARKING]]
    rounds, warmups = 2 * bench.amounts.rounds, 2
    taken = in_turn(bench.client, ways, rounds, warmups)
    _check(feed_class, users, warmups + rounds)
    by_script, speed = faster(taken["script"], taken["ours"]), rate(taken["ours"], len(users))
    marks = {"mark_us": round(1e6 / rate(taken["mark"], len(users) // MARKING).median)} if "mark" in taken else {}
    return {
        "name": name,
        "ours_per_s": round(speed.median),
        "script_per_s": round(rate(taken["script"], len(users)).median),
        "ratio_script": round(by_script.median, 2),
        "spread_script": by_script.pair(),
        "client_us": client_us(taken["ours"], len(users)),
        "server_us": server_us(taken["ours"], len(users)),
        "bytes_per_entry": round(kept / entries, 1),
        **marks,
    }


def _floor(feed_class: Any, number: int, size: int) -> floors.Write:
    """What the floor writes for the *number*-th delivery; a full feed gives up its oldest group, but few are full."""
    wanted = _delivery(number)
    count = b"%d" % number if feed_class is Notification else b""
    record = bytes(size // MEMBERS if wanted.new_group else size)
    return floors.Write(1000 + number, floors.group_of(feed_class, wanted.day), record, count=count)


def _check(feed_class: Any, users: list[int], deliveries: int) -> None:
    """All that was delivered is there, in the shortest feed and in the longest."""
    if feed_class is Flat:
        Flat.insert_activities([love(0, 3 * FLAT + number) for number in range(deliveries)])
        for place, user in enumerate(users[:LENGTHS]):
            held = min(FLAT, round(FLAT * (place + 1) / LENGTHS) + deliveries)
            check(Flat(user).count() == held, f"flat feed {user} holds {Flat(user).count()}, not {held}")
        return
    made = [_delivery(number) for number in range(deliveries)]
    feed_class.insert_activities([each.activity for each in made])
    wanted: dict[str, int] = {}
    for each in made:
        name = str(feed_class.get_aggregator().get_group(each.activity))
        wanted[name] = wanted.get(name, size_of(each.day) if each.day < GROUPS else 0) + 1
    for user in users[:LENGTHS]:
        counts = {group.group: group.activity_count for group in feed_class(user)[:]}
        wrong = {name: (counts.get(name), count) for name, count in wanted.items() if counts.get(name) != count}
        check(not wrong, f"{feed_class.__name__} of {user}: groups have and should have {wrong}")
