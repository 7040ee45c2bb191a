"""Every hook, every kind of nonsense, every path: nothing reaches whom the right answer keeps out, and the hook is named."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from feedmill import Activity, registry
from feedmill.fanout import Fanout, Fanouts
from feedmill.tasks import app
from feedmill.worker import drain
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.manager.friends import Friends, home, love, news, notes

#: Who follows 1, who of them may see what 1 does, and who may not.
FOLLOWERS, WELCOME, MUTED = (10, 11, 12), (10, 12), 11
#: Who else might be taken for somebody: letters, bytes and truth values of what is answered.
STRANGERS = [99, "b", "o", "bob", 98, 111, 7, 0, "True", "False", "None", "11", "<", "[", "e", "y"]


class Odd(Friends):
    """A friends in which one hook answers oddly about what 1 did, and about whom 1 is; of others it answers well."""

    #: Makes of what the hook should consider what it answers; None for the right answer.
    oddly: ClassVar[Callable[[list[Any]], Any] | None] = None

    @classmethod
    def answer(cls, actor: Any, considered: Iterable[Any], right: Any) -> Any:
        """What a hook answers."""
        return right if cls.oddly is None or actor != 1 else cls.oddly(list(considered))


class OddFollowers(Odd):
    def get_user_follower_ids(self, user_id: Any) -> Any:
        """Followers, without the one who does not follow after all."""
        return self.answer(user_id, FOLLOWERS, WELCOME if user_id == 1 else [10])


class OddRecipients(Odd):
    def get_user_follower_ids(self, user_id: Any) -> Any:
        """Followers, always right."""
        return WELCOME if user_id == 1 else [10]

    def get_recipient_ids(self, activity: Activity) -> Any:
        """Who is notified."""
        return self.answer(activity.actor_id, FOLLOWERS, WELCOME if activity.actor_id == 1 else [10])


class OddFollowing(Odd):
    def get_user_follower_ids(self, user_id: Any) -> Any:
        """Nobody's feed is filled but by a rebuild."""
        return []

    def get_user_following_ids(self, user_id: Any) -> Any:
        """Whom a user follows; the muted one follows nobody."""
        right = [] if user_id == MUTED else [1, 2]
        return right if self.oddly is None or user_id != MUTED else type(self).oddly([1])  # type: ignore[misc]


class OddAccepts(Odd):
    edges: ClassVar[set[tuple[Any, Any]]] = {(user, actor) for user in FOLLOWERS for actor in (1, 2)}

    def get_recipient_ids(self, activity: Activity) -> Any:
        """All are notified, if they accept it."""
        return FOLLOWERS

    def accepts(self, user_id: Any, activity: Activity) -> Any:
        """The muted one does not."""
        return self.answer(activity.actor_id, [user_id], user_id != MUTED)


class OddUsers(OddAccepts):
    def filter_user_ids(self, activity: Activity, user_ids: Sequence[Any]) -> Any:
        """All but the muted one."""
        right = [user for user in user_ids if user != MUTED]
        return self.answer(activity.actor_id, user_ids, right)

    accepts = Friends.accepts


class OddActivities(OddAccepts):
    def accepts(self, user_id: Any, activity: Activity) -> bool:
        """Always right."""
        return bool(user_id != MUTED)

    def filter_activities(self, user_id: Any, activities: Sequence[Activity]) -> Any:
        """Nothing for the muted one."""
        odd = user_id == MUTED and any(activity.actor_id == 1 for activity in activities)
        return self.answer(1 if odd else 2, activities, [] if user_id == MUTED else activities)


async def _later(answer: Any) -> Any:
    return answer


async def _one_after_the_other(answer: Any) -> AsyncIterator[Any]:
    for each in answer:
        yield each


def _breaks(first: Any) -> Iterator[Any]:
    yield first
    raise RuntimeError("the database is away")


class Truthy:
    """A thing that is true of everything, as a coroutine is."""


#: What the hook may answer, from what it should consider.
NONSENSE: dict[str, Callable[[list[Any]], Any]] = {
    "text": lambda asked: "bob",
    "bytes": lambda asked: b"bob",
    "bytes that change": lambda asked: bytearray(b"bob"),
    "a view of bytes": lambda asked: memoryview(b"bob"),
    "a number": lambda asked: 7,
    "a yes as text": lambda asked: "yes",
    "None": lambda asked: None,
    "a thing": lambda asked: Truthy(),
    "a model": lambda asked: SimpleNamespace(id=11),
    "models": lambda asked: [SimpleNamespace(id=each) for each in asked],
    "a mapping of flags": lambda asked: dict.fromkeys(asked, False),
    "a coroutine": _later,
    "a coroutine of a no": lambda asked: _later(False),
    "an async generator": _one_after_the_other,
    "booleans": lambda asked: [True for _ in asked],
    "Nones": lambda asked: [None for _ in asked],
    "a nested list": lambda asked: [asked],
    "rows": lambda asked: [(each,) for each in asked],
    "numbers with points": lambda asked: [float(each) if isinstance(each, int) else 1.0 for each in asked],
    "a list with a flaw": lambda asked: [*asked[:0], None],
}
#: The same for what is asked about one user and one activity, where a list is as odd as anything.
ODD_FOR_ONE: dict[str, Callable[[list[Any]], Any]] = {
    **NONSENSE,
    "a list": lambda asked: asked,
    "an empty list": lambda asked: [],
    "two": lambda asked: 2,
    "one and a half": lambda asked: 1.5,
}
#: What breaks off, and what names others than were asked about, is nonsense for the lists of filters alone.
ODD_FOR_FILTERS: dict[str, Callable[[list[Any]], Any]] = {
    **NONSENSE,
    "True": lambda asked: True,
    "a stream that breaks": lambda asked: _breaks(asked[0] if asked else None),
    "people who were not asked about": lambda asked: [99, "bob"],
    "activities that were not asked about": lambda asked: [love(77)],
    "one who was not asked about slipped in": lambda asked: asked.clear() or asked.append(99) or asked,
}

