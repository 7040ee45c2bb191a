"""What one author does in quick succession shares chunk messages; what becomes of each is as if it had messages of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import feedmill
from feedmill import Activity
from feedmill.errors import RETRY_ELSEWHERE, MessageError, StorageError, UnknownName
from feedmill.fanout.handle import Fanout
from feedmill.fanout.operations import CHUNKED, TOGETHER, operation_called
from feedmill.fanout.publisher import LOW_QUEUE
from feedmill.feeds import RedisFeed
from feedmill.keys import chunks_key
from feedmill.manager import Manager, Priority
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.tasks import app
from feedmill.testing.messages import Message
from feedmill.worker import chunk_tasks, compensation, dead_letters, drain, heartbeat
from feedmill.worker.dead_letters import AttemptsExhausted
from feedmill.worker.planned_chunks import NamedChunk, read_message
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced, settle
from tests.test_journal import (
    BROKEN,
    NAME,
    STAR,
    Home,
    JournalManager,
    News,
    Notes,
    count_of,
    love,
    manager,
    open_fanouts,
    plan,
    sweep_and_work,
)
from tests.test_suspects import Killed

#: The followers of the author, in ten chunks.
FOLLOWERS = range(1000, 1100)
POSTS = 10
#: What goes wrong with.
BAD = 3


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand."""
    monkeypatch.setattr(JournalManager, "broken", None)
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def posts(count: int = POSTS, **given: Any) -> list[Fanout]:
    """What the author does in quick succession."""
    return [manager.add_activity(love(number, actor=STAR, **given)) for number in range(count)]


def chunks(box: FakeBroker) -> list[Message]:
    """The messages of chunks that wait."""
    return [message for message in box.messages if message.task == "feedmill.deliver"]


def work(box: FakeBroker) -> None:
    """What workers do, those included that fail."""
    while box.messages:
        name, args = box.messages.pop(0)
        try:
            arrive(name, args)
        except Killed:
            box.messages.append(Message(name, args))  # the broker gives it out again
        except Exception as error:
            app.tasks[name].on_failure(error, "", args, {}, None)


def everywhere(number: int) -> bool:
    """Whether an activity is in all feeds, once."""
    home, news, _ = count_of(love(number, actor=STAR), FOLLOWERS)
    assert home == news
    return home == len(FOLLOWERS)


def nowhere(number: int) -> bool:
    """Whether an activity is in no feed."""
    return count_of(love(number, actor=STAR), FOLLOWERS)[:2] == [0, 0]


def check_counts(fanouts: Iterable[Fanout]) -> None:
    """Each fan-out tells of its own chunks and people."""
    for fanout in fanouts:
        status = fanout.status()
        assert status.finished and not status.cancelled
        assert (status.planned, status.done, status.reached, status.failed) == (10, 10, 100, 0)


