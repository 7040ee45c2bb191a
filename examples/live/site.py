"""What the live page does: each function takes the id of who is there, and gives what JSON can hold. No framework."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from examples.live import store
from examples.live.fanouts import FanoutWatch
from examples.live.feeds import (
    Follow,
    Home,
    Like,
    Network,
    Notifications,
    Post,
    post_manager,
    reaction_manager,
)
from feedmill import Activity, AggregatedActivity
from feedmill.feeds import Page

#: Items of a page, stacks beside it, people who are named of a group, and whom "who?" shows at once.
PAGE, STACKS, NAMED, WHO = 10, 6, 3, 20
#: Characters of a post, and of a name.
LONGEST, LONGEST_NAME = 500, 40
watch = FanoutWatch()


class Refused(Exception):
    """What was asked for cannot be done; the answer has the status and the text."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


# -- people


def known(person: str | None) -> str:
    """*person*, if there is such a person."""
    if not person or not store.has_person(person):
        raise Refused(401, "say who you are first")
    return person


def me(person: str) -> dict[str, Any]:
    """Who *person* is, and whom else there is to follow, or to be."""
    followed = store.following(person)
    everybody = [{**each, "followed": each["id"] in followed} for each in store.listed()]
    return {"me": _person(person), "people": everybody, "following": len(followed), "followers": store.audience(person)}


def join(name: Any) -> str:
    """The id of somebody new, who follows nobody."""
    return store.add_person(_text(name, "your name", LONGEST_NAME))


def _person(id: str) -> dict[str, str]:
    return store.people([id]).get(id) or {"id": id, "name": "Somebody", "bio": ""}


