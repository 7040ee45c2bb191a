"""The app that is simulated: users with ids of every type, managers with feeds of every kind, and hooks that can be broken."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from feedmill import Activity, Manager, registry, verbs
from feedmill.aggregators import BaseAggregator, DecayAggregator, NotificationAggregator, RecentVerbAggregator
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.manager.hook_values import FinishedFanout, Notification
from feedmill.storage.cassandra import CassandraTimelineStorage
from feedmill.verbs import Comment, Love, Verb
from tests.instances import Instance, Photo, Remark, Team, User

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
#: When a history begins, seconds since 1970; after every activity of it.
DAWN = 1_710_000_000.0
_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
#: The ways in which each user's id is spelled; all of one line are one user. One is no user, and has the number of one. The
#: last does nothing but what is done directly.
SPELLINGS: tuple[tuple[Any, ...], ...] = ((5, "5"), ("ann",), (_UUID, str(_UUID)), ("team:5",), (77,))
PEOPLE, SOLO = range(4), 4
#: Which user each spelling is.
NUMBER_OF = {str(spelling): number for number, spelled in enumerate(SPELLINGS) for spelling in spelled}


def number_of(user: Any) -> int:
    """Which user *user*, an id or an instance, is."""
    return INSTANCES.index(user) if isinstance(user, Instance) else NUMBER_OF[str(user)]


#: Each user as an instance.
INSTANCES: tuple[Instance, ...] = (User(5), User("ann"), User(_UUID), Team(5), User(77))


class Poke(Verb):
    """A verb that the old release does not know."""

    id = 901
    infinitive = "poke"
    past_tense = "poked"


#: What is declared here is registered nowhere: each simulated process has the registries of its release.
_REGISTERED, registry._managers = registry._managers, {}


class Albums(BaseAggregator):
    """Groups by what is in the context, which may be another when the same activity is added again."""

    def get_group(self, activity: Activity) -> str:
        """The album."""
        return f"album {activity.extra_context.get('album', '')}"


class Hot(DecayAggregator, RecentVerbAggregator):
    """Groups of a verb that many lift."""


class Ringing(DecayAggregator, NotificationAggregator):
    """Notifications that many lift."""


class Home(RedisFeed):
    key_format = "sim:home:%(user_id)s"
    publish_changes = True
    max_length = 40


class SmallHome(RedisFeed):
    key_format = "sim:smallhome:%(user_id)s"
    publish_changes = True
    max_length = 4


class News(RedisAggregatedFeed):
    key_format = "sim:news:%(user_id)s"
    publish_changes = True
    aggregator_class = RecentVerbAggregator
    max_length = 40


class SmallNews(RedisAggregatedFeed):
    key_format = "sim:smallnews:%(user_id)s"
    publish_changes = True
    aggregator_class = NotificationAggregator
    max_length = 3


class AlbumNews(RedisAggregatedFeed):
    key_format = "sim:albums:%(user_id)s"
    publish_changes = True
    aggregator_class = Albums
    max_length = 40


class HotNews(RedisAggregatedFeed):
    key_format = "sim:hot:%(user_id)s"
    publish_changes = True
    aggregator_class = Hot
    max_length = 40


class Notes(RedisNotificationFeed):
    key_format = "sim:notes:%(user_id)s"
    count_format = "sim:notes:%(user_id)s:count"
    max_length = 40


class SmallNotes(RedisNotificationFeed):
    key_format = "sim:smallnotes:%(user_id)s"
    count_format = "sim:smallnotes:%(user_id)s:count"
    max_length = 2


class HotNotes(RedisNotificationFeed):
    key_format = "sim:hotnotes:%(user_id)s"
    count_format = "sim:hotnotes:%(user_id)s:count"
    aggregator_class = Ringing
    max_length = 40


class Wire(RedisNotificationFeed):
    """Holds all of what it shows, for followers."""

    key_format = "sim:wire:%(user_id)s"
    count_format = "sim:wire:%(user_id)s:count"
    max_length = 40


#: Seconds from the first activity until feeds that age begin to show less: some histories end before, others long after.
AGED_AFTER = DAWN - START.timestamp() + 200


class AgingHome(RedisFeed):
    key_format = "sim:aginghome:%(user_id)s"
    max_length = 40
    max_age = AGED_AFTER


class AgingNews(RedisAggregatedFeed):
    key_format = "sim:agingnews:%(user_id)s"
    aggregator_class = NotificationAggregator
    max_length = 40
    max_age = AGED_AFTER


class AgingHot(RedisAggregatedFeed):
    key_format = "sim:aginghot:%(user_id)s"
    aggregator_class = Hot
    max_length = 40
    max_age = AGED_AFTER


class AgingNotes(RedisNotificationFeed):
    key_format = "sim:agingnotes:%(user_id)s"
    count_format = "sim:agingnotes:%(user_id)s:count"
    max_length = 40
    max_age = AGED_AFTER


class IdleHome(RedisFeed):
    key_format = "sim:idlehome:%(user_id)s"
    max_length = 40
    expire_idle = 60


class IdleNews(RedisAggregatedFeed):
    key_format = "sim:idlenews:%(user_id)s"
    aggregator_class = RecentVerbAggregator
    max_length = 40
    expire_idle = 60


class Own(RedisFeed):
    key_format = "sim:own:%(user_id)s"
    max_length = 60


class State:
    """What the app's database knows, and what is wrong with its hooks; new for each history."""

    def __init__(self) -> None:
        #: Who follows whom, by numbers of users.
        self.edges: set[tuple[int, int]] = set()
        #: (user, actor): who must never see whom.
        self.mutes: set[tuple[int, int]] = set()
        #: When each of :data:`AHEAD` was taken to have happened, µs since 1970.
        self.dated: dict[int, int] = {}
        #: Asked before each hook answers: it may raise, hang, end the process, or give what is answered instead.
        self.hook: Callable[[str, Any, Any], Any] = lambda name, about, answer: answer
        #: What hooks were told: of each notification its key, user and activity; and the fan-outs that ended, by key.
        self.told: list[tuple[str, int, int]] = []
        self.ended: dict[str, str] = {}


