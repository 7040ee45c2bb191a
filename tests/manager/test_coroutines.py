"""Every method of a manager is there for coroutines too, does the same there, and honours what an app overrides."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from feedmill import Activity, Manager, aclose, configure
from feedmill.errors import ActivityError, ArgumentError, BatchError, DeclarationError, UnknownActivity
from feedmill.fanout import Fanout, Fanouts, FanoutTimeout, publisher
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage import procedures
from feedmill.storage.memory import DATA
from feedmill.storage.procedures import Procedure, either, unbroken
from feedmill.storage.registry import backend
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Notes, Own, home, love, news, notes

#: These make an object; nothing is read or written by calling them.
WITHOUT_IO = {"get_feeds", "get_user_feed", "get_notification_feed"}
HOOKS = {name for name in dir(ManagerHooks) if callable(getattr(ManagerHooks, name)) and not name.startswith("_")}
METHODS = sorted(
    name
    for name in dir(Manager)
    if callable(getattr(Manager, name)) and not name.startswith("_") and name not in WITHOUT_IO | HOOKS
    if not inspect.iscoroutinefunction(getattr(Manager, name))
)


def awaited(awaitable: Awaitable[Any]) -> Any:
    """The result of *awaitable* in an event loop of its own."""

    async def closing() -> Any:
        try:
            return await awaitable
        finally:
            await aclose()

    return asyncio.run(closing())


def test_all_are_there() -> None:
    """Each method that does I/O has a coroutine of the same signature and documentation, and there are no others."""
    coroutines = {name for name in dir(Manager) if inspect.iscoroutinefunction(getattr(Manager, name))}
    assert coroutines == {f"a{name}" for name in METHODS}
    assert {"add_activity", "follow_user", "explain", "get_activity"} < set(METHODS)
    for name in METHODS:
        one, other = getattr(Manager, name), getattr(Manager, f"a{name}")
        assert inspect.signature(one) == inspect.signature(other)
        assert "Procedure" not in str(inspect.signature(one))
        assert one.__doc__ and one.__doc__ == other.__doc__
        assert (one.__name__, other.__name__) == (name, f"a{name}")


#: What each is called with, when 1 has done two things, is followed by 10 to 12, and 77 was notified of the first.
CALLS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "add_activity": lambda: (love(5, target=77),),
    "add_activities": lambda: ([love(5), {"actor": 2, "verb": love(1).verb, "object": 3, "time": love(3).time}],),
    "add_user_activity": lambda: (1, love(5, target=77)),
    "batch_import": lambda: (1, [love(7), love(6)], True, 1),
    "delete_user": lambda: (1,),
    "explain": lambda: (77, love(1, target=77)),
    "follow": lambda: (13, 1),
    "follow_many": lambda: (13, [1, 2], 1),
    "follow_many_users": lambda: (13, [1, 2], False),
    "follow_user": lambda: (13, 1, False),
    "get_activities": lambda: ([love(1, target=77).id, love(2), love(9).id],),
    "get_activity": lambda: (love(1, target=77).id,),
    "notify": lambda: ([77, 78], love(2)),
    "rebuild": lambda: (10,),
    "remove_activities": lambda: ([love(1, target=77).id, love(2)],),
    "remove_activity": lambda: (love(1, target=77).id,),
    "remove_actor": lambda: (10, 1),
    "remove_object": lambda: (1,),
    "remove_user_activity": lambda: (1, love(1, target=77)),
    "unfollow": lambda: (10, 1),
    "unfollow_many": lambda: (10, [1, 2]),
    "unfollow_many_users": lambda: (10, [1, 2], False),
    "unfollow_user": lambda: (10, 1, False),
    "unnotify": lambda: ([77], love(1, target=77)),
    "update_activity": lambda: (love(1, target=77, more=1),),
    "update_user_activities": lambda: ([love(1, target=77, more=1), love(2, more=2)],),
    "update_user_activity": lambda: (love(1, target=77, more=1),),
}


def everything() -> list[Any]:
    """What readers see."""
    users = (10, 13, 77, 78)
    contexts = [dict(activity.extra_context) for activity in Own(1)[:]]
    return [[[home(user), news(user), notes(user), Notes(user).count_unseen()] for user in users], contexts]


def emptied() -> None:
    """As it is before each call."""
    if backend().in_process:
        DATA.clear()
    else:
        backend().client.flushdb()  # type: ignore[attr-defined]
    Friends().add_activity(love(1, target=77))
    Friends().add_activity(love(2))


def plain(result: Any) -> Any:
    """A result that can be compared."""
    if isinstance(result, Fanout):
        return Fanout, result.id, result.op, result.activity_id, result.status().finished
    return (Fanouts, list(map(plain, result))) if isinstance(result, Fanouts) else result


@pytest.mark.parametrize("name", METHODS)
def test_both_do_the_same(at_once: None, name: str) -> None:
    """The method and its coroutine return the same and leave the same behind, in as many round trips."""
    seen = []
    for prefix in ("", "a"):
        emptied()
        before, trips = everything(), backend().round_trips  # type: ignore[attr-defined]
        result = getattr(Friends(), prefix + name)(*CALLS[name]())
        result = awaited(result) if prefix else result
        trips = backend().round_trips - trips  # type: ignore[attr-defined]
        after = everything()
        assert (after != before) == (name not in ("explain", "get_activity", "get_activities", "rebuild"))
        seen.append((plain(result), after, trips))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.aadd_activity("x"), ActivityError),
        (lambda m: m.aadd_activities([love(1), "x"]), BatchError),
        (lambda m: m.aremove_activity("0" * 32), UnknownActivity),
        (lambda m: m.aupdate_activity(love(9)), UnknownActivity),
        (lambda m: m.aget_activity("0" * 32), UnknownActivity),
        (lambda m: m.afollow_many(1, 5), ArgumentError),
        (lambda m: m.afollow_many(1, [2], limit=0), ArgumentError),
        (lambda m: m.abatch_import(1, [], chunk_size=0), ArgumentError),
        (lambda m: m.aadd_user_activity(2, love(1)), ActivityError),
        (lambda m: Bare2().arebuild(1), DeclarationError),
    ],
)
def test_errors(at_once: None, call: Callable[[Any], Awaitable[Any]], error: type[Exception]) -> None:
    """What is refused from a thread is refused from a coroutine, when it is awaited."""
    awaitable = call(Friends())
    with pytest.raises(error):
        awaited(awaitable)


class Bare2(Manager):
    """Declares nothing."""


# -- what an app overrides


def recording(name: str, base: type = Friends, calls: list[Any] | None = None) -> Any:
    """A subclass of *base* that overrides *name*, and a list of the threads in which that was called."""
    calls = [] if calls is None else calls

    def override(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(threading.current_thread())
        return getattr(super(made, self), name)(*args, **kwargs)

    made: Any = type(f"Recording{len(calls)}{name}{base.__name__}", (base,), {name: override, "name": base.name})
    return made, calls


@pytest.fixture(autouse=True)
def _apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feedmill's own Celery app; and subclasses that are made here are not registered: their messages are for Friends."""
    configure(celery_app="feedmill.tasks:app")
    monkeypatch.setattr("feedmill.manager.manager.register_manager", lambda name, manager: None)


