"""From a thousand followers to a million, and the older framework's own example."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.feeds import GROUPS, START, Aggregated, Flat, chunks, copy_feed, fill_groups, keys_of
from benchmarks.harness import Harness, harness
from benchmarks.measure import Row, check, spread
from benchmarks.social import HomeAndNews, News, crowd_of
from feedmill import Activity
from feedmill.verbs import Add

#: The example of the older framework's page: activities, and followers of their author.
PAGE = 1000, 500
#: Activities that one author adds in quick succession.
TEN, TEN_ROUNDS = 10, 3
#: Activities of one group in it, and in one day.
SAME_DAY = 100
#: Deliveries to each follower by which the floor is measured.
FLOOR_ROUNDS = 100


def scale(bench: Bench) -> Iterator[Row]:
    """All rows."""
    with harness(bench) as workers:
        bench.say("the page's example")
        yield _page(bench, workers)
        bench.say(f"ten posts, {bench.amounts.quick:,} followers")
        yield _ten_posts(bench, workers, bench.amounts.quick)
        fewest = 0.0
        for followers in bench.amounts.followers:
            bench.say(f"one author, {followers:,} followers")
            row = _followers(bench, workers, followers)
            fewest = fewest or row["cpu_us"]
            yield {**row, "ratio_fewest": round(row["cpu_us"] / fewest, 2)}
    bench.empty()


def _page(bench: Bench, workers: Harness) -> Row:
    """1,000 activities for 500 followers whose aggregated feeds are full: ten new groups that grow to a hundred each."""
    activities, followers = bench.amounts.page, PAGE[1]
    bench.empty()
    fill_groups(Aggregated)
    copy_feed(bench.client, Aggregated, range(1, followers + 1))
    manager, author = News(), crowd_of(1, followers)
    start = time.perf_counter()
    for number in range(activities):
        day, second = divmod(number, SAME_DAY)
        time_ = START + dt.timedelta(days=GROUPS + day, seconds=60 * second)
        manager.add_activity(Activity(author, Add, number, time=time_))
    called = time.perf_counter() - start
    workers.wait(workers.delivered)
    seconds = time.perf_counter() - start
    sizes = [min(SAME_DAY, activities - first) for first in range(0, activities, SAME_DAY)][::-1]
    for user in range(1, followers + 1, 7):
        counts = [group.activity_count for group in Aggregated(user)[: len(sizes)]]
        check(counts == sizes, f"news of {user} has groups of {counts}, not {sizes}")
        check(Aggregated(user).count() == GROUPS, f"news of {user} is not cut back")
    floor = _floor(bench, list(range(1, followers + 1)))
    return {
        "name": "scale_page",
        "ratio_script": round(activities * followers / seconds / floor, 2),
        "script_per_s": round(floor),
        "seconds": round(seconds, 2),
        "activities": activities,
        "followers": followers,
        "ours_per_s": round(activities * followers / seconds),
        "call_ms": round(called / activities * 1000, 2),
    }


def _ten_posts(bench: Bench, workers: Harness, followers: int) -> Row:
    """Ten activities that one author adds in quick succession to everyone's home and news, beside one."""
    manager, author = HomeAndNews(), crowd_of(1, followers)

    def posted(first: int, count: int) -> tuple[float, float]:
        """Seconds until all have arrived, and bytes of the broker's."""
        before, start = _traffic(bench), time.perf_counter()
        for number in range(first, first + count):
            manager.add_activity(Activity(author, Add, number, time=START + dt.timedelta(seconds=number)))
        workers.wait(workers.delivered)
        seconds = time.perf_counter() - start
        workers.wait(workers.idle)
        return seconds, _traffic(bench) - before

    rounds = []
    for _ in range(TEN_ROUNDS):
        bench.empty()
        posted(0, 1)  # makes the feeds
        rounds.append((posted(1, 1), posted(2, TEN)))
        for user in range(1, followers + 1, max(1, followers // 500)):
            check(Flat(user).count() == 2 + TEN, f"home of {user} has {Flat(user).count()} activities")
            check(Aggregated(user)[0].activity_count == 2 + TEN, f"news of {user} lacks some of {2 + TEN} activities")
    one, ten = (spread([seconds for seconds, _ in way]) for way in zip(*rounds))
    ratio = spread([many / TEN / alone for (alone, _), (many, _) in rounds])
    deliveries = TEN * followers * len(manager.feed_classes)
    return {
        "name": f"ten_posts_{followers}",
        "ratio_ten": round(ratio.median, 3),
        "spread_ten": ratio.pair(3),
        "followers": followers,
        "activities": TEN,
        "seconds": round(ten.median, 2),
        "one_seconds": round(one.median, 2),
        "ours_per_s": round(deliveries / ten.median),
        "broker_bytes": round(spread([traffic for _, (_, traffic) in rounds]).median / deliveries, 1),
    }


def _floor(bench: Bench, users: list[int]) -> float:
    """Single deliveries a second to *users*, by the script floor."""
    size, script = floors.record_size(bench.client, Aggregated, users[0]), floors.Script(bench.client)
    floors.fill_groups_floor(bench.client, Aggregated, users, size)
    start = time.perf_counter()
    for number in range(FLOOR_ROUNDS):
        group = floors.group_of(Aggregated, number % GROUPS)
        script.groups(users, floors.Write(1000 + number, group, bytes(size)))
    return FLOOR_ROUNDS * len(users) / (time.perf_counter() - start)


def _followers(bench: Bench, workers: Harness, followers: int) -> Row:
    """One activity of one author to everyone's home and news, which are new."""
    manager, rows = HomeAndNews(), []
    size, repeats = 0, max(1, min(20, 50_000 // followers))
    for number in range(repeats):
        bench.empty()
        activity = Activity(crowd_of(1, followers), Add, number, time=START)
        group = str(Aggregated.get_aggregator().get_group(activity)).encode()
        before = _traffic(bench)
        with workers.watched_memory() as memory:
            cpu, start = workers.cpu(), time.perf_counter()
            fanout = manager.add_activity(activity)
            called = time.perf_counter() - start
            workers.wait(workers.delivered)
            seconds = time.perf_counter() - start
        workers.wait(workers.idle)
        cpu, traffic = workers.cpu() - cpu, _traffic(bench) - before
        _check_reached(bench, fanout.status().reached, followers, activity)
        size = size or floors.record_size(bench.client, Aggregated, 1, group)
        rows.append((seconds, called, cpu, traffic, _floor_of_new(bench, followers, group, size), *memory))
    seconds, called, cpu, traffic, floor, theirs, own = (spread(column).median for column in zip(*rows))
    deliveries = followers * len(manager.feed_classes)
    return {
        "name": f"scale_{followers}",
        "followers": followers,
        "seconds": round(seconds, 3),
        "ours_per_s": round(deliveries / seconds),
        "script_per_s": round(floor),
        "ratio_script": round(deliveries / seconds / floor, 2),
        "us_per_delivery": round(seconds / deliveries * 1e6, 2),
        "cpu_us": round(cpu / deliveries * 1e6, 2),
        "call_ms": round(called * 1000, 2),
        "worker_mb": round(theirs),
        "manager_mb": round(own),
        "broker_bytes": round(traffic / deliveries, 1),
    }


def _floor_of_new(bench: Bench, followers: int, group: bytes, size: int) -> float:
    """Deliveries a second to new flat feeds and new feeds of groups, by the script floor."""
    bench.empty()
    users, script = list(range(1, followers + 1)), floors.Script(bench.client)
    member = Activity(0, Add, 0, time=START).raw_id
    start = time.perf_counter()
    for part in chunks(users):
        script.flat(part, 1000, member)
        script.groups(part, floors.Write(1000, group, bytes(size)))
    return 2 * followers / (time.perf_counter() - start)


def _traffic(bench: Bench) -> float:
    info = bench.broker.info("stats")
    return float(info["total_net_input_bytes"] + info["total_net_output_bytes"])


def _check_reached(bench: Bench, reached: int, followers: int, activity: Activity) -> None:
    """The fan-out record is right, every feed has its keys, and a sample has just the activity."""
    check(reached == followers, f"the fan-out record says {reached} of {followers}")
    each = sum(len(keys_of(bench.client, kind(1).key)) for kind in (Flat, Aggregated))
    kept = bench.client.dbsize()
    check(followers * each <= kept <= followers * each + 20, f"{kept} keys for {followers} followers")
    for user in range(1, followers + 1, max(1, followers // 500)):
        home, news = Flat(user)[:2], Aggregated(user)[:2]
        check(home == [activity] and [group.activities for group in news] == [[activity]], f"feeds of {user} are wrong")
