"""The clients of a history: each does what is planned for it, and repeats what failed until it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import GreenletExit

from feedmill import registry
from feedmill.errors import ArgumentError, DeclarationError, FeedBusy, StorageAway, StorageError, UnknownActivity
from feedmill.fanout.handle import Fanout
from feedmill.feeds import Feed
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.grouping.reaggregate import areaggregate, reaggregate
from feedmill.verbs import Verb
from tests.simulation import app
from tests.simulation.coroutines import finished
from tests.simulation.known import OFF
from tests.simulation.model import NEVER, Model, Wrong
from tests.simulation.plan import Op, Plan
from tests.simulation.world import FOREVER, Process, World

#: How often a client tries the same thing.
MOST_TRIES = 60
#: Seconds until a client tries again what needs servers that are away.
LONG_AWAY = 25.0


class HookFailed(Exception):
    """What an app's hook raises."""


#: After what a client tries again.
AGAIN = (StorageError, FeedBusy, HookFailed, DeclarationError, asyncio.CancelledError)


#: Methods of managers that do several things one after the other: what goes on when their caller is cancelled is one of them.
IN_PARTS = ("batch_import", "notify", "unnotify")


class Clients:
    """All clients of a history, and what they still have to do."""

    def __init__(self, world: World, plan: Plan, model: Model) -> None:
        self.world, self.plan, self.model = world, plan, model
        self.waiting = [[op for op in plan.ops if op.client == number] for number in range(len(plan.clients))]
        #: What is being done at the moment; nobody else does anything about the same meanwhile.
        self.held: set[tuple[Any, ...]] = set()
        self.queue: list[Process] = []
        #: The activity that is dated ahead and is being added, if any.
        self.ahead: int | None = None
        #: The operation that each client has begun: its tries, and when it began.
        self.begun: dict[int, tuple[int, float]] = {}
        self.done, self.left = 0, len(plan.ops)
        self.fanouts: list[Any] = []
        #: What the page shows that each client's user looks at, and when it was read. It stays whatever becomes of the process.
        self.shown: dict[int, tuple[bytes, float]] = {}
        for number in range(len(plan.clients)):
            self._hire(number)

    def _hire(self, number: int) -> None:
        release = app.NEW if self.world.healing else self.plan.clients[number]
        self.world.start(f"web-{number}", "web", lambda process: self._serve(process, number), release)

    def _serve(self, process: Process, number: int) -> None:
        try:
            while self.waiting[number]:
                self._one(process, number, self.waiting[number][0])
                self.waiting[number].pop(0)
                self.begun.pop(number, None)
                self.done += 1
                self.left -= 1
        except GreenletExit:
            self._hire(number)  # the next process is asked for the same
            raise

    def _one(self, process: Process, number: int, op: Op) -> None:
        world, subjects = self.world, _subjects(op)
        if number not in self.begun:
            world.sleep(op.pause)
            while subjects & self.held:
                self.queue.append(process)
                world.sleep(FOREVER)
            self.held |= subjects
            self.begun[number] = 0, world.now
            world.say(f"begins {op.name}{op.args}")
        do: Callable[..., None] = getattr(self, f"_{op.name}")
        while True:
            tries, began = self.begun[number]
            self.begun[number] = tries + 1, began
            if tries >= MOST_TRIES:
                raise Wrong(f"{op} failed {tries} times")
            try:
                do(process, op, tries, began, *op.args)
                for task in process.tasks:  # of an earlier try, which was cancelled
                    with contextlib.suppress(*AGAIN):
                        task.outcome()
                process.tasks.clear()
                break
            except AGAIN as error:
                world.say(f"{op.name} failed: {error!r}"[:200])
                pause = world.rng.choice((0.01, 0.5, 3.0, 20.0))
                world.sleep(LONG_AWAY if isinstance(error, StorageAway) else pause)
        self.model.concern(_named(op))
        world.say(f"has done {op.name}{op.args}")
        self.held -= subjects
        for waiting in self.queue:
            waiting.wake = world.now
        self.queue.clear()

    # -- activities

    @property
    def _manager(self) -> Any:
        return registry.get_manager(self.plan.manager)()

    def _ask(self, process: Process, op: Op, method: str, *args: Any) -> None:
        """Call a method of the manager, or its coroutine. Who is cancelled calls again, or leaves it to what goes on without them."""
        call = partial(self._awaited, process, method) if op.asynchronous else getattr(self._manager, method)
        found = call(*args)
        self.fanouts += [found] if isinstance(found, Fanout) else found

    def _awaited(self, process: Process, method: str, *args: Any) -> Any:
        before = len(process.tasks)
        try:
            return finished(process, getattr(self._manager, f"a{method}")(*args))
        except asyncio.CancelledError:
            if len(process.tasks) == before or method in IN_PARTS or self.world.rng.random() < 0.5:
                raise
        self.world.say(f"leaves {method} to what goes on")
        return process.tasks[-1].outcome()

    def _add(self, process: Process, op: Op, tries: int, began: float, number: int, context: tuple[str, str]) -> None:
        self._ask(process, op, "add_activity", app.activity(number, context))
        self.model.add(number, context, began)

    def _ahead(self, process: Process, op: Op, tries: int, began: float, context: tuple[str, str]) -> None:
        """An activity that is dated too far ahead, and so is another each time that it is tried: who does not know takes it back."""
        if self.ahead is not None:
            for task in process.tasks:
                with contextlib.suppress(*AGAIN):
                    task.outcome()
            self.model.came(self.ahead, context)
            with contextlib.suppress(UnknownActivity):
                self._ask(process, op, "remove_activity", app.activity(self.ahead, context))
            self.model.remove(self.ahead)
            self.ahead = None
        number = next((each for each in app.AHEAD if each not in app.STATE.dated), None)
        if number is None:
            return
        given, self.ahead = app.activity(number, context), number
        app.take_as_now(number)
        self._ask(process, op, "add_activity", given)
        if self.fanouts[-1].activity_id not in ("", app.activity(number, None).id):
            raise Wrong(f"{given} is not taken as now")
        self.model.add(number, context, began)
        self.ahead = None

    def _after(self, process: Process, op: Op, tries: int, began: float, what: str, context: tuple[str, str]) -> None:
        """Something about what was dated ahead, by the time that it was given."""
        number = next((each for each in app.STATE.dated if self.model.activities[each].contexts), None)
        if number is None:
            return
        if what == "add":
            self._add(process, op, tries, began, number, context)
        elif what == "update":
            self._update(process, op, tries, began, number, context[0])
        else:
            self._remove(process, op, tries, began, number, "value")

    def _remove(self, process: Process, op: Op, tries: int, began: float, number: int, how: str) -> None:
        known = self.model.activities[number]
        context = min(known.contexts or {("a", "x")}) if how != "equal" else None
        given: Any = app.activity(number, context)
        by_id = bool(known.contexts) and (
            how == "id" if not tries else self.world.rng.random() < 0.5 and "remove: id" not in OFF
        )
        try:
            self._ask(process, op, "remove_activity", given.id if by_id else given)
        except UnknownActivity as error:
            if known.contexts:
                raise Wrong(f"{number} is there, and cannot be removed (try {tries + 1}): {error}") from error
            return
        self.model.remove(number)

    def _remove_many(
        self, process: Process, op: Op, tries: int, began: float, numbers: tuple[int, ...], by_id: bool
    ) -> None:
        known = [number for number in numbers if self.model.activities[number].contexts or not by_id]
        given = [app.activity(number, None) for number in known]
        self._ask(process, op, "remove_activities", [each.id for each in given] if by_id else given)
        for number in known:
            self.model.remove(number)

    def _remove_object(self, process: Process, op: Op, tries: int, began: float, thing: Any, as_target: bool) -> None:
        self._ask(process, op, "remove_object", thing, as_target)
        for number in _about(thing, as_target):
            self.model.remove(number)

    def _update(self, process: Process, op: Op, tries: int, began: float, number: int, text: str) -> None:
        known = self.model.activities[number]
        albums = {album for _, album in known.contexts}
        if not known.contexts:
            return
        context = text, albums.pop()
        self._ask(process, op, "update_activity", app.activity(number, context))
        self.model.update(number, context)

    def _import(
        self, process: Process, op: Op, tries: int, began: float, actor: int, context: tuple[str, str], fanout: bool
    ) -> None:
        numbers = [number for number in _by(actor) if number not in app.AHEAD]
        texts = {number: "abc"[("abc".index(context[0]) + number) % 3] for number in numbers}
        activities = [app.activity(number, (text, context[1])) for number, text in texts.items()]
        self._ask(process, op, "batch_import", app.INSTANCES[actor], activities, fanout, 2)
        for number in numbers:
            self.model.add(number, (texts[number], context[1]), began, "import" if fanout else "own")

    def _notify(
        self, process: Process, op: Op, tries: int, began: float, number: int, part: int, context: tuple[str, str]
    ) -> None:
        if self._manager.notification_feed_class is None:
            return
        self.model.activities[number]
        users = app.PARTS[part]
        told = [app.INSTANCES[user] if tries % 2 else app.SPELLINGS[user][0] for user in users]
        self._ask(process, op, "notify", told, app.activity(number, context))
        self.model.notify(number, users, context, began)

    def _unnotify(self, process: Process, op: Op, tries: int, began: float, number: int, part: int) -> None:
        if self._manager.notification_feed_class is None:
            return
        users = app.PARTS[part]
        told = [app.SPELLINGS[user][0] for user in users]
        self._ask(process, op, "unnotify", told, app.activity(number, None))
        self.model.unnotify(number, users)

    # -- people

    def _follow(self, process: Process, op: Op, tries: int, began: float, user: Any, target: Any) -> None:
        pair = app.number_of(user), app.number_of(target)
        if pair[0] == pair[1]:
            self._follow_oneself(user, target)
            return
        self.model.edges.add(pair)
        self.model.ever_followed.add(pair)
        self._ask(process, op, "follow", user, target)
        self.model.followed[pair] = began

    def _follow_oneself(self, user: Any, target: Any) -> None:
        try:
            self._manager.follow(user, target)
        except ArgumentError:
            return
        raise Wrong(f"{user} follows themselves")

    def _unfollow(self, process: Process, op: Op, tries: int, began: float, user: Any, target: Any) -> None:
        pair = app.number_of(user), app.number_of(target)
        self.model.edges.discard(pair)
        self._ask(process, op, "unfollow", user, target)

    def _remove_actor(self, process: Process, op: Op, tries: int, began: float, user: Any, actor: Any) -> None:
        pair = app.number_of(user), app.number_of(actor)
        if pair[0] == pair[1]:
            return
        if self._manager.is_filtered and pair not in self.model.mutes:  # a block
            self.model.mute(pair, began)
        self.model.remove_actor(*pair, began)
        self._ask(process, op, "remove_actor", user, actor)
        self.model.actors_removed[pair] = self.world.now
        self.model.blocked |= {pair} & self.model.mutes

    def _delete_user(self, process: Process, op: Op, tries: int, began: float, user: Any) -> None:
        number = app.number_of(user)
        self.model.edges -= {pair for pair in self.model.edges if pair[0] == number}
        self.model.erased.add(number)
        if not tries:
            self.model.concerned.discard(number)
        self._ask(process, op, "delete_user", user)
        for each in _by(number):
            self.model.remove(each)
        if number not in self.model.concerned:
            self.model.nameless.add(number)

    def _rebuild(self, process: Process, op: Op, tries: int, began: float, user: Any) -> None:
        self._ask(process, op, "rebuild", user)
        self.model.rebuilt[app.number_of(user)] = began

    def _mute(self, process: Process, op: Op, tries: int, began: float, user: Any, target: Any) -> None:
        """Somebody mutes somebody, or no more; their feeds are rebuilt after it."""
        manager, pair = self._manager, (app.number_of(user), app.number_of(target))
        if not manager.is_filtered:
            return
        if not tries:
            self.model.mute(pair, began)
        self._ask(process, op, "rebuild", user)
        self.model.rebuilt[pair[0]] = began

    # -- single feeds

    def _feed(self, user: int, which: str) -> tuple[str, Any]:
        feeds = app.feeds_of(app.RELEASES[app.NEW][self.plan.manager])
        names = list(feeds)
        name = (
            "notes"
            if which == "notes" and "notes" in names
            else names[0]
            if which == "first"
            else [n for n in names if n != "notes"][-1]
        )
        return name, feeds[name](app.SPELLINGS[user][-1])

    def _call(self, process: Process, op: Op, feed: Any, method: str, *args: Any) -> Any:
        if not op.asynchronous:
            return getattr(feed, method)(*args)
        return finished(process, getattr(feed, f"a{method}")(*args))

    def _mark_all(self, process: Process, op: Op, tries: int, began: float, user: int, read: bool) -> None:
        manager = self._manager
        if manager.notification_feed_class is not None:
            feed = manager.get_notification_feed(app.SPELLINGS[user][-1])
            self._call(process, op, feed, "mark_all", True, read)
            self.model.marked[user] = self.world.now

    def _mark(self, process: Process, op: Op, tries: int, began: float, user: int, read: bool) -> None:
        manager = self._manager
        if manager.notification_feed_class is not None:
            feed = manager.get_notification_feed(app.SPELLINGS[user][-1])
            groups, at = feed[:1], self.world.now
            self._call(process, op, feed, "mark", groups, True, read)
            self.model.marked[user] = max(self.model.marked.get(user, NEVER), at)

    def _mark_shown(
        self,
        process: Process,
        op: Op,
        tries: int,
        began: float,
        user: int,
        how: str,
        pause: float,
        seen: bool | None,
        read: bool | None,
    ) -> None:
        manager = self._manager
        if manager.notification_feed_class is None:
            return
        feed = manager.get_notification_feed(app.SPELLINGS[user][-1])
        if op.client not in self.shown:
            page = self._call(process, op, feed, "page", 3)
            self.shown[op.client] = pickle.dumps(page), self.world.now
            self.world.sleep(pause)
        stored, at = self.shown[op.client]
        page = pickle.loads(stored)
        method, *args = _told(how, page, seen, read)
        self._call(process, op, feed, method, *args)
        self.model.marked[user] = max(self.model.marked.get(user, NEVER), at)
        after = finished(process, feed.aread(0, feed.max_length)) if op.asynchronous else feed[:]
        _check_marks(how, page, after, seen, read)
        del self.shown[op.client]

    def _read(self, process: Process, op: Op, tries: int, began: float, user: int) -> None:
        for feed in self._manager.get_feeds(app.SPELLINGS[user][-1]).values():
            brief = isinstance(feed, AggregatedFeed) and user % 2
            self._call(process, op, feed.limit_activities(1) if brief else feed, "page", 5)

    def _delete(self, process: Process, op: Op, tries: int, began: float, user: int, which: str) -> None:
        name, feed = self._feed(user, which)
        self._call(process, op, feed, "delete")
        self.model.deleted[user, name] = self.world.now

    def _reaggregate(self, process: Process, op: Op, tries: int, began: float, user: int) -> None:
        for feed_class in self._manager.feed_classes.values():
            if issubclass(feed_class, AggregatedFeed):
                feed = feed_class(app.SPELLINGS[user][0])
                if op.asynchronous:
                    finished(process, areaggregate(feed, dry_run=False))
                else:
                    reaggregate(feed, dry_run=False)

    def _solo_add(
        self, process: Process, op: Op, tries: int, began: float, which: str, number: int, context: tuple[str, str]
    ) -> None:
        if not _known(app.ACTIVITIES[number % app.ALONE][1]):
            return
        name, feed = self._feed(app.SOLO, which)
        self.model.kept.add(number)
        self._call(process, op, feed, "add", app.activity(number, context))
        self.model.alone.add((name, number))
        self.model.activities[number].contexts.add(context)
        self.model.activities[number].albums.add(context[1])

    def _solo_remove(
        self, process: Process, op: Op, tries: int, began: float, which: str, number: int, context: tuple[str, str]
    ) -> None:
        if not _known(app.ACTIVITIES[number % app.ALONE][1]):
            return
        name, feed = self._feed(app.SOLO, which)
        self._call(process, op, feed, "remove", app.activity(number, context))
        self.model.alone.discard((name, number))