def _text(value: Any, what: str, longest: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest or _is_broken(value):
        raise Refused(400, f"{what} must be a text of 1 to {longest} characters")
    return value.strip()


def _is_broken(text: str) -> bool:
    """Whether *text* has half of a character, which no database takes."""
    return text != text.encode(errors="ignore").decode()


def follow(person: str, target: str) -> dict[str, Any]:
    """*person* follows *target*, whose newest posts and likes come into the feeds; *target* is notified."""
    if target == person or not store.has_person(target):
        raise Refused(400, "that is nobody whom you can follow")
    time = store.follow(person, target)
    for manager in (post_manager, reaction_manager):
        manager.follow(person, target)
    watch.add(reaction_manager.add_activity(_followed(person, target, time)), person, 0)
    return me(person)


def unfollow(person: str, target: str) -> dict[str, Any]:
    """*person* no longer follows *target*, and it is as if they never had."""
    if (time := store.followed_since(person, target)) is not None:
        reaction_manager.remove_activity(_followed(person, target, time))
    store.unfollow(person, target)  # only now: asked again after a failure above, it removes the activity still
    for manager in (post_manager, reaction_manager):
        manager.unfollow(person, target)
    return me(person)


def _followed(person: str, target: str, time: dt.datetime) -> Activity:
    return Activity(person, Follow, target, target=target, time=time)


# -- posts


def post(author: str, text: Any, key: Any = None) -> dict[str, Any]:
    """A new post. With the same *key* once more it is the same post: a page may try again when the storage was away."""
    key = key if key is None else _text(key, "key", LONGEST)
    number, time = store.add_post(author, _text(text, "a post", LONGEST), key)
    watch.add(post_manager.add_activity(_posted(author, number, time)), author, store.audience(author))
    return _shown([number], author)[0]


def take_back(person: str, number: int) -> dict[str, Any]:
    """The post never was, nor what was done with it."""
    found = _post(person, number)
    if found["author"] != person:
        raise Refused(403, "that is somebody else's post")
    time = dt.datetime.fromisoformat(found["time"])
    post_manager.remove_activity(_posted(person, number, time))
    reaction_manager.remove_object(f"post:{number}")
    store.remove_post(number)
    return {"removed": number}


def like(person: str, number: int) -> dict[str, Any]:
    """*person* likes a post."""
    author = _post(person, number)["author"]
    reaction_manager.add_activity(_liked(person, number, author, store.like(number, person)))
    return _shown([number], person)[0]


def unlike(person: str, number: int) -> dict[str, Any]:
    """*person* never liked the post."""
    author = _post(person, number)["author"]
    if (time := store.liked_at(number, person)) is not None:
        reaction_manager.remove_activity(_liked(person, number, author, time))
    store.unlike(number, person)
    return _shown([number], person)[0]


def _posted(author: str, number: int, time: dt.datetime) -> Activity:
    return Activity(author, Post, f"post:{number}", time=time)  # equal values make an equal id


def _liked(person: str, number: int, author: str, time: dt.datetime) -> Activity:
    return Activity(person, Like, f"post:{number}", target=author, time=time)


def stored_activities() -> tuple[list[Activity], list[Activity]]:
    """The posts that the database has, and the likes and follows, each oldest first."""
    at = dt.datetime.fromisoformat
    posts = [_posted(each["author"], each["id"], at(each["time"])) for each in store.all_posts()]
    likes = [_liked(each["person"], each["post"], each["author"], at(each["time"])) for each in store.all_likes()]
    fans = store.fans(store.SEED["fans"])
    follows = [_followed(each["person"], each["target"], at(each["time"])) for each in fans]
    return posts, sorted(likes + follows, key=lambda each: each.time)


def _post(reader: str, number: int) -> dict[str, Any]:
    found = store.posts([number], reader).get(number) if 0 < number < 2**63 else None
    if found is None:
        raise Refused(404, f"there is no post {number}")
    return found


def _shown(numbers: Sequence[int], reader: str) -> list[dict[str, Any]]:
    """The posts of *numbers* that are still there, with their authors."""
    found = store.posts(numbers, reader)
    authors = store.people(each["author"] for each in found.values())
    return [{**found[number], "author": authors[found[number]["author"]]} for number in numbers if number in found]


def _number(object_id: Any) -> int:
    kind, _, number = str(object_id).partition(":")
    return int(number) if kind == "post" and number.isdigit() else 0


# -- feeds


def home_feed(person: str) -> Home:
    """The home feed of *person*."""
    feed: Home = post_manager.get_feeds(person)["home"]
    return feed


def network_feed(person: str) -> Network:
    """The stacks of *person*."""
    feed: Network = reaction_manager.get_feeds(person)["network"]
    return feed


def notification_feed(person: str) -> Notifications:
    """The notifications of *person*."""
    feed: Notifications = reaction_manager.get_notification_feed(person)
    return feed


def home(person: str, cursor: str | None = None) -> dict[str, Any]:
    """A page of the home feed; ``shown`` stands for it in the live stream."""
    feed = home_feed(person)
    page = feed.page(PAGE, after=cursor or None)
    # Of somebody who was unfollowed a moment ago posts are there until a worker has taken them out.
    wanted = store.following(person) | {person}
    items = _shown([_number(each.object_id) for each in page.items if each.actor_id in wanted], person)
    return {"items": items, "next": page.next, "shown": feed.shown(page)}


def network(person: str) -> dict[str, Any]:
    """The newest stacks of what the people whom *person* follows did."""
    feed = network_feed(person)
    page = feed.page(STACKS)
    return {"items": _stacks(page, person), "shown": feed.shown(page)}


def notifications(person: str, cursor: str | None = None, *, unread: bool = False) -> dict[str, Any]:
    """A page of notifications, or of the unread ones; ``revision`` stands for it when they are marked."""
    feed = notification_feed(person)
    page = (feed.unread() if unread else feed).page(PAGE, after=cursor or None)
    return {"items": _stacks(page, person), "next": page.next, "revision": page.revision}


def who(person: str, feed: str, group: str, cursor: str | None = None) -> dict[str, Any]:
    """Who is behind a stack: all of them, a page at a time."""
    feeds = {"network": network_feed, "notifications": notification_feed}
    if feed not in feeds:
        raise Refused(404, f"there is no feed {feed!r}")
    page = feeds[feed](person).actors(group, WHO, after=cursor or None)
    people = store.people(map(str, page.items))
    return {"people": [people[str(id)] for id in page.items if str(id) in people], "next": page.next}


def mark(person: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Mark what ``groups`` names (as they were shown), or all up to ``until``: ``seen`` and ``read`` are true, false or null."""
    feed = notification_feed(person)
    seen, read, groups = body.get("seen"), body.get("read"), body.get("groups")
    if groups is None:
        feed.mark_all(seen=seen, read=read, until=body.get("until"))
    else:
        feed.mark(groups, seen=seen, read=read)
    return feed.get_denormalized_counts()._asdict()


def live_feeds(person: str, home: str = "", network: str = "") -> dict[str, Any]:
    """What the live stream tells of: the badge, and what came since the page was read."""
    shown = {"home": (home_feed(person), home), "network": (network_feed(person), network)}
    return {"badge": notification_feed(person), **{name: pair for name, pair in shown.items() if pair[1]}}


def _stacks(page: Page, reader: str) -> list[dict[str, Any]]:
    """Groups of *page* as the page draws them, in two queries for all; without those whose post is gone."""
    groups: list[AggregatedActivity] = page.items
    objects = [group.object_ids[0] for group in groups]
    posts = {each["id"]: each for each in _shown([number for number in map(_number, objects) if number], reader)}
    ids = {str(id) for group in groups for id in group.actor_ids[:NAMED]} | set(map(str, objects))
    people = store.people(ids)
    items = []
    for group, object_id in zip(groups, objects):
        found, about = group.to_dict(), posts.get(_number(object_id)) or people.get(str(object_id))
        keys = ("group", "actor_count", "is_seen", "is_read", "updated_at", "revision")
        named = [people[str(id)] for id in group.actor_ids[:NAMED] if str(id) in people]
        if about and named and group.verb:
            verb = group.verb.past_tense
            kind = "post" if _number(object_id) else "person"
            items.append({**{key: found[key] for key in keys}, "verb": verb, "people": named, kind: about})
    return items