STATE = State()


class _App(Manager):
    """What all of the app's managers have in common."""

    name = "sim-base"

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Who follows *user_id*."""
        target = NUMBER_OF[str(user_id)]
        users = [user for user, whom in sorted(STATE.edges) if whom == target]
        return STATE.hook("get_user_follower_ids", target, [SPELLINGS[user][-1] for user in users])

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Whom *user_id* follows."""
        number = NUMBER_OF[str(user_id)]
        targets = [target for user, target in sorted(STATE.edges) if user == number]
        return STATE.hook("get_user_following_ids", number, [SPELLINGS[target][0] for target in targets])

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whom the target names."""
        told = [] if activity.target_id is None else [activity.target_id]
        return STATE.hook("get_recipient_ids", NUMBER_OF[str(activity.actor_id)], told)


class _Told(_App):
    """Of those whose hooks are told what happened."""

    name = "sim-told"
    notification_feed_class = HotNotes
    hook_batch_size = 3

    def on_notification(self, notifications: Sequence[Notification]) -> Any:
        """Remember them."""
        answer = STATE.hook("on_notification", 0, [each.key for each in notifications])
        for each in notifications:
            STATE.told.append((each.key, NUMBER_OF[str(each.user_id)], BY_ID[each.activity.raw_id]))
        return answer

    def on_fanout_finished(self, fanouts: Sequence[FinishedFanout]) -> Any:
        """Remember them."""
        answer = STATE.hook("on_fanout_finished", 0, [each.key for each in fanouts])
        STATE.ended.update({each.key: each.id for each in fanouts})
        return answer


registry._managers = {}


class Plain(_Told):
    name = "plain"
    feed_classes = {"home": Home, "news": News}
    notification_feed_class = Notes
    user_feed_class = Own


class Chunked(_Told):
    name = "chunked"
    feed_classes = {"home": SmallHome, "news": SmallNews}
    notification_feed_class = SmallNotes
    user_feed_class = Own
    fanout_chunk_size = 2


class Ranked(_Told):
    name = "ranked"
    feed_classes = {"albums": AlbumNews, "hot": HotNews}
    notification_feed_class = HotNotes
    user_feed_class = Own
    fanout_chunk_size = 2


class Muted(_App):
    name = "muted"
    feed_classes = {"home": Home, "albums": AlbumNews}
    notification_feed_class = Notes
    user_feed_class = Own
    fanout_chunk_size = 1

    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Iterable[Any]:
        """Those who have not muted the actor."""
        actor = NUMBER_OF[str(activity.actor_id)]
        kept = [user for user in user_ids if (NUMBER_OF[str(user)], actor) not in STATE.mutes]
        return STATE.hook("filter_user_ids", actor, kept)


class Aging(_App):
    name = "aging"
    feed_classes = {"home": AgingHome, "news": AgingNews, "hot": AgingHot}
    notification_feed_class = AgingNotes
    user_feed_class = Own
    fanout_chunk_size = 2


class Idle(_App):
    name = "idle"
    feed_classes = {"home": IdleHome, "news": IdleNews}
    notification_feed_class = Notes
    user_feed_class = Own
    fanout_chunk_size = 2


class Flat(_App):
    name = "flat"
    feed_classes = {"home": SmallHome}
    user_feed_class = Own
    own_feeds = ("home",)


#: What only some may see says so.
SECRET = "c"


def may_see(user: int, text: str) -> bool:
    """Whether *user* may see what says *text*."""
    return text != SECRET or user % 2 == 0


class Picky(_App):
    name = "picky"
    feed_classes = {"home": SmallHome, "wire": Wire}
    notification_feed_class = Notes
    user_feed_class = Own
    own_feeds = ("home",)
    fanout_chunk_size = 2
    follow_activity_limit = 1

    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Iterable[Any]:
        """Those who have not muted the actor, and may see what it says."""
        actor, text = NUMBER_OF[str(activity.actor_id)], activity.extra_context.get("text", "")
        numbers = {user: NUMBER_OF[str(user)] for user in user_ids}
        kept = [u for u, number in numbers.items() if (number, actor) not in STATE.mutes and may_see(number, text)]
        return STATE.hook("filter_user_ids", actor, kept)


MANAGERS: tuple[type[Manager], ...] = (Plain, Chunked, Ranked, Muted, Aging, Idle, Flat, Picky)


def _older(manager: type[Manager]) -> type[Manager]:
    """A manager as the release before had it: one feed less, under the same name."""
    registry._managers = {}
    fewer = dict(list(manager.feed_classes.items())[: max(1, len(manager.feed_classes) - 1)])
    declared = {"name": manager.name, "feed_classes": fewer, "own_feeds": [*filter(fewer.get, manager.own_feeds)]}
    declared.update({hook: getattr(Manager, hook) for hook in manager.told_hooks})  # it knows of none
    return type(f"Old{manager.__name__}", (manager,), declared)


#: Each manager by its release, the old one first.
OLD, NEW = 0, 1
RELEASES: tuple[dict[str, type[Manager]], ...] = (
    {each.name: _older(each) for each in MANAGERS},
    {each.name: each for each in MANAGERS},
)
#: The verbs that each release knows.
VERBS: tuple[dict[int, type[Verb]], ...] = (dict(verbs._verbs), {**verbs._verbs, Poke.id: Poke})
registry._managers = _REGISTERED


def use(release: int, manager: str) -> None:
    """From now on the code that runs is of this release, and knows of this one manager."""
    verbs._verbs = VERBS[release]
    registry._managers = {manager: RELEASES[release][manager]}


#: Actor, verb, object, target (or -1) and second of each activity; two are of the same moment. Those without a target are
#: what ``notify`` tells of.
ACTIVITIES: tuple[tuple[int, type[Verb], Any, int, int], ...] = (
    (0, Love, 70, -1, 0),
    (1, Love, "tree", -1, 1),
    (0, Comment, Photo(70), 1, 1),
    (2, Poke, 70, 0, 2),
    (0, Love, _UUID, 3, 3),
    (1, Comment, "tree", 2, 4),
    (2, Love, 70, 3, 5),
    (0, Poke, Photo(71), 3, 6),
    (3, Love, Photo(71), 3, 7),
    (0, Love, Remark(71), 3, 8),
    (3, Love, Remark(71), 0, 8),
)
#: How many of them are drawn. The others are given once with a time that is years ahead, and are taken as of that moment.
DRAWN = len(ACTIVITIES)
YEARS = 10 * 365 * 86_400
ACTIVITIES += tuple((actor, Love, thing, 3, YEARS) for thing in (70, "tree", Photo(71)) for actor in (0, 1))
AHEAD = range(DRAWN, len(ACTIVITIES))
#: Whom a direct notification names.
PARTS: tuple[tuple[int, ...], ...] = ((0,), (1, 2), (3,), (0, 1, 2, 3), (2, 3))


#: What is written to single feeds, and known to no manager, has these numbers behind those of the others.
ALONE = 100


def activity(number: int, context: tuple[str, str] | None) -> Activity:
    """An activity; *context* is its text and its album."""
    actor, verb, thing, target, second = ACTIVITIES[number % ALONE]
    second += number // ALONE * 1000
    people = INSTANCES if number % 2 else [spelled[0] for spelled in SPELLINGS]
    told = None if target < 0 else people[target]
    given = {"text": context[0], "album": context[1]} if context else None
    made = Activity(people[actor], verb, thing, told, START + dt.timedelta(seconds=second), given)
    return made.dated(STATE.dated[number]) if number in STATE.dated else made


def _ids() -> dict[bytes, int]:
    known, verbs._verbs = verbs._verbs, VERBS[NEW]
    found = {
        activity(number, None).raw_id: number
        for first in (0, ALONE)
        for number in range(first, first + len(ACTIVITIES))
    }
    verbs._verbs = known
    return found


#: The number of each activity by its id.
BY_ID = _ids()
#: Those that are so in each history; and the id of each activity, by its number.
_ALWAYS, RAW_IDS = dict(BY_ID), {number: raw_id for raw_id, number in BY_ID.items()}


def begin() -> None:
    """Forget what happened in a history before."""
    STATE.__init__()  # type: ignore[misc]
    if BY_ID != _ALWAYS:
        BY_ID.clear()
        BY_ID.update(_ALWAYS)
        RAW_IDS.update({number: raw_id for raw_id, number in _ALWAYS.items()})


def take_as_now(number: int) -> None:
    """One of :data:`AHEAD` is taken to happen now."""
    STATE.dated[number] = time.time_ns() // 1000
    RAW_IDS[number] = activity(number, None).raw_id
    BY_ID[RAW_IDS[number]] = number


def second_of(number: int) -> float:
    """When an activity happened, in seconds from :data:`START`."""
    if number in STATE.dated:
        return STATE.dated[number] / 1e6 - START.timestamp()
    return ACTIVITIES[number % ALONE][4]


def feeds_of(manager: type[Manager]) -> dict[str, type[Feed]]:
    """All feeds of a manager by name, without that of a user's own activities."""
    notes = {"notes": manager.notification_feed_class} if manager.notification_feed_class else {}
    return {**manager.feed_classes, **notes}


#: The name under which a user's own feed is placed.
OWN_FEED = "own"


def _placed(manager: type[Manager]) -> dict[str, type[Feed]]:
    assert manager.user_feed_class is not None
    return {**feeds_of(manager), OWN_FEED: manager.user_feed_class}


def may_be_on_cassandra(manager: str) -> list[str]:
    """Names of the feeds of a manager that may be on Cassandra: those that no time without a reader ends."""
    return [name for name, kind in _placed(RELEASES[NEW][manager]).items() if not kind.expires_idle()]


@contextlib.contextmanager
def on_cassandra(manager: str, names: Iterable[str]) -> Iterator[None]:
    """While this lasts the feeds *names* of a manager are on Cassandra, as if their classes were declared so."""
    classes = _placed(RELEASES[NEW][manager])
    before = {classes[name]: classes[name].timeline_storage_class for name in names}
    for each in before:
        each.timeline_storage_class = CassandraTimelineStorage
    try:
        yield
    finally:
        for each, storage_class in before.items():
            each.timeline_storage_class = storage_class