def _told(how: str, page: Any, seen: bool | None, read: bool | None) -> tuple[Any, ...]:
    """The method that marks what *page* shows, and its arguments."""
    groups = page.items
    return {
        "page": ("mark", page, seen, read),
        "groups": ("mark", groups, seen, read),
        "JSON": ("mark", json.loads(json.dumps([group.to_dict() for group in groups])), seen, read),
        "until page": ("mark_all", seen, read, page),
        "until revision": ("mark_all", seen, read, page.revision),
        "until groups": ("mark_all", seen, read, groups),
        "names until page": ("mark", [group.group for group in groups], seen, read, page),
    }[how]


def _check_marks(how: str, page: Any, after: Any, seen: bool | None, read: bool | None) -> None:
    """Groups *after* a mark are marked as was asked for, if nothing arrived in them since the *page*; else they are not marked.

    Nobody else has marked groups of that feed meanwhile.
    """
    shown = {group.group: group._revision for group in page.items}
    if how == "until groups":
        until = max(shown.values(), default=0)
        shown = {group.group: until for group in after}
    elif how.startswith("until"):
        shown = {group.group: page.arrived for group in after}
    for group in after:
        for wanted, marked in ((seen, group.is_seen), (read, group.is_read)):
            if group._revision > max(page.arrived, shown.get(group.group, 0)) and marked:
                raise Wrong(f"{group.group} is marked by {how}, though something new came after the page")
            if group._revision <= shown.get(group.group, 0) and wanted not in (None, marked):
                raise Wrong(f"{group.group} is not marked by {how} as it was asked for")


