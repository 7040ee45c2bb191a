"""Deliveries of one activity to thousands of full timelines, ours beside the two floors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.feeds import (
    CHUNK,
    GROUPS,
    MEMBERS,
    TEMPLATE,
    Aggregated,
    Flat,
    Notification,
    copy_feed,
    deliver,
    fill_flat,
    fill_groups,
    late_love,
    love,
)
from benchmarks.measure import Row, Taken, check, client_us, faster, in_turn, rate, server_us
from feedmill import Activity
from feedmill.storage.registry import backend

#: Rounds before those that count.
WARMUPS = 2
#: A round of flat deliveries is over in milliseconds, so there are so many times more.
FLAT_ROUNDS = 4
#: Feeds whose content is looked at afterwards; counts are looked at in all.
LOOKED_AT = 20


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of delivery into feeds of 99 groups of 15."""

    name: str
    feed_class: Any
    #: The activity of round n. Each round has a group of its own, so groups stay as large as they are said to be.
    activity: Callable[[int], Activity]
    #: Whether a delivery starts a group, and the oldest one has to go.
    new_group: bool = False
    #: Whether all go into one group, which is of all the sizes at which members are moved to the overflow or not.
    growing: bool = False
    #: Whether all groups are seen before, so that every delivery changes the badge.
    seen: bool = False


def _next(number: int) -> Activity:
    return love(number % GROUPS, MEMBERS)


def _new(number: int) -> Activity:
    return love(GROUPS + number, 0)


def _more(number: int) -> Activity:
    return love(GROUPS - 1, 2 * MEMBERS + number)


def _late(number: int) -> Activity:
    return late_love(number % GROUPS, number)


CASES = [
    Case("aggregated", Aggregated, _next),
    Case("aggregated_new_group", Aggregated, _new, new_group=True),
    Case("aggregated_late", Aggregated, _late),
    Case("aggregated_growing", Aggregated, _more, growing=True),
    Case("notification", Notification, _next, seen=True),
    Case("notification_new_group", Notification, _new, new_group=True, seen=True),
    Case("notification_same_badge", Notification, _next),
    Case("notification_growing", Notification, _more, growing=True),
]


def writes(bench: Bench) -> Iterator[Row]:
    """All rows."""
    yield _flat(bench)
    for case in CASES:
        yield _groups(bench, case)
    bench.empty()


