"""Ids of instances: things of two classes are never one, plain ids stay what they are, and the type comes back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import gc
import json
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedmill
from feedmill import Activity, AggregatedActivity, register_type
from feedmill.aggregators import NotificationAggregator, RecentVerbAggregator
from feedmill.errors import ActivityError, DeclarationError, FilterError
from feedmill.fanout import Fanout
from feedmill.ids import MAX_INT, MIN_INT, Reference, as_key, entity_id, owner_id, split
from feedmill.keys import feed_keys
from feedmill.msgpack_codec import pack
from feedmill.testing import isolated
from feedmill.verbs import Comment, Love
from tests.feeds.samples import Home, News, Notes, on_day
from tests.instances import Instance, Photo, Remark, Team, User
from tests.manager.friends import Friends

NOW = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.timezone.utc)


class Admin(User):
    """Another kind of the same."""


class Media(Instance):
    """What stands in one table with its subclasses."""

    feedmill_type = "shop.media"


class Film(Media):
    """A row of that table."""


class Lazy:
    """What stands for an instance and looks like it, as Django's ``request.user`` does."""

    def __init__(self, found: Any) -> None:
        self.__dict__["found"] = found

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found, name)


UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
CLASSES: tuple[type[Any], ...] = (User, Photo, Remark, Team, Media)
KEYS: st.SearchStrategy[Any] = st.one_of(
    st.integers(MIN_INT, MAX_INT), st.integers(0, 99), st.uuids(), st.text(min_size=1, max_size=30)
)


def plain_as_text(key: Any) -> bool:
    """Whether a user may have this key: else it is refused."""
    return split(key).type is None