@pytest.mark.parametrize("name", METHODS)
def test_an_override_is_honoured(at_once: None, name: str) -> None:
    """The coroutine calls what the app overrides, once, in a thread, where it may block; and it has the effect it had."""
    emptied()
    expected = plain(getattr(Friends(), name)(*CALLS[name]()))
    after = everything()
    emptied()
    manager, calls = recording(name)
    assert plain(awaited(getattr(manager(), f"a{name}")(*CALLS[name]()))) == expected
    assert everything() == after
    assert len(calls) == 1
    assert calls[0] is not threading.main_thread()
    twin = getattr(manager, f"a{name}")
    assert inspect.iscoroutinefunction(twin)
    assert twin.__name__ == f"a{name}"


@pytest.mark.parametrize("name", METHODS)
def test_an_override_that_is_a_coroutine(name: str) -> None:
    """Who overrides the method with an ``async def`` is told to override its coroutine."""

    async def override(self: Any, *args: Any) -> None: ...

    with pytest.raises(DeclarationError, match=f"Wrong.{name} is an async def, .*; override a{name} so"):
        type("Wrong", (Friends,), {name: override})


def test_both_overridden(at_once: None) -> None:
    """Who overrides both has each called where it is asked for; ``super()`` leads to what Feedmill does."""
    calls: list[str] = []

    class Two(Friends):
        name = "Friends"

        def add_activity(self, activity: Activity) -> Fanout:
            calls.append("sync")
            return super().add_activity(activity)

        async def aadd_activity(self, activity: Activity) -> Fanout:
            calls.append("async")
            return await super().aadd_activity(activity)

    Two().add_activity(love(1))
    assert calls == ["sync"]
    awaited(Two().aadd_activity(love(2)))
    assert calls == ["sync", "async"]
    assert home(10) == [2, 1]


