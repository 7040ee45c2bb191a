"""Replay plays files through real workers and checks every timeline; garbage is told or refused."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from feedmill import Activity, Manager
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator, NotificationAggregator
from feedmill.errors import DeclarationError
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId
from feedmill.tools.replay.lines import LONGEST_FIELD, Garbage, InputError
from feedmill.tools.replay.play import activity_of
from feedmill.tools.replay.read import START, Event, read_events, read_follows
from feedmill.tools.replay.social import (
    CO_ACTORS,
    DIR,
    HomeFeed,
    NewsFeed,
    Notifications,
    OwnFeed,
    SocialManager,
    playing_for,
    save_graph,
)
from feedmill.tools.replay.verify import Verdict, check_verifiable, verify
from feedmill.verbs import Comment, Love, Verb
from tests.conftest import free_port, redis_executable
from tests.fake_broker import replaced

pytestmark = pytest.mark.slow


def _replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feedmill", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.fixture
def private_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a server on PATH, which they must start for themselves."""
    redis_executable()
    for name in [name for name in os.environ if name.startswith("FEEDMILL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A graph of 30 people as gzipped TSV, 300 events over three days as CSV."""
    chance = random.Random(1)
    follows, events = tmp_path / "follows.tsv.gz", tmp_path / "events.csv"
    pairs = {(chance.randrange(30), chance.randrange(30)) for _ in range(250)}
    text = "".join(f"{a}\t{b}\n" for a, b in sorted(pairs) if a != b)
    follows.write_bytes(gzip.compress(("user_id\tfriend_id\n" + text).encode()))
    rows = [f"{chance.randrange(30)},{chance.randrange(12)},{1767225600 + n * 800},love\n" for n in range(300)]
    events.write_text("actor,object,time,verb\n" + "".join(rows))
    return follows, events


def test_every_timeline_is_as_recomputed(private_redis: None, files: tuple[Path, Path]) -> None:
    """Through two real workers nothing is missing, twice or wrong, and a sample is shown."""
    done = _replay("--follows", files[0], "--events", files[1], "--workers", 2, "--verify", "--sample", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 missing, 0 twice, 0 wrong" in done.stdout
    assert "Notifications of 3" in done.stdout
    assert "notifications: 0 " not in done.stdout


def test_what_was_not_played_fails_the_check(private_redis: None, files: tuple[Path, Path]) -> None:
    """With --verify a line that cannot be read is exit 1, although all that was played is right; without it is told."""
    with files[1].open("a") as stream:
        stream.write("1,2\n")
    done = _replay("--follows", files[0], "--events", files[1], "--workers", 1, "--verify")
    assert "0 missing, 0 twice, 0 wrong" in done.stdout
    assert done.returncode == 1
    assert "Error: what was played is right, but 1 of 512 lines could not be read" in done.stderr
    done = _replay("--follows", files[0], "--events", files[1], "--workers", 1, "--limit", 20)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_played_is_nothing_verified(private_redis: None, files: tuple[Path, Path]) -> None:
    """With --verify a file without events is exit 1."""
    files[1].write_text("actor,object,time,verb\n")
    done = _replay("--follows", files[0], "--events", files[1], "--workers", 1, "--verify")
    assert done.returncode == 1
    assert "no event was played, so nothing was verified" in done.stderr


def test_process_substitution(private_redis: None, files: tuple[Path, Path]) -> None:
    """Both files may come out of a pipe of the shell's."""
    command = f"{sys.executable} -m feedmill replay --follows <(zcat {files[0]}) --events <(cat {files[1]}) --workers 1 --verify"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 events" in done.stdout


def test_strict_refuses_garbage(files: tuple[Path, Path]) -> None:
    """With --strict a garbage line ends the command with 1, named by file and line, before anything starts."""
    with files[1].open("a") as stream:
        stream.write("1,2\n")
    done = _replay("--follows", files[0], "--events", files[1], "--strict")
    assert done.returncode == 1
    assert f"{files[1]}:302: 2 columns instead of 4" in done.stdout
    assert "Redis:" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_not_there_is_named(private_redis: None, files: tuple[Path, Path], redis_url: str) -> None:
    """Without the named Redis, or without a database for the broker, the command says so in one line."""
    nowhere, last = f"redis://127.0.0.1:{free_port()}/0", redis_url[:-1] + "15"
    for url, said, status in (
        (nowhere, "Check FEEDMILL_REDIS_URL", 3),
        (last, f"the broker at {redis_url[:-1]}16 cannot be used", 1),
    ):
        done = _replay("--follows", files[0], "--events", files[1], "--redis-url", url, "--workers", 1)
        assert done.returncode == status
        assert said in done.stderr and "Traceback" not in done.stderr


def test_a_redis_that_is_somebodys_is_left_as_it_was(
    private_redis: None, files: tuple[Path, Path], redis_url: str
) -> None:
    """What was written to the named Redis, the broker's bindings too, is gone in the end; what was there is not."""
    there = redis.Redis.from_url(redis_url[:-1] + "3")
    there.set("mine", "x")
    arguments = ("--follows", files[0], "--events", files[1], "--limit", 20, "--workers", 1)
    done = _replay(*arguments, "--redis-url", redis_url[:-1] + "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert there.keys() == [b"mine"]
    assert redis.Redis.from_url(redis_url[:-1] + "4").keys() == []


def test_a_manager_of_an_application(
    private_redis: None, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its feeds are filled by real workers, which find its module where the command does, and use no server that it names."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    (tmp_path / "shop.py").write_text(
        "import feedmill\n"
        "from feedmill.feeds import RedisFeed\n"
        f"feedmill.configure(redis_url={nowhere!r})\n"
        "class Timeline(RedisFeed):\n"
        "    key_format = 'shop:%(user_id)s'\n"
        "    max_length = 20\n"
        "class Shop(feedmill.Manager):\n"
        "    feed_classes = {'timeline': Timeline}\n"
        "    def get_user_follower_ids(self, user_id):\n"
        "        raise SystemExit('nobody asks')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDMILL_MODULES", "shop")
    arguments = ("--follows", files[0], "--events", files[1], "--workers", 1, "--verify", "--sample", 3)
    done = _replay(*arguments, "--manager", "Shop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 feeds compared" in done.stdout and "Timeline feed of 3" in done.stdout
    assert "0 missing, 0 twice, 0 wrong" in done.stdout
    done = _replay(*arguments, "--manager", "Shops")
    assert done.returncode and "no manager 'Shops'; known: Shop" in done.stderr


def test_one_column_is_not_enough(files: tuple[Path, Path]) -> None:
    """Who names one column is told that there are two."""
    done = _replay("--follows", files[0], "--events", files[1], "--follow-columns", "user_id")
    assert "'user_id' names one column; name at least two, separated by commas" in done.stderr


def _events(tmp_path: Path, *lines: str | bytes, name: str = "events.csv") -> tuple[list[Event], Garbage]:
    """What is read of a file of *lines*, and what is not."""
    path, garbage = tmp_path / name, Garbage()
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return read_events(path, (), garbage), garbage


def _follows(tmp_path: Path, *lines: str, columns: Sequence[str] = ()) -> list[tuple[EntityId, EntityId]]:
    """(follower, followee) pairs of a file of *lines*."""
    path, garbage = tmp_path / "follows.csv", Garbage()
    path.write_text("\n".join(lines))
    pairs = [(a, b) for b, ids in read_follows(path, columns, garbage).items() for a in ids]
    assert not garbage.count
    return pairs


def test_garbage_lines_are_named_and_skipped(tmp_path: Path) -> None:
    """Wrong column counts, empty ids, bad times, unknown verbs and bad UTF-8 are told and counted; the good lines stay."""
    lines = [
        b"actor,object,time,verb",
        b"1,a,2026-01-01T00:00:00Z,love",
        b"1,a",
        b",a,2026-01-01,love",
        b"1,a,soon,love",
    ]
    lines += [b"1,a,nan,love", b"1,\xff,2026-01-01,love", b"1,a,2026-01-01,fly", b"x,2,2026-01-02,love"]
    events, garbage = _events(tmp_path, *lines)
    assert [(e.row, e.actor, e.object) for e in events] == [(0, 1, "a"), (1, "x", 2)]
    assert garbage.count == 6 and garbage.lines == 8
    assert sorted(text.split(":")[1] for text in garbage.shown) == ["3", "4", "5", "6", "7", "8"]
    assert str(garbage) == "6 of 8 lines could not be read (75 %)"


#: One moment, in each way in which a column may hold it.
MOMENT = dt.datetime(2009, 5, 4, 23, 8, 57, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        *("1241478537", "1241478537.0", "1241478537000", "1241478537000000", "1241478537000000000", "20090504230857"),
        *("2009-05-04T23:08:57Z", "2009-05-04 23:08:57 UTC", "2009-05-05 01:08:57+02:00", "2009-05-04 23:08:57"),
    ],
)
def test_times_are_recognised(tmp_path: Path, text: str) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds since 1970, digits of a date, and ISO 8601."""
    (event,), garbage = _events(tmp_path, "actor,object,time", f"1,2,{text}")
    assert event.time == MOMENT and not garbage.count


def test_dates_in_digits_are_dates(tmp_path: Path) -> None:
    """20260101 is the first of January, and no second of 1970; nothing is lost in fractions of a second either."""
    first, second = _events(tmp_path, "actor,object,time", "1,2,20260101", "1,3,20260228")[0]
    assert [first.time.date(), second.time.date()] == [dt.date(2026, 1, 1), dt.date(2026, 2, 28)]
    (event,), _ = _events(tmp_path, "actor,object,time", "1,2,1767225600.000001")
    assert event.time.microsecond == 1


@pytest.mark.parametrize(
    "text", ["2025", "5", "0", "-1", "20261301", "soon", "01/02/2026", "12:30", "1e9", "99999999999"]
)
def test_times_that_could_be_anything_are_refused(tmp_path: Path, text: str) -> None:
    """A column of which nothing is a time for certain is refused in words; nothing ever happens in 1970 by mistake."""
    with pytest.raises(InputError, match="is no time, nor is any other in column 'time'; use ISO 8601, YYYYMMDD"):
        _events(tmp_path, "actor,object,time", f"1,2,{text}", f"1,3,{text}")


def test_a_column_has_one_way_of_writing_times(tmp_path: Path) -> None:
    """What is written in another way than most of the column is garbage, and said."""
    events, garbage = _events(
        tmp_path, "actor,object,time", "1,2,1241478537000", "1,3,1241478537", "1,4,1241478538000", "1,5,2009-05-04"
    )
    assert [event.object for event in events] == [2, 4] and garbage.count == 2
    assert (
        "events.csv:3: bad time '1241478537'; it is not in milliseconds, as most of the column is" in garbage.shown[0]
    )


def test_quoted_fields(tmp_path: Path) -> None:
    """A quoted field may hold commas, quotes, ends of lines and what looks like a comment; lines are still numbered right."""
    events, garbage = _events(
        tmp_path, "actor,object", 'ann,"a', 'b,c"', 'bob,"one', '# two"', 'cleo,"say ""hi"""', "dan", "eva,x"
    )
    found = [(event.actor, event.object) for event in events]
    assert found == [("ann", "a\nb,c"), ("bob", "one\n# two"), ("cleo", 'say "hi"'), ("eva", "x")]
    assert garbage.count == 1 and ":7: 1 columns instead of 2" in garbage.shown[0]


def test_quotes_that_make_no_sense(tmp_path: Path) -> None:
    """A quote that is never closed, or is followed by more, costs lines; they are counted, and the rest is read."""
    events, garbage = _events(
        tmp_path, "actor,object", 'ann,"Weird Al" Yankovic', "bob,x", 'cleo,"never', "dan,y", "eva,z"
    )
    assert [event.actor for event in events] == ["bob"]
    assert garbage.count == 4 and garbage.lines == 5
    assert ":2: " in garbage.shown[0] and ":4: unexpected end of data up to line 6" in garbage.shown[1]
    many = [f"u{n},x" for n in range(LONGEST_FIELD + 500)]
    events, garbage = _events(tmp_path, "actor,object", 'cleo,"never', *many)
    assert len(events) + garbage.count == len(many) + 1 and len(events) == 500


def test_a_tab_separates_whatever_stands_between(tmp_path: Path) -> None:
    """With tabs a quote is a sign like others."""
    events, _ = _events(tmp_path, "actor\tobject", 'ann\t"Weird Al" Yankovic, live', 'bob\t7" single')
    assert [event.object for event in events] == ['"Weird Al" Yankovic, live', '7" single']


def test_comments_are_no_users(tmp_path: Path) -> None:
    """A line that begins with a hash and a blank is a remark, wherever it stands; a tag is none."""
    lines = ["# who follows whom", "#", "user_id\tfriend_id", "# a\tb", "ann\tbob", "#love\tbob", " # c\td"]
    path, garbage = tmp_path / "follows.tsv", Garbage()
    path.write_text("\n".join(lines))
    assert read_follows(path, (), garbage) == {"bob": ["ann", "#love"]}
    assert (garbage.comments, garbage.count, garbage.lines) == (4, 0, 2)


@pytest.mark.parametrize(
    ("header", "follower", "followee"),
    [
        ("user_id,friend_id,weight", 0, 1),
        ("user_id,follower_id,followee_id", 1, 2),
        ("user_id,follower_id,weight", 1, 0),
        ("followeeId,userId,x", 1, 0),
        ("weight,FROM,To", 1, 2),
        ("target,source,x", 1, 0),
    ],
)
def test_headers_are_guessed(tmp_path: Path, header: str, follower: int, followee: int) -> None:
    """A name that says what it is comes before one that could mean either; no column is both."""
    assert _follows(tmp_path, header, "a,b,c") == [("abc"[follower], "abc"[followee])]


def test_what_cannot_be_guessed_is_refused(tmp_path: Path) -> None:
    """Two columns that could be either, columns that are named twice, missing or too many: in words."""
    for header in ("user_id,user", "user,user"):
        with pytest.raises(InputError, match="no column for the follower"):
            _follows(tmp_path, header, "a,b")
    for columns, said in (
        (("follower", "follower"), "follower is named twice .* the followee needs a column of its own"),
        (("follower", "nobody"), r"has no column for the followee \(nobody\)"),
        (("follower", "x"), r"has more than one column for the followee \(x\)"),
        (("follower", "followee", "x"), "3 columns are named for .* it has a use for 2: follower, followee"),
    ):
        with pytest.raises(InputError, match=said):
            _follows(tmp_path, "follower,followee,x,x", "a,b,c,d", columns=columns)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """The line after one that is not UTF-8 is never taken for the header."""
    for content in (b"PK\x03\x04\xff\nactor,object\n1,2\n", "actor,object\n1,2\n".encode("utf-16")):
        with pytest.raises(InputError, match=r"events\.csv is no UTF-8 text"):
            _events(tmp_path, content)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_once(tmp_path: Path, packed: bool) -> None:
    """What ``<(zcat …)`` gives can be read only once, and is read from its beginning."""
    text = "actor,object\n" + "".join(f"{n},x\n" for n in range(20_000))
    content = gzip.compress(text.encode()) if packed else text.encode()
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as stream:
            stream.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        events = read_events(Path(f"/dev/fd/{reading}"), (), Garbage())
    finally:
        os.close(reading)
        thread.join()
    assert [event.actor for event in events] == list(range(20_000))


def test_missing_column_is_an_error(tmp_path: Path) -> None:
    """A header without the needed column is refused with the names that were looked for."""
    follows = tmp_path / "follows.csv"
    follows.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column for the follower"):
        read_follows(follows, (), Garbage())
    assert read_follows(follows, ("a", "b"), Garbage()) == {2: [1]}


def test_verdict_counts_what_differs() -> None:
    """The check tells missing, doubled, strange and misplaced entries apart."""
    verdict = Verdict()
    verdict.compare("here", [1, 2, 3], [1, 1, 4])
    verdict.compare("there", [1, 2], [2, 1])
    assert (verdict.missing, verdict.twice, verdict.wrong) == (2, 1, 2)
    assert not verdict.good


@pytest.fixture
def played(backend_kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Verdict]:
    """Ann and bob follow cleo; all of her days are delivered. What a check finds."""
    followers: dict[EntityId, list[EntityId]] = {"cleo": ["ann", "bob"], "ann": ["cleo"]}
    save_graph(tmp_path, followers, CO_ACTORS, {"x": {"cleo": 1, "ann": 0}})
    monkeypatch.setenv(DIR, str(tmp_path))
    rows = [Event(0, "ann", "x", START, Love), Event(1, "cleo", "x", START + dt.timedelta(hours=1), Love)]
    rows += [Event(n, "cleo", f"y{n}", START + dt.timedelta(hours=n), Comment) for n in range(2, 30)]
    activities = [activity_of(event) for event in rows]
    with replaced(monkeypatch) as box:
        for activity in activities:
            SocialManager().add_activity(activity)
        box.work()

    def look() -> Verdict:
        return verify(activities, followers, CO_ACTORS)

    assert look().good, look().shown
    return look


def test_the_check_sees(played: Callable[[], Verdict]) -> None:
    """Whatever is done to the feeds of authors and followers, to what activities carry, or to who has a feed, is found."""
    (newest, *_) = OwnFeed("cleo")[:1]
    for damage, advice, said in (
        (lambda: OwnFeed("cleo").remove(newest), lambda: OwnFeed("cleo").add(newest), "own feed of cleo: 1 missing"),
        (lambda: HomeFeed("bob").remove(newest), lambda: HomeFeed("bob").add(newest), "home feed of bob: 1 missing"),
        (
            lambda: HomeFeed("dan").add(newest),
            lambda: HomeFeed("dan").delete(),
            "is a feed of 'dan', who is in neither",
        ),
        (
            lambda: NewsFeed("eva").add(newest),
            lambda: NewsFeed("eva").delete(),
            "is a feed of 'eva', who is in neither",
        ),
        (
            lambda: carry(newest, {"row": 77}),
            lambda: carry(newest, newest.extra_context),
            "{'row': 77} instead of {'row': 29}",
        ),
        (lambda: Notifications("ann").mark_all(), lambda: None, "badge of ann"),
    ):
        damage()
        verdict = played()
        assert not verdict.good and said in "\n".join(verdict.shown), (said, verdict.shown)
        advice()
        assert played().good or said == "badge of ann", (said, played().shown)
    OwnFeed("cleo").delete()
    assert played().missing == 29


def carry(activity: Activity, context: Mapping[str, Any]) -> None:
    """Store the body of *activity* with another context."""
    other = Activity(
        activity.actor_id, activity.verb, activity.object_id, time=activity.time, extra_context=dict(context)
    )
    HomeFeed._run(HomeFeed.activities().replace({activity.raw_id: other.pack()}))


class ByObject(BaseAggregator):
    def get_group(self, activity: Activity) -> str:
        return str(activity.object_id)


class ByCount(ByObject):
    def score(self, aggregated: AggregatedActivity) -> float:
        return aggregated.activity_count


class Backwards(ByObject):
    def merge(self, aggregated: Any, activities: Any) -> Any:
        return super().merge(aggregated, activities)


class ShortHome(RedisFeed):
    key_format = "short:home:%(user_id)s"
    max_length = 3


class ShortNews(RedisAggregatedFeed):
    key_format = "short:news:%(user_id)s"
    max_length = 3
    aggregator_class = ByObject


class Popular(RedisAggregatedFeed):
    key_format = "short:popular:%(user_id)s"
    aggregator_class = ByCount


class ShortPopular(Popular):
    key_format = "short:most-popular:%(user_id)s"
    max_length = 3


class ShortNotes(RedisNotificationFeed):
    key_format = "short:notes:%(user_id)s"
    count_format = "short:notes:%(user_id)s:count"
    max_length = 2
    aggregator_class = NotificationAggregator


class ShortManager(Manager):
    """Feeds that hold less than there is, in orders of their own; hooks that nobody is to call."""

    feed_classes = {"home": ShortHome, "news": ShortNews, "popular": Popular, "most popular": ShortPopular}
    notification_feed_class = ShortNotes

    def get_user_follower_ids(self, user_id: Any) -> Any:
        raise AssertionError("an application's data")

    def accepts(self, user_id: Any, activity: Activity) -> bool:
        raise AssertionError("an application's data")


@pytest.mark.parametrize("seed", range(4))
def test_feeds_of_another_manager(
    backend_kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """Feeds that cut back what they hold are right in whatever order activities arrive, and what is wrong in them is seen."""
    chance, manager = random.Random(seed), playing_for(ShortManager)
    followers: dict[EntityId, list[EntityId]] = {"cleo": ["ann", "bob"], "ann": ["cleo", "bob"], "bob": ["ann"]}
    verbs: list[type[Verb]] = [Love, Comment]
    rows = [
        Event(
            n, chance.choice(["ann", "bob", "cleo"]), f"x{chance.randrange(7)}", START + dt.timedelta(minutes=n), verb
        )
        for n, verb in enumerate(chance.choices(verbs, k=60))
    ]
    doers: dict[EntityId, dict[EntityId, int]] = {}
    for row in rows:
        doers.setdefault(row.object, {}).setdefault(row.actor, row.row)
    save_graph(tmp_path, followers, CO_ACTORS, doers)
    monkeypatch.setenv(DIR, str(tmp_path))
    activities = [activity_of(row) for row in rows]
    with replaced(monkeypatch) as box:
        for activity in chance.sample(activities, len(activities)):
            manager().add_activity(activity)
            if chance.random() < 0.3:
                box.work()
        box.work()
    check_verifiable(manager)
    found = verify(activities, followers, CO_ACTORS, manager)
    assert found.good and found.feeds == 3 * 5, found.shown
    assert any(len(ShortNotes(user)[:]) == 2 for user in followers)
    feeds = [feed_class("bob") for feed_class in (ShortHome, ShortNews, Popular, ShortPopular, ShortNotes)]
    for feed in feeds:
        feed.add(Activity("dan", Love, "x1", time=START + dt.timedelta(days=1)))
        found = verify(activities, followers, CO_ACTORS, manager)
        assert not found.good and "of bob" in "\n".join(found.shown), feed
        feed.remove(Activity("dan", Love, "x1", time=START + dt.timedelta(days=1)))
    (newest, *_) = ShortNews("bob")[:1]
    ShortNews("bob").remove(newest.last_activity)
    assert not verify(activities, followers, CO_ACTORS, manager).good


class Aging(ShortNews):
    key_format = "short:aging:%(user_id)s"
    max_age = 60


class Merging(ShortNews):
    key_format = "short:merging:%(user_id)s"
    aggregator_class = Backwards


@pytest.mark.parametrize(
    ("feed_class", "said"), [(Aging, "because of its max_age"), (Merging, "Backwards overrides merge")]
)
def test_what_cannot_be_verified_is_refused(feed_class: type[Feed], said: str) -> None:
    """Nobody can say what feeds hold that forget by the clock, or that merge in a way of their own."""

    class Unsure(SocialManager):
        name = f"of {feed_class.__name__}"
        feed_classes = {"news": feed_class}

    with pytest.raises(DeclarationError, match=said):
        check_verifiable(Unsure)