@pytest.mark.parametrize(
    ("instance", "wanted"),
    [
        (User(5), 5),
        (User("ann"), "ann"),
        (User(UUID), UUID),
        (User(6, pk=5), 5),
        (Admin(5), 5),
        (Lazy(User(5)), 5),
        (Lazy(Photo(5)), "photo:5"),
        (Photo(5), "photo:5"),
        (Photo("5"), "photo:5"),
        (Photo(-5), "photo:-5"),
        (Photo(2**63), "photo:9223372036854775808"),
        (Photo(UUID), f"photo:{UUID}"),
        (Photo(5, pk="a:b"), "photo:a:b"),
        (Remark(5), "remark:5"),
        (Team(7), "team:7"),
        (Media(5), "shop.media:5"),
        (Film(5), "shop.media:5"),
        (Photo(enum.IntEnum("Size", "S M")["M"]), "photo:2"),
        (5, 5),
        ("ann", "ann"),
        ("photo:5", "photo:5"),
        (UUID, UUID),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_ids(instance: Any, wanted: Any) -> None:
    """A user's id is the key, that of anything else names its type; an id is what it was."""
    found = entity_id(instance, "object")
    assert (found, type(found)) == (wanted, type(wanted))
    activity = Activity(instance, Love, instance, instance, NOW)
    assert activity.actor_id == activity.object_id == activity.target_id == wanted
    assert pack(activity.object_id) == pack(wanted)


@given(st.sampled_from(CLASSES), st.sampled_from(CLASSES), KEYS, KEYS)
def test_things_of_two_classes_are_two(one: type[Any], other: type[Any], key: Any, other_key: Any) -> None:
    """Whatever their keys, instances of two classes are equal nowhere: as actor, object, target, in groups, keys and packed."""
    instances = [cls(each) for cls, each in ((one, key), (other, other_key), (other, key))]
    for instance in instances:
        if type(instance) is User and not plain_as_text(instance.id):
            with pytest.raises(ActivityError, match="give the text itself"):
                entity_id(instance, "object")
            return
    first, second, third = (entity_id(each, "object") for each in instances)
    if one is not other:
        assert len({str(first), str(second)}) == 2 and str(first) != str(third)
        aggregators = NotificationAggregator(), RecentVerbAggregator()
        for place in ("actor", "object", "target"):
            given: dict[str, Any] = {"actor": 1, "verb": Love, "object": 1, "time": NOW}
            a, b = (Activity(**{**given, place: each}) for each in (instances[0], instances[2]))
            assert a != b and a.id != b.id
            if place == "object":
                assert aggregators[0].get_group(a) != aggregators[0].get_group(b)
            if place == "actor":
                assert len(AggregatedActivity("g", [a, b]).actor_ids) == 2
    owners = [owner_id(each) for each in instances if type(each) in (User, Team, Media)]
    assert len(set(feed_keys("x:%(user_id)s", owners))) == len({str(each) for each in owners})


@given(st.sampled_from(CLASSES), KEYS)
def test_type_and_key_come_back(cls: type[Any], key: Any) -> None:
    """From the id alone: the type, and the key as it was; one that is spelled like an int or a UUID comes back as that."""
    if cls is User and not plain_as_text(key):
        return
    activity = Activity.unpack(Activity(cls(key), Love, cls(key), cls(key), NOW).pack())
    name = {User: None, Photo: "photo", Remark: "remark", Team: "team", Media: "shop.media"}[cls]
    wanted = Reference(name, key if cls is User else as_key(str(key)))
    assert activity.actor_reference == activity.object_reference == activity.target_reference == wanted
    assert type(activity.object_reference.key) is type(wanted.key)
    if not isinstance(key, str):
        assert wanted.key == key
    else:
        assert str(wanted.key) == key


@pytest.mark.parametrize(
    ("entity", "name", "key"),
    [
        (5, None, 5),
        ("5", None, "5"),
        ("ann", None, "ann"),
        (UUID, None, UUID),
        ("photo:5", "photo", 5),
        ("photo:05", "photo", "05"),
        ("photo:-0", "photo", "-0"),
        ("photo:18446744073709551615", "photo", 18446744073709551615),
        ("photo:18446744073709551616", "photo", "18446744073709551616"),
        ("photo:" + "9" * 200, "photo", "9" * 200),
        (f"photo:{UUID}", "photo", UUID),
        (f"Photo:{str(UUID).replace('1', 'A')}", "Photo", str(UUID).replace("1", "A")),
        ("photo:x\ny", "photo", "x\ny"),
        ("photo:", None, "photo:"),
        (":5", None, ":5"),
        ("12:30", None, "12:30"),
        ("a.b.c:5", "a.b.c", 5),
        ("a..b:5", None, "a..b:5"),
        ("größe:5", "größe", 5),
        ("photo:٥", "photo", "٥"),
    ],
)
def test_split(entity: Any, name: str | None, key: Any) -> None:
    """What is split into type and key, and what is plain."""
    assert split(entity) == Reference(name, key)
    assert type(split(entity).key) is type(key)


def test_no_target() -> None:
    """Without a target there is nothing to name."""
    assert Activity(1, Love, 2).target_reference is None


def test_json() -> None:
    """A dict for JSON holds ids as they are, whose type is in them."""
    shown = json.loads(json.dumps(Activity(User(1), Love, Photo(5), Team(UUID), NOW).to_dict()))
    assert (shown["actor_id"], shown["object_id"], shown["target_id"]) == (1, "photo:5", f"team:{UUID}")


class Nameless:
    """What has neither pk nor id."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Row(NamedTuple):
    """A row of whatever table."""

    id: int


class Column:
    """An instance of a class that says what cannot be."""

    feedmill_type = "a:b"
    id = 5


class Account(Instance):
    """Users by another name, of which nothing is said."""


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "neither pk nor id": (
        lambda: Activity(1, Love, Nameless()),
        ActivityError,
        "object is a Nameless of type Nameless; use an",
    ),
    "not stored": (
        lambda: Activity(1, Love, Photo(None)),
        ActivityError,
        "object is a Photo whose id is None: .* save it",
    ),
    "not stored in Django": (
        lambda: Activity(User(5, pk=None), Love, 1),
        ActivityError,
        "actor is a User whose pk is None",
    ),
    "a key of several columns": (
        lambda: Activity(1, Love, 1, Photo(5, pk=(1, 2))),
        ActivityError,
        r"target is a Photo whose pk is \(1, 2\); it must be an int, str or UUID",
    ),
    "a key that is a flag": (lambda: Activity(1, Love, Photo(True)), ActivityError, "whose id is True; it must be"),
    "an empty key": (
        lambda: Activity(1, Love, Photo("")),
        ActivityError,
        "object is a Photo whose id is an empty text",
    ),
    "a huge key": (lambda: Activity(1, Love, Photo(2**64)), ActivityError, "whose id 1844.* does not fit 64 bits"),
    "a long key": (
        lambda: Activity(1, Love, Photo("x" * 251)),
        ActivityError,
        "object id 'photo:x.* 257 characters",
    ),
    "a user who is called like a thing": (
        lambda: Activity(User("photo:5"), Love, 1),
        ActivityError,
        "actor is a User whose id is 'photo:5', which is how an instance of a type 'photo' is called. .* give the text itself",
    ),
    "an activity for a user": (lambda: Friends().get_feeds(on_day(1)), ActivityError, "user is <Activity .* swapped"),
    "an activity for an actor": (
        lambda: Activity(on_day(1), Love, 1),
        ActivityError,
        "actor is <Activity .*, a Activity;",
    ),
    "a group for an object": (
        lambda: Activity(1, Love, AggregatedActivity("g", [on_day(1)])),
        ActivityError,
        "object is <AggregatedActivity",
    ),
    "a feed for a user": (
        lambda: Friends().get_feeds(Home(1)),
        ActivityError,
        "user is <Home of 1>, a Home; .* swapped",
    ),
    "a feed of a feed": (lambda: Notes(Notes(1)), ActivityError, "user is <Notes of 1>"),
    "a manager for a user": (lambda: Friends().follow(Friends(), 1), ActivityError, "user is <Friends of home, news>"),
    "a fan-out for a target": (lambda: Friends().follow(1, Fanout("x")), ActivityError, "target is .*Fanout"),
    "a verb for an object": (
        lambda: Activity(1, Love, Comment),
        ActivityError,
        "object is the class Comment; give an instance",
    ),
    "a verb for an object, made": (
        lambda: Activity(1, Love, Comment()),
        ActivityError,
        "object is .*Comment.* swapped",
    ),
    "a class for an object": (
        lambda: Activity(1, Love, Photo),
        ActivityError,
        "object is the class Photo; give an instance",
    ),
    "an object for a verb": (
        lambda: Activity(1, Photo(5), Love),
        Exception,
        r"Were two arguments swapped\? It is Activity",
    ),
    "a time for a target": (
        lambda: Activity(1, Love, 2, NOW),
        ActivityError,
        "target is datetime.* of type datetime; use",
    ),
    "a flag": (lambda: Activity(True, Love, 1), ActivityError, "actor is True of type bool; use an int"),
    "user and activity swapped": (
        lambda: Friends().add_user_activity(on_day(1), 5),  # type: ignore[arg-type]
        ActivityError,
        "user is <Activity",
    ),
    "user and activity to explain swapped": (
        lambda: Friends().explain(on_day(1), 5),  # type: ignore[arg-type]
        ActivityError,
        "user is <Activity",
    ),
    "one user to notify": (
        lambda: Friends().notify(User(5), on_day(1)),  # type: ignore[arg-type]
        feedmill.errors.ArgumentError,
        "user ids are User.* use a list of ids, even of one",
    ),
    "feeds of a thing": (
        lambda: Friends().get_feeds(Photo(5)),
        ActivityError,
        r"user is a Photo, and it is not known that such have feeds. .* write feedmill_type = None in"
        r" tests.instances.Photo: .* feedmill_type = 'photo': .* such as 'photo:5'",
    ),
    "a feed of users by another name": (lambda: Home(Account(5)), ActivityError, "user is a Account, and it is not"),
    "a key of a thing": (lambda: Home.key_of(Photo(5)), ActivityError, "user is a Photo, and"),  # type: ignore[arg-type]
    "things to notify": (lambda: Friends().notify([Photo(5)], on_day(1)), ActivityError, "user is a Photo, and"),
    "a thing that follows": (lambda: Friends().follow(Photo(5), 1), ActivityError, "user is a Photo, and"),
    "a thing whose feeds are rebuilt": (lambda: Friends().rebuild(Photo(5)), ActivityError, "user is a Photo, and"),
    "a filter by nothing": (lambda: Home(1).filter(object_id=None), FilterError, "object_id is None of type NoneType"),
    "a filter by what is not stored": (lambda: Home(1).filter(actor_id=User(None)), FilterError, "whose id is None"),
    "a row": (
        lambda: Activity(1, Love, Row(5)),
        ActivityError,
        "Row does not say what its instances are: .* 'picture:5'",
    ),
    "a bag": (
        lambda: Activity(SimpleNamespace(id=5), Love, 1),
        ActivityError,
        "types.SimpleNamespace does not say what",
    ),
    "a type that cannot be": (
        lambda: Activity(1, Love, Column()),
        DeclarationError,
        "'a:b' cannot be the type of .*Column",
    ),
    "a name that cannot be": (lambda: register_type(Photo, "1st"), DeclarationError, "'1st' cannot be the type of"),
    "a name that is none": (lambda: register_type(Photo, 5), DeclarationError, "5 cannot be the type of"),  # type: ignore[arg-type]
    "a long name": (lambda: register_type(Photo, "x" * 101), DeclarationError, "of up to 100 letters"),
    "no class": (lambda: register_type("photo", "photo"), DeclarationError, "'photo' is no class"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes(memory: None, case: str) -> None:
    """What is no id, what is not stored yet and what was swapped is an error that names it, and what to do."""
    do, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        do()


def made(name: str, **attributes: Any) -> type[Any]:
    """A class of that name, of a module of its own."""
    return type(name, (Instance,), {"__module__": f"shop{uuid.uuid4().hex}", **attributes})


@pytest.fixture
def two() -> tuple[type[Any], type[Any]]:
    """Two classes of one name, which no other test has, and of two modules."""
    name = f"Twin{uuid.uuid4().hex}"
    return made(name), made(name)


def test_two_classes_of_one_name(two: tuple[type[Any], type[Any]]) -> None:
    """The second of two classes of one name is refused, both named, until it says what it is."""
    one, other = two
    name = one.__name__.lower()
    assert entity_id(one(5), "object") == f"{name}:5"
    with pytest.raises(DeclarationError, match=f"shop.*Twin.* and shop.*Twin.* would both be of the type '{name}'"):
        entity_id(other(5), "object")
    register_type(other, "market.twin")
    assert entity_id(other(5), "object") == "market.twin:5"
    assert entity_id(one(5), "object") == f"{name}:5"


def test_two_classes_of_users() -> None:
    """Ids of two classes are not plain at once, however they came to be so."""
    a, b, c = made("User"), made("Account", feedmill_type=None), made("User", feedmill_type="staff")
    with pytest.raises(DeclarationError, match=r"would both have plain ids, as users have"):
        assert [entity_id(each(5), "user") for each in (User, a)]
    with pytest.raises(DeclarationError, match=r"shop.*Account and .*User would both have plain ids"):
        assert [entity_id(each(5), "user") for each in (User, b)]
    assert owner_id(c(5)) == "staff:5"


def test_a_class_of_the_same_things(two: tuple[type[Any], type[Any]]) -> None:
    """A class may be said to stand for the same things as another."""
    one, other = two
    name = one.__name__.lower()
    register_type(other, one)
    assert entity_id(one(5), "object") == entity_id(other(5), "object") == f"{name}:5"
    with pytest.raises(DeclarationError, match="as the same things as itself"):
        register_type(one, other)
    assert entity_id(one(5), "object") == f"{name}:5"
    schema = made("User")
    register_type(schema, User)
    assert Home(schema(5)).key == Home(User(5)).key == Home(5).key


def test_a_class_of_the_same_things_as_a_bag(two: tuple[type[Any], type[Any]]) -> None:
    """A class that says nothing says nothing for another one; what was refused has changed nothing."""
    one, _ = two
    with pytest.raises(ActivityError, match="does not say what its instances are"):
        register_type(one, SimpleNamespace)
    assert entity_id(one(5), "object") == f"{one.__name__.lower()}:5"


def test_a_test_has_classes_of_its_own(two: tuple[type[Any], type[Any]]) -> None:
    """In a block of its own a test may use a class called like one that others use, which still counts behind it."""
    one, other = two
    name = one.__name__.lower()
    assert entity_id(one(5), "object") == f"{name}:5"
    with isolated():
        assert entity_id(other(5), "object") == f"{name}:5"
    assert entity_id(one(5), "object") == f"{name}:5"
    with pytest.raises(DeclarationError, match="would both be of the type"):
        entity_id(other(5), "object")


def test_a_class_that_is_no_more() -> None:
    """The name of a class that nobody has any more is free again."""
    entity_id(made("Passing")(5), "object")
    gc.collect()
    assert entity_id(made("Passing")(5), "object") == "passing:5"


def test_a_class_that_is_imported_anew() -> None:
    """A module that is loaded again has the same classes."""
    one, again = made("Reloaded"), made("Reloaded")
    again.__module__ = one.__module__
    assert entity_id(one(5), "object") == entity_id(again(5), "object") == "reloaded:5"


def test_registered_too_late(two: tuple[type[Any], type[Any]]) -> None:
    """What ids of a class have said stays; the same may be said twice."""
    one, other = two
    name = one.__name__.lower()
    entity_id(one(5), "object")
    with pytest.raises(DeclarationError, match=f"cannot become 'late' now: ids of .*Twin.* said '{name}' before"):
        register_type(one, "late")
    assert entity_id(one(5), "object") == f"{name}:5"
    register_type(one, name)
    register_type(one, name)
    with pytest.raises(DeclarationError, match=f"is registered as '{name}' already"):
        register_type(one, "other")
    register_type(other, "other")
    assert owner_id(one(5)) == f"{name}:5"  # it is declared


def test_a_subclass_says_otherwise() -> None:
    """What is said of a subclass goes before what is said of its base."""
    film = type("Film", (Media,), {"feedmill_type": "film", "__module__": "elsewhere"})
    assert entity_id(film(5), "object") == "film:5"
    other = type("Short", (film,), {"__module__": "elsewhere"})
    register_type(other, "short")
    assert entity_id(other(5), "object") == "short:5"


def test_rows_that_say_what_they_are() -> None:
    """A class of rows may say what they are."""

    class Song(NamedTuple):
        id: int
        feedmill_type = "song.row"

    assert entity_id(Song(5), "object") == "song.row:5"


def test_dataclasses() -> None:
    """An instance of any class will do, also one whose instances cannot be hashed."""

    @dataclasses.dataclass
    class Song:
        id: int

    assert entity_id(Song(5), "object") == "song:5"


def test_feeds_of_an_instance(memory: None) -> None:
    """A feed of a user is that of their id, and knows it as such."""
    for kind in (Home, News, Notes):
        for given_, plain in (
            (User(5), 5),
            (Lazy(User("ann")), "ann"),
            (User(6, pk=UUID), UUID),
            (Team(7), "team:7"),
        ):
            feed: Any = kind(given_)
            assert (feed.user_id, feed.key, repr(feed)) == (plain, kind(plain).key, repr(kind(plain)))
            assert kind.key_of(given_) == feed.key  # type: ignore[arg-type]
    assert Notes(User(5)).count_key == Notes(5).count_key
    assert Notes(User(5)).lock_key == Notes(5).lock_key
    with Notes.subscribe_many([User(5), Team(7)]) as subscription:
        assert sorted(str(subscription.get(1)[0]) for _ in range(2)) == ["5", "team:7"]  # type: ignore[index]


def test_a_number_of_another_kind() -> None:
    """An enumeration of numbers is no user, as before."""
    size = enum.IntEnum("Size", "S M")
    with pytest.raises(ActivityError, match="user id is .* of type Size"):
        Home(size["M"])