def test_overrides_on_the_way(at_once: None) -> None:
    """Of several classes each says its part, whichever of the two it overrides; a mixin as well."""
    calls: list[str] = []

    class Logging:
        """Knows nothing of managers but this."""

        def add_activity(self, activity: Activity) -> Any:
            calls.append("mixin")
            return super().add_activity(activity)  # type: ignore[misc]

    class First(Logging, Friends):
        name = "Friends"

    class Second(First):
        name = "Friends"

        async def aadd_activity(self, activity: Activity) -> Fanout:
            calls.append("async")
            found: Fanout = await super().aadd_activity(activity)
            return found

    class Third(Second):
        name = "Friends"

        def add_activity(self, activity: Activity) -> Any:
            calls.append("third")
            return super().add_activity(activity)

    awaited(First().aadd_activity(love(1)))
    assert calls == ["mixin"]
    calls.clear()
    awaited(Second().aadd_activity(love(2)))
    assert calls == ["async", "mixin"]
    calls.clear()
    awaited(Third().aadd_activity(love(3)))
    assert calls == ["third", "mixin"]
    assert home(10) == [3, 2, 1]


def test_an_override_behind_another_name(at_once: None) -> None:
    """Stream-Framework's names lead to what the app overrides, from a coroutine as well."""
    manager, calls = recording("add_activity")
    awaited(manager().aadd_user_activity(1, love(1)))
    manager().add_user_activity(1, love(2))
    assert len(calls) == 2
    assert home(10) == [2, 1]


@pytest.mark.parametrize("kind", [staticmethod, classmethod, "callable"])
def test_an_override_of_any_kind(at_once: None, kind: Any) -> None:
    """Whatever can be called may be an override."""
    seen: list[Any] = []

    class Callable_:
        def __call__(self, *args: Any) -> str:
            seen.append(args)
            return "done"

    override = Callable_() if kind == "callable" else kind(lambda *args: seen.append(args) or "done")
    manager: Any = type("Odd", (Friends,), {"notify": override, "name": "Friends"})
    assert manager().notify([1], love(1)) == "done" == awaited(manager().anotify([1], love(1)))
    assert seen[0] == seen[1]


# -- where things run


def test_hooks_run_in_the_loop(at_once: None) -> None:
    """What the web process asks of the app is asked in the event loop, in the context of the caller."""
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="")
    seen: list[Any] = []

    class Asked(Friends):
        name = "Friends"

        def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
            seen.append((threading.current_thread(), said.get(), asyncio.get_running_loop()))
            return [77]

    Friends().add_activity(love(1, target=77))

    async def remove() -> None:
        said.set("by me")
        await Asked().aremove_activity(love(1, target=77))
        assert seen[0] == (threading.main_thread(), "by me", asyncio.get_running_loop())
        await aclose()

    asyncio.run(remove())
    assert notes(77) == []


def test_a_broker_that_is_slow(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a message is sent the event loop goes on."""
    threads: list[Any] = []

    def send(name: str, args: Any, **_: Any) -> None:
        threads.append(threading.current_thread())
        time.sleep(0.3)

    monkeypatch.setattr(publisher, "send", send)
    monkeypatch.setattr(publisher, "length", lambda queue: time.sleep(0.1) or 0)

    async def write() -> int:
        task, ticks = asyncio.ensure_future(Friends().afollow(10, 1)), 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await task
        await Friends().aadd_activity(love(1))
        await aclose()
        return ticks

    assert asyncio.run(write()) >= 10
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_the_app_of_the_coroutines_thread(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery knows an app as current in its own thread alone; the thread that sends uses that of the coroutine."""
    configure(celery_app="")
    app, other = object(), object()
    monkeypatch.setattr(publisher, "content_type_problem", lambda app: "")
    monkeypatch.setattr(
        publisher, "_own_app", lambda: app if threading.current_thread() is threading.main_thread() else other
    )
    assert awaited(publisher.in_thread(publisher.celery_app)) is app
    assert publisher._inherited.get() is None


def test_nothing_but_this_process(memory: None) -> None:
    """In the in-memory mode all is done when the coroutine returns, in the thread of the loop."""
    fanout = awaited(Friends().aadd_activity(love(1)))
    assert home(10) == [1]
    assert fanout.status().finished


# -- cancelled


@pytest.mark.parametrize("steps", range(12))
def test_cancelled(box: FakeBroker, steps: int) -> None:
    """Cancelled at any moment, it is done or it is not: what was accepted is woken for, and nothing is half-written."""

    async def write() -> None:
        calls = [
            Friends().aadd_activity(love(1)),
            Friends().afollow(13, 1),
            Friends().anotify([90], love(2)),
            Friends().aadd_activities([love(3), love(4)]),
        ]
        tasks = list(map(asyncio.ensure_future, calls))
        for _ in range(steps):
            await asyncio.sleep(0.0002 if steps > 6 else 0)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, (asyncio.CancelledError, Fanout, Fanouts)) for each in done)
        await aclose()

    asyncio.run(write())
    stored = [each.object_id for each in Friends().get_activities(map(love, range(5))).values()]
    box.work()
    assert sorted(home(10), reverse=True) == sorted((n for n in stored if n != 2), reverse=True)
    assert notes(90) == ([2] if 2 in stored else [])
    assert {3, 4} <= set(stored) or not {3, 4} & set(stored)


