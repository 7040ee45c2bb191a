"""What must be in every feed when everything is over, computed the obvious way.

A client repeats a call until it returns, and no two calls about the same thing run at once: so the last that returned
counts. Where the contract leaves a choice, the model says what *must* be there and what *may* be:

- A feed that is too long loses its oldest: an entry must be there as long as fewer newer ones ever came than the feed holds.
- What was taken out of one feed by ``delete`` may come back with what was on its way, and must with what came after.
- What is there keeps its context, whoever adds it again with another, until it is updated or removed.
- A feed with ``expire_idle`` is read through its manager before it is looked at, so that it is rebuilt if it is gone. What was
  written to it alone may be gone then.
- In a feed with ``max_age`` what is too old may be there only in a group that something young is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from feedmill import Manager
from feedmill.feeds import Feed
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.notification import NotificationFeed
from tests.simulation import app

NEVER = 0.0
#: Text and album.
Context = tuple[str, str]


class Wrong(Exception):
    """What is stored is not what was asked for."""


class Known:
    """What was asked for about one activity."""

    def __init__(self) -> None:
        #: Whether it is there: "" not, "own" in its author's feed alone, "import" without notifications, "add".
        self.how = ""
        self.contexts: set[Context] = set()
        #: All texts that it ever had, or was added with: with these it may have come into its author's feeds for a moment.
        self.texts: set[str] = set()
        #: Who was notified by name, and since when.
        self.told: dict[int, float] = {}
        #: When it was put the last time, and all albums in which it ever was.
        self.since = NEVER
        #: When it was added, not imported, the last time.
        self.added = NEVER
        #: When it was put where it was not, for those whom it names, and for those who were notified: since then it is news.
        self.fresh = NEVER
        self.news: dict[int, float] = {}
        self.albums: set[str] = set()


class Model:
    """Of one history."""

    def __init__(
        self,
        manager: type[Manager],
        edges: set[tuple[int, int]],
        mutes: set[tuple[int, int]],
        is_stored: Callable[[Feed], bool],
        nothing: set[str],
    ) -> None:
        self.manager, self.edges, self.mutes = manager, edges, mutes
        #: Whether anything may be stored of a feed; and keys of those that are known to show nothing when nothing is.
        self._is_stored, self._nothing = is_stored, nothing
        self.activities = {number: Known() for number in app.BY_ID.values()}
        self.ever_followed = set(edges)
        #: Who was muted by whom at some time, and was not; and when that changed last.
        everybody = {(user, actor) for user in app.PEOPLE for actor in app.PEOPLE}
        self.ever_muted, self.ever_heard = set(mutes), everybody - mutes
        self.mute_changed: dict[tuple[int, int], float] = {}
        #: When a feed was deleted, a user's feeds rebuilt, somebody followed, a user's notifications marked, the last time.
        self.deleted: dict[tuple[int, str], float] = {}
        self.rebuilt: dict[int, float] = {}
        self.followed: dict[tuple[int, int], float] = {}
        self.marked: dict[int, float] = {}
        #: (user, number) of what may have been there when its actor was taken out of the user's feeds.
        self.taken_out: set[tuple[int, int]] = set()
        #: Users who were deleted: what came into their feeds since may have gone with them.
        self.erased: set[int] = set()
        #: Those of them about whom nobody has asked for anything since: nothing is to name them. And about whom something was
        #: done since the last deletion began.
        self.nameless: set[int] = set()
        self.concerned: set[int] = set()
        #: (user, actor): who was muted, and then taken out of the notifications, too.
        self.blocked: set[tuple[int, int]] = set()
        #: When that was asked for last, by user and actor.
        self.actors_removed: dict[tuple[int, int], float] = {}
        #: What was written to single feeds: (feed, number).
        self.alone: set[tuple[str, int]] = set()
        #: Of whom the app has answered nonsense, as an author and as a reader: nobody knows what it meant.
        self.excused_authors: set[int] = set()
        self.excused_readers: set[int] = set()
        #: Bodies that stay, though nobody needs them.
        self.kept: set[int] = set()

    # -- what was asked for; *began* is when, *now* when it returned

    def add(self, number: int, context: Context, began: float, how: str = "add") -> None:
        """It was put."""
        known = self.activities[number]
        order = ("", "own", "import", "add")
        if how == "add" and not known.albums:  # else it may never have been gone
            known.fresh = began
        known.how = max(known.how, how, key=order.index)
        known.added = began if how == "add" else known.added
        known.contexts = known.contexts or {context}
        known.albums |= {album for _, album in known.contexts}
        known.texts |= {text for text, _ in known.contexts | {context}}
        known.since = began if how != "own" else known.since

    def came(self, number: int, context: Context) -> None:
        """It may have been put by a call that failed."""
        self.activities[number].albums.add(context[1])
        self.activities[number].texts.add(context[0])

    def remove(self, number: int) -> None:
        """It was taken back."""
        known = self.activities[number]
        known.how, known.since, known.added, known.fresh = "", NEVER, NEVER, NEVER
        known.contexts.clear()
        known.told.clear()

    def update(self, number: int, context: Context) -> None:
        """Its text is another."""
        self.activities[number].contexts = {context}
        self.activities[number].texts.add(context[0])

    def mute(self, pair: tuple[int, int], began: float) -> None:
        """A user does not want to see somebody, or wants it again; what was there before is for a rebuild."""
        self.mutes ^= {pair}
        self.blocked.discard(pair)
        self.mute_changed[pair] = began
        (self.ever_muted if pair in self.mutes else self.ever_heard).add(pair)

    def concern(self, users: set[int]) -> None:
        """Something is done that may leave something that names *users*."""
        self.concerned |= users
        self.nameless -= users

    def notify(self, number: int, users: tuple[int, ...], context: Context, began: float) -> None:
        """Users were told."""
        known = self.activities[number]
        known.contexts = known.contexts or {context}
        known.albums |= {album for _, album in known.contexts}
        known.texts |= {text for text, _ in known.contexts}
        known.news.update(dict.fromkeys(set(users) - known.news.keys(), began))
        known.told.update(dict.fromkeys(users, began))

    def unnotify(self, number: int, users: tuple[int, ...]) -> None:
        """It was taken back from them."""
        for user in users:
            self.activities[number].told.pop(user, None)

    def remove_actor(self, user: int, actor: int, began: float) -> None:
        """What *actor* did before is taken out of the feeds of *user*; what comes later stays, and if it is the same it may go."""
        self.taken_out.update(
            (user, number)
            for number, known in self.activities.items()
            if app.ACTIVITIES[number % app.ALONE][0] == actor and known.albums
        )

    # -- what must be, and what may

    def may(self, user: int, name: str) -> set[int]:
        """The activities that may be in the feed *name* of *user*."""
        if user == app.SOLO:
            return {number for feed, number in self.alone if feed == name}
        return {
            number
            for number, known in self.activities.items()
            if (known.how or known.told) and number < app.ALONE and self._may(user, name, number, known)
        }

    def _may(self, user: int, name: str, number: int, known: Known) -> bool:
        actor, _, _, target, _ = app.ACTIVITIES[number]
        if not self._passes(user, known.contexts, any):
            return False
        if name == "notes":  # what came before a mute stays
            heard = (user, actor) not in self.mutes or (user, actor) in self.ever_heard - self.blocked
            return heard and (user in known.told or (known.how == "add" and target == user))
        if (user, actor) in self.mutes:
            return False
        return bool(known.how) and self._is_for(user, name, actor)

    def _is_for(self, user: int, name: str, actor: int) -> bool:
        """Whether a user has what somebody does in the feed *name*."""
        return (user, actor) in self.edges or (user == actor and name in self.manager.own_feeds)

    def _passes(self, user: int, contexts: set[Context], how: Callable[[Iterable[bool]], bool]) -> bool:
        """Whether any of *contexts*, or all of them, may be seen."""
        return self.manager.name != app.Picky.name or how(app.may_see(user, text) for text, _ in contexts)

    def must(self, user: int, name: str, feed_class: type[Feed], may: set[int]) -> set[int]:
        """Those of them, *may*, that must."""
        if user == app.SOLO:
            return self._fitting(user, name, feed_class, may)
        deleted = self.deleted.get((user, name), NEVER)
        return self._fitting(user, name, feed_class, {n for n in may if self._since(user, name, n) > deleted})

    def _since(self, user: int, name: str, number: int) -> float:
        """When it was last put into a feed by something that had to; NEVER if nothing had."""
        known, actor = self.activities[number], app.ACTIVITIES[number % app.ALONE][0]
        if (
            user in self.erased
            or (user, number) in self.taken_out
            or (self.manager.is_filtered and (user, actor) in self.actors_removed)
            or actor in self.excused_authors
            or (user in self.excused_readers and name != "notes")
        ):
            return NEVER
        muted = (user, actor) in self.mutes or not self._passes(user, known.contexts, all)
        since = NEVER if muted else self._put(user, name, number, known, actor)
        return since if since >= self.mute_changed.get((user, actor), NEVER) else NEVER

    def _put(self, user: int, name: str, number: int, known: Known, actor: int) -> float:
        if name == "notes":
            since = known.told.get(user, known.added)
            return since if since > self.actors_removed.get((user, actor), NEVER) else NEVER
        if known.how == "own":
            return NEVER
        if known.since <= self.actors_removed.get((user, actor), NEVER):
            return NEVER
        if user == actor and name in self.manager.own_feeds:
            return known.since
        followed, rebuilt = self.followed.get((user, actor), NEVER), self.rebuilt.get(user, NEVER)
        if self._is_among_newest(user, number, {actor}, self.manager.follow_activity_limit):
            everybody = {who for who in app.PEOPLE if (user, who) in self.ever_followed or user == who}
            all_of_them = self._is_among_newest(user, number, everybody, self._rebuild_size())
            return max(known.since, followed, rebuilt if all_of_them else NEVER)
        # A follow that is still to be done, and begins by taking all out, brings none but the newest again.
        return NEVER if followed else known.since

    def _rebuild_size(self) -> int:
        limit = self.manager.follow_activity_limit
        return max(limit, *(each.rebuild_size(limit) for each in self.manager.feed_classes.values()))

    def _is_among_newest(self, user: int, number: int, actors: set[int], limit: int) -> bool:
        """Whether it is among the newest *limit* that pass the filters, whatever of what *actors* ever did is there."""
        newer = [n for n, (who, *_) in enumerate(app.ACTIVITIES) if who in actors and _id(n) > _id(number)]
        return sum(self._ever_passed(user, n) for n in newer) < limit

    def _ever_passed(self, user: int, number: int) -> bool:
        """Whether an activity was there, and may have passed the filters."""
        heard = (user, app.ACTIVITIES[number % app.ALONE][0]) in self.ever_heard or user == app.SOLO
        texts = {(text, "") for text in self.activities[number].texts}
        return heard and bool(self.activities[number].albums) and (not texts or self._passes(user, texts, any))

    def _fresh(self, user: int, number: int) -> float:
        known = self.activities[number]
        return known.news.get(user, NEVER) if user in known.told else known.fresh

    def _fitting(self, user: int, name: str, feed_class: type[Feed], numbers: set[int]) -> set[int]:
        """Those of *numbers* that no trimming can have taken."""
        if feed_class.max_length > len(app.ACTIVITIES):
            return numbers
        ever = {n for n in self.activities if self._ever_passed(user, n) and self._ever(user, name, n)}
        if not issubclass(feed_class, AggregatedFeed):
            return {n for n in numbers if sum(_id(other) > _id(n) for other in ever) < feed_class.max_length}
        groups = {number: groups_of(feed_class, number, self.activities[number].albums) for number in ever | numbers}
        kept = set()
        for number in numbers:
            newer = {
                g for other in ever if app.second_of(other) >= app.second_of(number) for g in groups[other]
            } - groups[number]
            if len(newer) < feed_class.max_length:
                kept.add(number)
        return kept

    def _ever(self, user: int, name: str, number: int) -> bool:
        if user == app.SOLO:
            return number >= app.ALONE
        if number >= app.ALONE:
            return False
        actor, _, _, target, _ = app.ACTIVITIES[number]
        if name == "notes":
            return target == user or target < 0
        return (user, actor) in self.ever_followed or (user == actor and name in self.manager.own_feeds)

    def bodies(self) -> tuple[set[int], set[int]]:
        """The activities whose bodies must be stored, and those whose may."""
        must = {number for number, known in self.activities.items() if known.how}
        return must, must | self.kept | {number for number, known in self.activities.items() if known.contexts}

    # -- what hooks are told

    def wrongly_told(self, told: Iterable[tuple[str, int, int]]) -> list[str]:
        """What hooks were told that never happened, and keys that stand for two notifications; *told*: key, user and activity."""
        wrong, known = list[str](), dict[str, tuple[int, int]]()
        for key, user, number in told:
            if not self._ever_passed(user, number) or not self._ever(user, "notes", number):
                wrong.append(f"a hook was told that {user} was notified of {number}, which never happened")
            if known.setdefault(key, (user, number)) != (user, number):
                wrong.append(f"the key {key} is that of {known[key]} and of {(user, number)}")
        return wrong

    def untold(self, told: Iterable[tuple[str, int, int]]) -> list[str]:
        """What hooks were not told, though it must be there: user and activity."""
        feed_class, pairs = self.manager.notification_feed_class, {(user, number) for _, user, number in told}
        assert feed_class is not None
        return [
            f"no hook was told that {user} was notified of {number}"
            for user in app.PEOPLE
            for number in sorted(self.must(user, "notes", feed_class, self.may(user, "notes")))
            if (user, number) not in pairs
        ]

    # -- what is

    def check(self, excluded: set[str]) -> None:
        """Compare every feed with the model; :class:`Wrong` names all differences. *excluded*: feeds that say nothing."""
        wrong: list[str] = []
        feeds = app.feeds_of(self.manager)
        for user, spelled in enumerate(app.SPELLINGS):
            for name, feed_class in feeds.items():
                if name not in excluded:
                    may = self.may(user, name)
                    must = {n for n in self.must(user, name, feed_class, may) if not _is_old(feed_class, n)}
                    must = set() if user == app.SOLO and feed_class.expires_idle() else must
                    wrong += (
                        f"{name} of {spelled[-1]}: {text}"
                        for text in self._feed(feed_class(spelled[-1]), must, may, user)
                    )
            own = {
                n
                for n, known in self.activities.items()
                if known.how and n < app.ALONE and app.ACTIVITIES[n][0] == user
            }
            assert self.manager.user_feed_class is not None
            wrong += (
                f"own feed of {spelled[-1]}: {text}"
                for text in self._feed(self.manager.user_feed_class(spelled[-1]), own, own, user)
            )
        if wrong:
            raise Wrong("; ".join(wrong))

    def _feed(self, feed: Feed, must: set[int], may: set[int], user: int) -> list[str]:
        if self._is_stored(feed):
            return self._read(feed, must, may, user)
        if not must and feed.key in self._nothing:
            return []
        wrong = self._read(feed, must, may, user)
        if not wrong:
            self._nothing.add(feed.key)
        return wrong

    def _read(self, feed: Feed, must: set[int], may: set[int], user: int) -> list[str]:
        entries = list(feed[:])
        # A removal that was told of nobody to remove it from leaves ids without bodies.
        exact = not (self.excused_authors or self.excused_readers)
        wrong = [f"counts {feed.count()}, shows {len(entries)}"] if exact and feed.count() != len(entries) else []
        members = [
            (entry, each)
            for entry in entries
            for each in (entry.activities if isinstance(feed, AggregatedFeed) else [entry])
        ]
        shown = [app.BY_ID[each.raw_id] for _, each in members]
        if len(set(shown)) < len(shown):
            wrong.append(f"{sorted(shown)}: something is there twice")
        if lacking := must - set(shown):
            wrong.append(f"lacks {sorted(lacking)}")
        if strange := set(shown) - may - self._left(feed):
            wrong.append(f"has {sorted(strange)}, which must not be there")
        for (_, each), number in zip(members, shown):
            context = each.extra_context.get("text"), each.extra_context.get("album")
            if exact and number in may and context not in self.activities[number].contexts:
                wrong.append(
                    f"{number} has the context {context}, not one of {sorted(self.activities[number].contexts)}"
                )
        wrong += _order(feed, entries) if exact else []
        wrong += _aged(feed, entries)
        if isinstance(feed, AggregatedFeed):
            wrong += _shown_briefly(feed, entries)
        if isinstance(feed, NotificationFeed):
            wrong += self._counts(feed, entries, user)
        return wrong

    def _left(self, feed: Feed) -> set[int]:
        """What may stay where whole activities are held: a removal that was told of nobody to remove it from."""
        if not isinstance(feed, NotificationFeed):
            return set()
        return {n for n in self.activities if app.ACTIVITIES[n % app.ALONE][0] in self.excused_authors}

    def _counts(self, feed: NotificationFeed, groups: list[Any], user: int) -> list[str]:
        kept = feed.get_denormalized_counts()
        counted = sum(not group.is_seen for group in groups), sum(not group.is_read for group in groups)
        wrong = [] if kept[:2] == counted else [f"keeps the counts {kept[:2]}, a recount says {counted}"]
        marked = self.marked.get(user, NEVER)
        for group in groups:
            came = max(self._fresh(user, app.BY_ID[each.raw_id]) for each in group.activities)
            if came > marked and user != app.SOLO and (group.is_seen or group.is_read):
                wrong.append(f"the group {group.group} is seen or read, though something new came after")
        return wrong


def _is_old(feed_class: type[Feed], number: int) -> bool:
    """Whether an activity is older than the feed shows."""
    lifetime = feed_class.lifetime()
    return bool(lifetime) and app.activity(number, None).microseconds < time.time() * 1e6 - lifetime


def _aged(feed: Feed, entries: list[Any]) -> list[str]:
    numbers = [
        min(app.BY_ID[each.raw_id] for each in [entry.activities[-1] if isinstance(feed, AggregatedFeed) else entry])
        for entry in entries
    ]
    old = [number for number in numbers if _is_old(type(feed), number)]
    return [f"shows {old}, which are too old"] if old else []


def _shown_briefly(feed: Any, entries: list[Any]) -> list[str]:
    """What is wrong with groups that show two activities, beside *entries*, which show all that can be shown."""
    brief = feed.limit_activities(2)[:]
    if [each.group for each in brief] != [each.group for each in entries]:
        return [f"shows {len(brief)} groups briefly and {len(entries)} else, or others"]
    return [
        f"shows {short.activities} of {group.group} briefly, and {group.activities} else"
        for short, group in zip(brief, entries)
        if short.last_activity != group.last_activity
        or short.activities != group.activities[-len(short.activities) :]
        or short.activity_count < group.activity_count
    ]


def _order(feed: Feed, entries: list[Any]) -> list[str]:
    if not isinstance(feed, AggregatedFeed):
        return [] if entries == sorted(entries, reverse=True) else ["is not in its order"]
    aggregator, wrong = feed.get_aggregator(), []
    scores = [(aggregator.score(group), group.group) for group in entries]
    if scores != sorted(scores, reverse=True):
        wrong.append("is not in its order")
    for group in entries:
        counts = len(group.activities), len({str(each.actor_id) for each in group.activities})
        if (group.activity_count, group.actor_count) != counts:
            wrong.append(f"the group {group.group} counts {group.activity_count} by {group.actor_count}, not {counts}")
        if any(aggregator.get_group(each) != group.group for each in group.activities):
            wrong.append(f"the group {group.group} has what belongs to another")
    return wrong


def groups_of(feed_class: Any, number: int, albums: set[str]) -> set[str]:
    """The groups that an activity may ever have been in."""
    aggregator = feed_class.get_aggregator()
    return {aggregator.get_group(app.activity(number, ("", album))) for album in albums}


def _id(number: int) -> bytes:
    return app.RAW_IDS[number]