HOOKS: dict[str, tuple[type[Odd], dict[str, Callable[[list[Any]], Any]]]] = {
    "get_user_follower_ids": (OddFollowers, NONSENSE),
    "get_recipient_ids": (OddRecipients, NONSENSE),
    "get_user_following_ids": (OddFollowing, NONSENSE),
    "accepts": (OddAccepts, ODD_FOR_ONE),
    "filter_user_ids": (OddUsers, ODD_FOR_FILTERS),
    "filter_activities": (OddActivities, ODD_FOR_FILTERS),
}

Path = Callable[[Odd, FakeBroker], list["Fanout | Fanouts"]]


def small(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """An activity to few."""
    return [manager.add_activity(love(1))]


def chunked(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """The same in chunks, as if they were many."""
    type(manager).fanout_chunk_size = 1
    return [manager.add_activity(love(1))]


def imported(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """Two activities of long ago."""
    return [manager.batch_import(1, [love(1), love(2)])]


def updated(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """An update in place of an addition that is still on its way."""
    manager.add_activity(love(1))
    return [manager.update_activity(love(1, why="a better text"))]


def told(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """Some by name."""
    return [manager.notify([*FOLLOWERS], love(1))]


def followed(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """What was there before is copied."""
    _before(manager, box)
    return [manager.follow(user, 1) for user in FOLLOWERS]


def rebuilt(manager: Odd, box: FakeBroker) -> list[Fanout | Fanouts]:
    """The same of all whom somebody follows."""
    _before(manager, box)
    return [manager.rebuild(user) for user in FOLLOWERS]


def _before(manager: Odd, box: FakeBroker) -> None:
    manager.batch_import(1, [love(1), love(2)], fanout=False)
    box.take()


ASKED: dict[str, tuple[Path, ...]] = {
    "get_user_follower_ids": (small, chunked, imported, updated),
    "get_recipient_ids": (small, chunked, updated),
    "get_user_following_ids": (rebuilt,),
    "accepts": (small, chunked, imported, updated, told, followed, rebuilt),
    "filter_user_ids": (small, chunked, imported, updated, told, followed, rebuilt),
    "filter_activities": (followed, rebuilt),
}
CASES = [
    pytest.param(hook, odd, path, id=f"{hook}-{odd}-{path.__name__}")
    for hook, (_, nonsense) in HOOKS.items()
    for odd, path in itertools.product(nonsense, ASKED[hook])
]
#: What is no nonsense: whoever was not asked about is passed over.
HARMLESS = ("not asked about",)


def work(box: FakeBroker) -> None:
    """What workers do, those included that fail."""
    while box.messages:
        name, args = box.messages.pop(0)
        try:
            arrive(name, args)
        except Exception as error:
            app.tasks[name].on_failure(error, "", args, {}, None)


def reached(user: Any) -> set[int]:
    """The numbers of all that somebody is shown."""
    return {*home(user), *news(user), *notes(user)}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("hook", "odd", "path"), CASES)
def test_nonsense_lets_nothing_through(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, hook: str, odd: str, path: Path
) -> None:
    """Whom the right answer keeps out gets nothing, others' activities arrive, and the status names the hook."""
    kind, nonsense = HOOKS[hook]
    monkeypatch.setattr(registry, "_managers", {kind.name: kind})  # a sweep would look at those of other tests as well
    monkeypatch.setattr(kind, "fanout_chunk_size", 10)
    monkeypatch.setattr(kind, "oddly", staticmethod(nonsense[odd]))
    manager = kind()
    fanouts = path(manager, box)
    other = manager.add_activity(love(50, actor=2)) if hook != "get_user_following_ids" else None
    work(box)
    assert not [user for user in (MUTED, *STRANGERS) if reached(user) - {50}]
    if not (odd.endswith(HARMLESS) or "slipped in" in odd):
        errors = [fanout.status().error for fanout in fanouts]
        assert any("the database is away" in each or f"{kind.name}.{hook} " in each for each in errors), errors
    if other is not None:
        assert 50 in reached(10) and other.status().finished

    monkeypatch.setattr(kind, "oddly", None)  # fixed, all comes that should
    make_overdue(manager.name)
    drain.sweep()
    work(box)
    assert reached(MUTED) == set()
    if any(fanout.status().failed for fanout in fanouts):
        assert {10, 12} == {user for user in FOLLOWERS if reached(user) - {50}}


@pytest.mark.parametrize("hook", HOOKS)
def test_the_right_answer(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """The managers of this page let through what they should when they answer well."""
    for path in ASKED[hook]:
        monkeypatch.setattr(HOOKS[hook][0], "fanout_chunk_size", 10)
        path(HOOKS[hook][0](), box)
        work(box)
        assert reached(10) and reached(12) and not reached(MUTED), path.__name__
        for user in FOLLOWERS:
            HOOKS[hook][0]().get_notification_feed(user).delete()
            for feed in HOOKS[hook][0]().get_feeds(user).values():
                feed.delete()