def test_a_write_goes_on(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What a cancelled coroutine had begun comes to its end, and closing waits for it; what goes wrong then is logged."""
    moments: list[str] = []

    def steps(fail: bool) -> Procedure[None]:
        yield from either(time.sleep, asyncio.sleep, 0.05)
        moments.append("end")
        if fail:
            raise RuntimeError("too late")

    async def write(fail: bool) -> None:
        task = asyncio.ensure_future(procedures.arun(unbroken(steps(fail))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        moments.append("cancelled")
        await aclose()
        moments.append("closed")

    asyncio.run(write(False))
    assert moments == ["cancelled", "end", "closed"]
    assert caplog.text == ""
    asyncio.run(write(True))
    assert "a write whose caller was cancelled failed: RuntimeError: too late" in caplog.text
    assert not procedures._going_on


def test_a_batch_stops_between_its_parts(memory: None) -> None:
    """A long import that is cancelled does not go on to its end: the part that was begun is the last."""
    taken: list[int] = []

    def rows() -> Iterable[Activity]:
        for number in range(1000):
            taken.append(number)
            yield love(number)

    async def write() -> None:
        task = asyncio.ensure_future(Friends().abatch_import(1, rows(), chunk_size=10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(write())
    assert 0 < len(taken) < 1000
    assert len(taken) % 10 == 0


# -- procedures


def test_errors_come_back_into_a_procedure() -> None:
    """What fails is raised where it was asked for, from a thread and from a coroutine, and may be handled there."""

    def fail() -> None:
        raise KeyError("x")

    async def afail() -> None:
        raise KeyError("x")

    def careful() -> Procedure[list[str]]:
        seen = []
        try:
            yield from either(fail, afail)
        except KeyError as error:
            seen.append(str(error))
        finally:
            seen.append("finally")
        return [*seen, (yield from either(str, astr, 5))]

    async def astr(value: int) -> str:
        return str(value)

    def careless() -> Procedure[None]:
        yield from unbroken(either(fail, afail))

    assert procedures.run(careful()) == ["'x'", "finally", "5"] == asyncio.run(procedures.arun(careful()))
    for drive in (procedures.run, lambda each: asyncio.run(procedures.arun(each))):
        with pytest.raises(KeyError):
            drive(careless())


# -- the handle


def test_the_handle_is_awaitable(at_once: None) -> None:
    """``await fanout`` waits until it is finished; so does one of many, with a time limit where one is given."""

    async def write() -> None:
        fanout = await Friends().aadd_activity(love(1))
        assert (await fanout).finished
        assert (await fanout.afinished(1)) == await fanout.astatus()
        fanouts = await Friends().aadd_activities([love(2), love(3)])
        assert (await fanouts).reached == 6
        assert [each.finished for each in await asyncio.gather(*fanouts)] == [True, True]
        await aclose()

    asyncio.run(write())


def test_the_handle_gives_up(box: FakeBroker) -> None:
    """What is not finished in time is an error."""

    async def write() -> None:
        fanout = await Friends().aadd_activity(love(1))
        with pytest.raises(FanoutTimeout, match="are workers running"):
            await fanout.afinished(0.01)
        with pytest.raises(FanoutTimeout):
            await Fanouts([fanout]).afinished(0.01)
        await aclose()

    asyncio.run(write())