def _flat(bench: Bench) -> Row:
    bench.say("deliveries: flat")
    bench.empty()
    users = list(range(1, bench.amounts.feeds + 1))
    fill_flat(bench.client, users)
    floors.fill_flat_floor(bench.client, users)
    pipeline, script = floors.Pipeline(bench.client), floors.Script(bench.client)
    first, rounds = 3 * 1000, FLAT_ROUNDS * bench.amounts.rounds  # newer than all that is there

    def bare(way: floors.Pipeline | floors.Script, number: int) -> None:
        way.flat(users, first + number, love(0, first + number).raw_id)

    taken = in_turn(
        bench.client,
        {
            "ours": lambda n: deliver(Flat, users, love(0, first + n)),
            "pipeline": lambda n: bare(pipeline, 2 * n),
            "script": lambda n: bare(script, 2 * n + 1),
        },
        rounds,
        WARMUPS,
    )
    rounds += WARMUPS
    newest = [love(0, first + number) for number in reversed(range(rounds))]
    ids = [activity.raw_id for activity in newest]
    Flat.insert_activities(newest)
    for user in users[:: max(1, len(users) // LOOKED_AT)]:
        shown = [activity.raw_id for activity in Flat(user)[:rounds]]
        check(shown == ids, f"flat feed {user} does not show what was delivered")
    check(all(Flat(user).count() == Flat.max_length for user in users), "a flat feed is not full")
    return _row("flat", taken, len(users), _round_trips(Flat, users, love(0, first + rounds)))


def _groups(bench: Bench, case: Case) -> Row:
    bench.say(f"deliveries: {case.name}")
    bench.empty()
    users = list(range(1, bench.amounts.feeds + 1))
    fill_groups(case.feed_class, seen=case.seen)
    if not case.growing:
        copy_feed(bench.client, case.feed_class, users)
    for step in range(MEMBERS if case.growing else 0):
        copy_feed(bench.client, case.feed_class, users[step::MEMBERS])
        case.feed_class(TEMPLATE).add(love(GROUPS - 1, MEMBERS + step))
    size = floors.record_size(bench.client, case.feed_class, TEMPLATE)
    floors.fill_groups_floor(bench.client, case.feed_class, users, size)
    pipeline, script = floors.Pipeline(bench.client), floors.Script(bench.client)

    def write(number: int) -> floors.Write:
        day = GROUPS + number if case.new_group else GROUPS - 1 if case.growing else number % GROUPS
        return floors.Write(
            score=1000 + number,
            group=floors.group_of(case.feed_class, day),
            record=bytes(size // MEMBERS if case.new_group else size),
            oldest=floors.group_of(case.feed_class, number) if case.new_group else b"",
            count=b"%d" % number if case.seen else b"",
        )

    taken = in_turn(
        bench.client,
        {
            "ours": lambda n: deliver(case.feed_class, users, case.activity(n)),
            "pipeline": lambda n: pipeline.groups(users, write(2 * n)),
            "script": lambda n: script.groups(users, write(2 * n + 1)),
        },
        bench.amounts.rounds,
        WARMUPS,
    )
    rounds = WARMUPS + bench.amounts.rounds
    case.feed_class.insert_activities([case.activity(number) for number in range(rounds)])
    _check_groups(case, users, rounds)
    return _row(case.name, taken, len(users), _round_trips(case.feed_class, users, case.activity(rounds)))


def _check_groups(case: Case, users: list[int], rounds: int) -> None:
    touched = {str(case.feed_class.get_aggregator().get_group(case.activity(number))) for number in range(rounds)}
    for user in users[:: max(1, len(users) // LOOKED_AT)]:
        wanted = 1 if case.new_group else MEMBERS + 1
        if case.growing:
            wanted = MEMBERS + (user - 1) % MEMBERS + rounds
        counts = {group.group: group.activity_count for group in case.feed_class(user)[:]}
        check(len(counts) == GROUPS, f"{case.name}: feed {user} has {len(counts)} groups")
        check(all(counts.get(group) == wanted for group in touched), f"{case.name}: feed {user} has wrong groups")
        others = {count for group, count in counts.items() if group not in touched}
        check(others == {MEMBERS}, f"{case.name}: feed {user} has groups of {others}")
    if case.feed_class is Notification:
        badge = rounds if case.seen else GROUPS
        for user in users:
            shown = Notification(user).get_denormalized_count()
            check(shown == badge, f"{case.name}: badge of {user} is {shown}, not {badge}")


def _round_trips(feed_class: Any, users: list[int], activity: Activity) -> int:
    """Round trips of one chunk."""
    before = backend().round_trips  # type: ignore[attr-defined]
    backend().run(feed_class.deliver(users[:CHUNK], [activity]))
    return int(backend().round_trips - before)  # type: ignore[attr-defined]


def _row(name: str, taken: dict[str, list[Taken]], units: int, round_trips: int) -> Row:
    ours, pipeline, script = taken["ours"], taken["pipeline"], taken["script"]
    by_pipeline, by_script, speed = faster(pipeline, ours), faster(script, ours), rate(ours, units)
    return {
        "name": name,
        "ours_per_s": round(speed.median),
        "pipeline_per_s": round(rate(pipeline, units).median),
        "script_per_s": round(rate(script, units).median),
        "ratio_pipeline": round(by_pipeline.median, 2),
        "ratio_script": round(by_script.median, 2),
        "client_us": client_us(ours, units),
        "server_us": server_us(ours, units),
        "client_per_server": round(client_us(ours, units) / server_us(ours, units), 2),
        "round_trips": round_trips,
        "spread_per_s": speed.pair(0),
        "spread_pipeline": by_pipeline.pair(),
        "spread_script": by_script.pair(),
        "pipeline_client_us": client_us(pipeline, units),
        "pipeline_server_us": server_us(pipeline, units),
        "script_server_us": server_us(script, units),
    }