def _by(actor: int) -> list[int]:
    return [number for number, (who, *_) in enumerate(app.ACTIVITIES) if who == actor]


def _about(thing: Any, as_target: bool) -> list[int]:
    """The numbers of the activities about *thing*."""
    found = []
    for number, (_, _, about, target, _) in enumerate(app.ACTIVITIES):
        is_target = as_target and target >= 0 and str(thing) in map(str, app.SPELLINGS[target])
        if str(about) == str(thing) or is_target:
            found.append(number)
    return found


def _known(verb: type[Verb]) -> bool:
    from feedmill import verbs

    return verb.id in verbs._verbs


def _named(op: Op) -> set[int]:
    """The users whom what an operation leaves may name; a deletion names others alone."""
    name, args = op.name, op.args
    numbers: list[int] = []
    users: set[int] = set()
    if name in ("add", "remove", "update", "notify", "unnotify"):
        numbers = [args[0]]
    elif name in ("solo_add", "solo_remove"):
        numbers = [args[1] % app.ALONE]
    elif name == "remove_many":
        numbers = [*args[0]]
    elif name in ("ahead", "after"):
        numbers = [*app.AHEAD]
    elif name == "remove_object":
        numbers = _about(*args)
    elif name in ("import", "delete_user"):
        numbers = _by(app.number_of(args[0]) if name == "delete_user" else args[0])
    elif name in ("follow", "unfollow", "mute", "remove_actor", "rebuild"):
        users = {app.number_of(each) for each in args}
    else:
        users = {args[0]}
    if name in ("notify", "unnotify"):
        users |= {*app.PARTS[args[1]]}
    users |= {user for number in numbers for user in (app.ACTIVITIES[number][0], app.ACTIVITIES[number][3])}
    return users - {app.number_of(args[0])} if name == "delete_user" else users


def _subjects(op: Op) -> set[tuple[Any, ...]]:
    """What an operation is about: two about the same are not done at once."""
    name, args = op.name, op.args
    if name in ("add", "remove", "update", "notify", "unnotify"):
        return {("activity", args[0])}
    if name in ("ahead", "after"):
        return {("activity", number) for number in app.AHEAD}
    if name == "delete_user":
        number = app.number_of(args[0])
        return {("user", number), *(("activity", each) for each in _by(number))}
    if name == "remove_object":
        return {("activity", number) for number in _about(*args)}
    if name == "remove_many":
        return {("activity", number) for number in args[0]}
    if name == "import":
        return {("activity", number) for number in _by(args[0])}
    if name in ("follow", "unfollow", "mute", "remove_actor"):
        return {("pair", *(app.number_of(each) for each in args))}
    if name in ("solo_add", "solo_remove"):
        return {("alone", args[1])}
    if name in ("mark_all", "mark", "mark_shown"):
        return {("marks", args[0])}
    return {(name, *args[:1])}


__all__ = ["AGAIN", "Clients", "Feed", "HookFailed", "finished"]
