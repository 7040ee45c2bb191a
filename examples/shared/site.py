"""What the site does, for any framework: each function takes the id of who is logged in, and gives what JSON can hold."""

from __future__ import annotations

import re
from typing import Any

from examples.shared import store
from examples.shared.feeds import Home, Like, Notifications, Share, manager
from feedmill import Activity, AggregatedActivity
from feedmill.verbs import Comment, Follow

#: Items of a page, and characters of a text.
PAGE, LONGEST = 10, 500


class Refused(Exception):
    """What was asked for cannot be done; the answer has the status and the text."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


# -- people


def known(person: str | None) -> str:
    """*person*, if there is such a person."""
    if person not in store.people():
        raise Refused(401, "log in first")
    return str(person)


def person(id: str) -> dict[str, str]:
    """Somebody, as the page shows them."""
    return {"id": id, "name": store.people().get(id, "somebody")}


def me(user: str | None) -> dict[str, Any]:
    """Who is logged in, and who else there is."""
    names, followed = store.people(), store.following(user or "")
    everybody = [{**person(id), "followed": id in followed} for id in names]
    return {"me": person(user) if user in names and user else None, "people": everybody}


def follow(user: str, target: str) -> dict[str, Any]:
    """*user* follows *target*, whose newest activities come into the home feed; *target* is notified."""
    if target not in store.people() or target == user:
        raise Refused(400, f"{target!r} is nobody that you can follow")
    store.follow(user, target)
    manager.follow(user, target)
    manager.notify([target], Activity(user, Follow, target))
    return me(user)


def unfollow(user: str, target: str) -> dict[str, Any]:
    """*user* no longer follows *target*, whose activities leave the home feed."""
    store.unfollow(user, target)
    manager.unfollow(user, target)
    return me(user)


# -- posts


def share(user: str, text: Any, link: Any = "") -> dict[str, Any]:
    """A new post."""
    link = link or ""
    if not isinstance(link, str) or (link and not re.match("(https?:/)?/", link)):
        raise Refused(400, "a link begins with http:// or https://")
    number, time = store.add_post(user, _text(text), link[:LONGEST])
    manager.add_activity(Activity(user, Share, f"post:{number}", time=time))
    return post(user, number)


def like(user: str, number: int) -> dict[str, Any]:
    """*user* likes a post."""
    author = _post(user, number)["author"]
    manager.add_activity(_liked(user, number, author, store.like(number, user)))
    return post(user, number)


def unlike(user: str, number: int) -> dict[str, Any]:
    """It never happened: it leaves all feeds and notifications."""
    author, time = _post(user, number)["author"], store.liked_at(number, user)
    if time is not None:
        manager.remove_activity(_liked(user, number, author, time))
    store.unlike(number, user)  # only now: asked again after a failure above, it removes the activity still
    return post(user, number)


def _liked(user: str, number: int, author: str, time: Any) -> Activity:
    return Activity(user, Like, f"post:{number}", target=author, time=time)  # equal values make an equal id


def comment(user: str, number: int, text: Any) -> dict[str, Any]:
    """A comment on a post."""
    author = _post(user, number)["author"]
    _, time = store.add_comment(number, user, _text(text))
    manager.add_activity(Activity(user, Comment, f"post:{number}", target=author, time=time))
    return post(user, number)


def post(user: str, number: int) -> dict[str, Any]:
    """A post with its comments."""
    found = _shown(_post(user, number))
    said = [{**each, "person": person(each["person"])} for each in store.comments(number)]
    return {**found, "all_comments": said}


def _post(user: str, number: int) -> dict[str, Any]:
    found = store.posts([number], user).get(number) if 0 < number < 2**63 else None
    if found is None:
        raise Refused(404, f"there is no post {number}")
    return found


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "author": person(row["author"])}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
        raise Refused(400, f"write something, up to {LONGEST} characters")
    return value.strip()


# -- feeds


def home_feed(user: str) -> Home:
    """The home feed of *user*."""
    feed: Home = manager.get_feeds(user)["home"]
    return feed


def notification_feed(user: str) -> Notifications:
    """The notifications of *user*."""
    feed: Notifications = manager.get_notification_feed(user)
    return feed


def home(user: str, cursor: str | None = None) -> dict[str, Any]:
    """A page of the home feed; ``shown`` stands for it in the live stream."""
    feed = home_feed(user)
    page = feed.page(PAGE, after=cursor or None)
    posts = store.posts([_number(group) for group in page.items], user)
    items = [_item(group, posts[_number(group)]) for group in page.items if _number(group) in posts]
    return {"items": items, "next": page.next, "shown": feed.shown(page)}


def _item(group: AggregatedActivity, row: dict[str, Any]) -> dict[str, Any]:
    """A post, and why it is here: who did what with it, newest first."""
    why: dict[str, dict[str, Any]] = {}
    for each in reversed(group.activities):
        why.setdefault(each.verb.past_tense, {})[str(each.actor_id)] = person(str(each.actor_id))
    because = [{"verb": verb, "people": list(people.values())} for verb, people in why.items()]
    return {"group": group.group, "post": _shown(row), "because": because}


def notifications(user: str, cursor: str | None = None) -> dict[str, Any]:
    """A page of notifications; ``revision`` stands for it when they are marked."""
    page = notification_feed(user).page(PAGE, after=cursor or None)
    posts = store.posts([_number(group) for group in page.items if group.verb is not Follow], user)
    items = []
    for group in page.items:
        found = group.to_dict()
        keys = ("group", "actor_count", "is_seen", "is_read", "updated_at", "revision")
        row = posts.get(_number(group)) if group.verb is not Follow else None
        items.append(
            {
                **{key: found[key] for key in keys},
                "verb": group.verb.past_tense,
                "people": [person(str(id)) for id in group.actor_ids],
                "post": row and _shown(row),
            }
        )
    return {"items": items, "next": page.next, "revision": page.revision}


def mark_seen(user: str, revision: Any) -> dict[str, Any]:
    """All that had arrived when a page was read is seen; what came later is not."""
    feed = notification_feed(user)
    feed.mark_all(until=revision)
    return feed.get_denormalized_counts()._asdict()


def live_feeds(user: str, after: str) -> dict[str, Any]:
    """What the live stream tells of: the badge, and posts that the page does not show."""
    return {"badge": notification_feed(user), "home": (home_feed(user), after)}


def _number(group: AggregatedActivity) -> int:
    """The post that a group is about."""
    _, _, number = str(group.object_ids[0]).rpartition(":")
    return int(number) if number.isdigit() else 0