def test_ten_posts_share_messages(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten posts to ten chunks of followers are ten messages, and the followers are listed once; each fan-out has its own counts."""
    asked, plain = [], JournalManager.get_user_follower_ids
    monkeypatch.setattr(
        JournalManager, "get_user_follower_ids", lambda self, user_id: asked.append(user_id) or plain(self, user_id)
    )
    fanouts = posts()
    plan(box)
    assert len(chunks(box)) == 10 and asked == [STAR]
    assert box.descriptions[-1] == f"deliver 10 activities of {STAR}, chunk 10, to home and news feeds of 10"
    assert [fanout.status().planned for fanout in fanouts] == [10] * POSTS
    box.work()
    check_counts(fanouts)
    for user in FOLLOWERS:
        assert Home(user)[:] == [love(number, actor=STAR) for number in reversed(range(POSTS))]
        assert News(user)[0].activity_count == POSTS
    assert {fanout.status().retried for fanout in fanouts} == {0} and open_fanouts() == 0


def test_a_message_costs_the_round_trips_of_one(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten activities are delivered to a chunk in as many round trips as one, and in few commands more."""
    taken = []
    with replaced(monkeypatch) as box:
        posts(1)
        box.work()
        for first, count in ((1, 1), (2, POSTS)):
            for number in range(first, first + count):
                manager.add_activity(love(number, actor=STAR))
            plan(box)
            message = chunks(box)[0]
            before = backend().round_trips  # type: ignore[attr-defined]
            arrive(*message)
            taken.append(backend().round_trips - before)  # type: ignore[attr-defined]
            box.work()
    assert taken[0] == taken[1]


def test_what_was_called_off_drops_out(box: FakeBroker) -> None:
    """One is cancelled and another removed before the messages arrive: all others are delivered, and these are not."""
    fanouts = posts()
    plan(box)
    for message in chunks(box)[:4]:
        box.messages.remove(message)
        arrive(*message)
    assert fanouts[2].cancel()
    manager.remove_activity(love(BAD, actor=STAR))
    box.work()
    check_counts(fanouts[:2] + fanouts[4:])
    status = fanouts[2].status()
    assert status.cancelled and (status.done, status.reached) == (4, 40)
    assert count_of(love(2, actor=STAR), FOLLOWERS)[:2] == [40, 40]
    assert nowhere(BAD) and all(map(everywhere, (0, 1, *range(4, POSTS))))
    settle(box, NAME)  # the removal is done once more
    assert nowhere(BAD)


def test_a_removal_after_the_look_is_seen(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of activities that are delivered together one is removed while it is written: it is taken out again."""
    posts()
    plan(box)
    first, plain = chunks(box)[0], compensation.deliver_and_compensate
    box.messages.remove(first)

    def late(*given: Any) -> Any:
        manager.remove_activity(love(BAD, actor=STAR))
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(compensation, "deliver_and_compensate", late)
        arrive(*first)
    assert nowhere(BAD)
    box.work()
    assert nowhere(BAD) and all(map(everywhere, (0, 1, 2, 4, 9)))


def test_lost_and_doubled_messages(box: FakeBroker) -> None:
    """What is lost comes again when the lease is over, and what is doubled changes nothing."""
    fanouts = posts()
    plan(box)
    lost, *rest = box.take("feedmill.deliver")
    for message in rest:
        arrive(*message)
        assert arrive(*message) == 0
    assert [fanout.status().done for fanout in fanouts] == [9] * POSTS
    sweep_and_work(box)
    check_counts(fanouts)
    assert arrive(*lost) == 0 and all(map(everywhere, range(POSTS))) and open_fanouts() == 0


def test_an_older_plan_is_done_by_nobody(box: FakeBroker) -> None:
    """A worker dies when it has sent a part: its messages are no longer wanted when the fan-outs are planned anew."""
    fanouts = posts(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 4)
        sent = []
        plain = box.send

        def send(name: str, args: Any, **given: Any) -> None:
            sent.append(name)
            if len(sent) > 6:
                raise Killed
            plain(name, args, **given)

        (wakeup,) = box.take("feedmill.fanout")
        patch.setattr("feedmill.fanout.publisher.send", send)
        with pytest.raises(Killed):
            arrive(*wakeup)
    old = box.take("feedmill.deliver")
    assert len(old) == 6
    plan(box)
    assert [arrive(*message) for message in old] == [0] * 6
    assert len(chunks(box)) == 30, "what nobody has settled is planned by itself"
    box.work()
    check_counts(fanouts)
    assert all(map(everywhere, range(3)))


class TestFailures:
    """One bad activity fails alone."""

    @pytest.fixture
    def filtered(self, monkeypatch: pytest.MonkeyPatch) -> dict[Any, BaseException]:
        """What the filter raises, by the number of the activity."""
        errors: dict[Any, BaseException] = {}

        def filter_user_ids(self: Any, activity: Activity, user_ids: list[Any]) -> Any:
            if activity.object_id in errors:
                raise errors[activity.object_id]
            return user_ids

        monkeypatch.setattr(JournalManager, "is_filtered", True)
        monkeypatch.setattr(JournalManager, "filter_user_ids", filter_user_ids)
        return errors

    def test_a_filter(self, box: FakeBroker, filtered: dict[Any, BaseException]) -> None:
        """A filter raises for one activity: its fan-out fails, and all others are done at once."""
        filtered[BAD] = OSError("no database")
        fanouts = posts()
        work(box)
        check_counts(fanouts[:BAD] + fanouts[BAD + 1 :])
        status = fanouts[BAD].status()
        assert (status.done, status.failed, status.error) == (0, 10, "OSError: no database") and nowhere(BAD)
        filtered.clear()
        sweep_and_work(box)
        assert all(map(everywhere, range(POSTS))) and fanouts[BAD].status().finished

    def test_deaths(self, box: FakeBroker, filtered: dict[Any, BaseException]) -> None:
        """An activity that kills its worker takes the others along once for each chunk; then each is alone, and these are done."""
        filtered[BAD] = Killed()
        fanouts = posts(5)
        plan(box)
        box.messages = box.messages[:1]
        for _ in range(8):
            work_one(box)
        assert [fanout.status().done for fanout in fanouts] == [1, 1, 1, 0, 1]
        (left,) = box.messages
        with pytest.raises(Killed):
            arrive(*left)
        for _ in range(chunk_tasks.MOST_DEATHS):
            with contextlib.suppress(Killed, AttemptsExhausted):
                arrive(*left)
        with pytest.raises(AttemptsExhausted, match="its worker died"):
            arrive(*left)

    def test_a_damaged_feed(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key of a wrong type is in one chunk: of each fan-out that chunk fails, and everybody else has all."""
        with replaced(monkeypatch) as box:
            self._damaged_feed(box)

    def _damaged_feed(self, box: FakeBroker) -> None:
        fanouts = posts()
        plan(box)
        key = News(1005).key
        client = backend().client  # type: ignore[attr-defined]
        client.lpush(key, "x")
        work(box)
        assert [(each.status().done, each.status().failed) for each in fanouts] == [(9, 1)] * POSTS
        client.delete(key)
        sweep_and_work(box)
        assert all(each.status().finished for each in fanouts) and all(map(everywhere, range(POSTS)))

    def test_a_storage_that_is_away(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told to the broker, which gives the message out again; nobody died of it, so it is not taken apart."""
        fanouts = posts()
        plan(box)
        message, *_ = chunks(box)
        with monkeypatch.context() as patch:
            patch.setattr(compensation, "read", lambda *_: (_ for _ in ()).throw(StorageError("away")))
            with pytest.raises(StorageError, match="away") as caught:
                arrive(*message)
        assert len(chunks(box)) == 10
        app.tasks[message.task].on_failure(caught.value, "", message.args, {}, None)
        assert {(each.status().failed, each.status().error) for each in fanouts} == {(1, "StorageError: away")}
        box.work()
        assert {(each.status().retried, each.status().done) for each in fanouts} == {(1, 10)}
        assert all(map(everywhere, range(POSTS)))

    def test_damaged_people(self, box: FakeBroker) -> None:
        """A chunk in the journal of one fan-out is damaged: it becomes a dead letter, and all others are done."""
        fanouts = posts(3)
        plan(box)
        _, op, *named = chunks(box)[0].args
        _, shared = read_message(op, NamedChunk(*named))
        _damage(next(each for each in shared if each.fanout_id == fanouts[1].id))
        work(box)
        assert [fanout.status().done for fanout in fanouts] == [10, 9, 10]
        (letter,) = dead_letters.newest()
        assert letter.reason.startswith("MessageError: ")


def _damage(named: NamedChunk) -> None:
    if backend().in_process:
        DATA.fanout_records[named.fanout_id]["chunks"][named.chunk] = b"\xc1"
    else:
        client = backend().client  # type: ignore[attr-defined]
        client.hset(chunks_key(named.fanout_id), f"{named.generation}.{named.chunk}", b"\xc1")


def work_one(box: FakeBroker) -> None:
    """One message, which the broker gives out again if its worker died."""
    name, args = box.messages.pop(0)
    try:
        arrive(name, args)
    except Killed:
        box.messages.append(Message(name, args))


class TestPlans:
    """What shares a plan, and what does not."""

    def test_others_do_not_share(self, box: FakeBroker) -> None:
        """Another author's, and other kinds of fan-out, have messages of their own."""
        manager.add_activity(love(0, actor=STAR))
        box.work()
        manager.remove_activity(love(0, actor=STAR))
        manager.batch_import(STAR, [love(50, actor=STAR)])
        posts(3)
        plan(box)
        assert sorted(message.args[1] for message in chunks(box)) == [TOGETHER] * 10 + ["import"] * 10
        box.work()
        assert all(map(everywhere, (0, 1, 2, 50)))

    def test_what_was_begun_before_is_alone(self, box: FakeBroker) -> None:
        """Of what was claimed before and not settled it is not known who died in it: each is planned by itself."""
        fanouts = posts(3)
        make_overdue(NAME)
        backend().run(backend().journal.claim(NAME, 100))
        plan(box)
        assert len(chunks(box)) == 30
        box.work()
        check_counts(fanouts)

    def test_each_has_its_own_recipients(self, box: FakeBroker) -> None:
        """Whom one activity is told to hears of that alone; who is told of several, in one message."""
        manager.add_activity(love(0, actor=STAR, target=7))
        manager.add_activity(love(1, actor=STAR, target=7))
        manager.add_activity(love(2, actor=STAR, target=8))
        last = manager.add_activity(love(3, actor=STAR))
        plan(box)
        assert len(chunks(box)) == 12
        box.work()
        assert [sum(group.activity_count for group in Notes(user)[:]) for user in (7, 8)] == [2, 1]
        assert (last.status().planned, last.status().reached) == (10, 100)
        assert all(everywhere(number) for number in (3,)) and open_fanouts() == 0

    def test_a_hook_that_fails(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hook raises for the recipients of one of them: that one fails, and is tried again."""

        def recipients(self: Any, activity: Activity) -> Iterable[Any]:
            if activity.object_id == BAD:
                raise OSError("no database")
            return ()

        monkeypatch.setattr(JournalManager, "get_recipient_ids", recipients)
        fanouts = posts(5)
        box.work()
        check_counts(fanouts[:BAD] + fanouts[BAD + 1 :])
        status = fanouts[BAD].status()
        assert (status.failed, status.error, status.planned) == (1, "OSError: no database", 0)

    def test_followers_that_fail(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The query for followers raises on its way: all have failed once, as each would have, and are done later."""
        monkeypatch.setattr(JournalManager, "broken", OSError("no database"))
        fanouts = [manager.add_activity(love(number, actor=BROKEN)) for number in range(3)]
        box.work()
        assert [(each.status().failed, each.status().error) for each in fanouts] == [(1, "OSError: no database")] * 3
        monkeypatch.setattr(JournalManager, "broken", None)
        sweep_and_work(box)
        assert all(each.status().finished for each in fanouts)

    def test_bad_ids_are_counted_for_each(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bad ids among the followers are told by the status of each; those among recipients by that of one."""
        monkeypatch.setattr(JournalManager, "get_user_follower_ids", lambda self, user_id: [*FOLLOWERS, 1.5])
        monkeypatch.setattr(
            JournalManager, "get_recipient_ids", lambda self, activity: [2.5] if activity.object_id == 1 else ()
        )
        fanouts = posts(3)
        box.work()
        assert [each.status().skipped for each in fanouts] == [1, 2, 1]
        assert "1.5" in fanouts[2].status().error and "2.5" in fanouts[1].status().error
        assert all(each.status().finished for each in fanouts)

    def test_one_is_called_off_while_followers_are_listed(
        self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What lost its claim is not named in messages any more, and the others go on; so also if it is the first."""
        monkeypatch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 3)
        for gone in (0, 1):
            fanouts = [manager.add_activity(love(10 * gone + number, actor=STAR)) for number in range(3)]

            def followers(self: Any, user_id: Any, lost: Fanout = fanouts[gone]) -> Iterable[Any]:
                for number, user in enumerate(FOLLOWERS):
                    if number == 50:
                        assert lost.cancel()
                    yield user

            with monkeypatch.context() as patch:
                patch.setattr(JournalManager, "get_user_follower_ids", followers)
                plan(box)
            assert {len(unpack(message.args[2])) for message in chunks(box)} == {2, 3}
            box.work()
            check_counts(fanout for number, fanout in enumerate(fanouts) if number != gone)
            assert fanouts[gone].status().cancelled
            assert count_of(love(10 * gone + gone, actor=STAR), FOLLOWERS)[0] == 0
        assert open_fanouts() == 0

    def test_full_queues(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What finds no room waits in the journal, and is sent once, when there is some."""
        feedmill.configure(queue_limit=4)
        monkeypatch.setattr("feedmill.fanout.publisher.PUBLISH_BATCH", 3)
        fanouts = posts(3)
        while not all(each.status().finished for each in fanouts):
            plan(box)
            assert len(chunks(box)) <= 4
            box.work()
        assert {each.status().retried for each in fanouts} == {0}
        check_counts(fanouts)

    def test_no_room_at_all(self, box: FakeBroker) -> None:
        """Nothing is written down, all wait, and share a plan later."""
        feedmill.configure(queue_limit=1)
        box.send("feedmill.sweep", [], queue="fanout.high", description="")
        fanouts = posts(3)
        (wakeup,) = box.take("feedmill.fanout")
        arrive(*wakeup)
        assert not chunks(box) and [each.status().planned for each in fanouts] == [0] * 3
        feedmill.configure(queue_limit=0)
        plan(box)
        assert len(chunks(box)) == 10
        box.work()
        check_counts(fanouts)

    def test_slow_followers(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """While followers are listed slowly all else is left to others: nothing waits to share that plan."""
        plain = heartbeat.Watch.share

        def slow(watch: heartbeat.Watch, choose: Any, deadline: float) -> None:
            watch.beat(watch._begun + heartbeat.SLOW)
            plain(watch, choose, deadline)

        monkeypatch.setattr(heartbeat.Watch, "share", slow)
        fanouts = posts(3)
        box.work()
        told = [each for each in box.descriptions if each.startswith(f"deliver 1 activity of {STAR}, chunk ")]
        assert len(told) == 30 and len(set(told)) == 10
        check_counts(fanouts)

    def test_at_most(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A message names no more than it may."""
        monkeypatch.setattr(drain, "MOST_SHARED", 4)
        fanouts = posts()
        plan(box)
        assert len(chunks(box)) == 30
        box.work()
        check_counts(fanouts)

    def test_priorities(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Followers of low priority are in the queue of low priority, the few of high priority ahead of them."""
        followers = {Priority.HIGH: range(1000, 1005), Priority.LOW: range(1005, 1100)}
        monkeypatch.setattr(JournalManager, "get_user_follower_ids", lambda self, user_id: followers)
        fanouts = posts(3)
        plan(box)
        assert (box.length("fanout.high"), box.length(LOW_QUEUE)) == (1, 10)
        box.work()
        assert [(each.status().planned, each.status().reached) for each in fanouts] == [(11, 100)] * 3

    def test_nothing_is_shared_where_tasks_run_at_once(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where sending a message does the work it costs nothing, and what is wrong is told where it was sent."""
        fanouts = posts(3)
        (wakeup,) = box.take("feedmill.fanout")
        with monkeypatch.context() as patch:
            patch.setattr("feedmill.fanout.publisher.inline", lambda: True)
            arrive(*wakeup)
        assert len(chunks(box)) == 30
        box.work()
        check_counts(fanouts)


class Own(RedisFeed):
    key_format = "shared:own:%(user_id)s"


class Wall(RedisFeed):
    key_format = "shared:wall:%(user_id)s"


class OwnManager(Manager):
    name = "SharedOwn"
    feed_classes = {"home": Home, "wall": Wall}
    own_feeds = ("wall",)
    user_feed_class = Own
    fanout_chunk_size = 10

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """A hundred and the author."""
        return [user_id, *FOLLOWERS]


def test_own_feeds(box: FakeBroker) -> None:
    """The author's own feeds are one message for all as well; the author, who is among the followers, has each activity once."""
    fanouts = [OwnManager().add_activity(love(number, actor=STAR)) for number in range(5)]
    arrive(*box.messages.pop(0))
    assert len(chunks(box)) == 12
    box.work()
    assert [(each.status().planned, each.status().done, each.status().reached) for each in fanouts] == [
        (12, 12, 101)
    ] * 5
    assert Wall(STAR).count() == Home(STAR).count() == Wall(1000).count() == 5


class TestReleases:
    """Workers of several releases answer the messages of one."""

    def test_an_older_worker_leaves_it_to_others(self) -> None:
        """A release that knows single chunks alone does not know the kind, so its worker gives the message to another."""
        with pytest.raises(UnknownName) as caught:
            operation_called(TOGETHER, CHUNKED)
        assert isinstance(caught.value, RETRY_ELSEWHERE) and not isinstance(caught.value, MessageError)

    def test_the_arguments_are_of_the_same_kinds(self, box: FakeBroker) -> None:
        """So an older worker does not refuse the message as one that makes no sense."""
        posts(2)
        plan(box)
        kinds = {tuple(map(type, message.args)) for message in chunks(box)}
        assert kinds == {(str, str, bytes, str, int, int)}

    def test_an_older_message(self, box: FakeBroker) -> None:
        """A message of one chunk is done as ever."""
        (fanout,) = posts(1)
        plan(box)
        assert {message.args[1] for message in chunks(box)} == {"add"}
        box.work()
        check_counts([fanout])

    def test_a_feed_that_is_unknown(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who lacks a feed that they are for leaves all of them to others."""
        fanouts = posts(2)
        plan(box)
        with monkeypatch.context() as patch:
            patch.setattr(chunk_tasks, "feed_names", lambda name: ("home",))
            with pytest.raises(UnknownName, match="lacks"):
                arrive(*chunks(box)[0])
        box.work()
        check_counts(fanouts)

    @pytest.mark.parametrize(
        "body",
        [b"\xc1", pack(1), pack([]), pack(["text"]), pack([b"0" * 16, 1]), pack([b"0" * 16, [b"0" * 16, "f", 1]])],
    )
    def test_what_makes_no_sense(self, box: FakeBroker, body: bytes) -> None:
        """A message that is none of ours is refused in words."""
        with pytest.raises(MessageError, match="the message's"):
            arrive("feedmill.deliver", [NAME, TOGETHER, body, f"{NAME}:f", 1, 0])
