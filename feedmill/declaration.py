"""Checks of classes that are configured by class attributes: a misspelt attribute raises an error at import."""

from __future__ import annotations

import difflib
import inspect
import math

from feedmill.errors import DeclarationError
from feedmill.overrides import is_own

#: Hooks of Stream-Framework that nothing here would ask, and what to do instead: a port must not lose one in silence.
NEVER_ASKED = {
    "redis_server": "set FEEDMILL_REDIS_URL: all feeds of a process live on one server",
    "get_timeline_storage": "set timeline_storage_class",
    "get_activity_storage": "set activity_storage_class",
    "on_update_feed": "to hear of changes set publish_changes = True and use subscribe(), for your own work override Manager.add_activity",
    "markers_storage_class": "seen and read are part of the feed, drop it",
    "markers_key_format": "seen and read are part of the feed, drop it",
    "markers_max_length": "seen and read are part of the feed, drop it",
    "track_unseen": "unseen and unread are always counted, drop it",
    "track_unread": "unseen and unread are always counted, drop it",
    "update_markers": "use mark() and mark_all()",
    "get_notification_data": "counts are published as they change, see subscribe()",
    "priority_fanout_task": "a Priority is a queue: route fanout.high and fanout.low to the workers you want",
    "get_fanout_task": "a Priority is a queue: route fanout.high and fanout.low to the workers you want",
    "create_fanout_tasks": "fan-outs are planned by workers; filter with accepts() or filter_user_ids()",
    "follow_feed": "filter what a follow copies with filter_activities()",
    "unfollow_feed": "an unfollow takes out all that the unfollowed did, drop it",
    "group_activities": "an aggregator is asked for the group of one activity: get_group()",
    "fanout": "fan-outs are planned by workers; for your own work override add_activity()",
    "metrics": "Fanout.status() and `feedmill fanouts` tell what is going on; call a metric of yours something else",
    "get_activity_slice": "what may be shown to whom is said by accepts() of the manager, and by filter() on reading",
    "hydrate_activities": "bodies are fetched by what reads; set activity_class to show more",
    "needs_hydration": "bodies are fetched by what reads, drop it",
    "get_timeline_batch_interface": "every write is a batch, drop it",
    "filtering_supported": "every feed can be filtered, drop it",
    "ordering_supported": "every feed can be ordered, drop it",
}


def check_attributes(cls: type, base: type) -> None:
    """Refuse an attribute of *cls* that is not in *base* but almost spells one that is, or that nothing would ask.

    Raises :class:`~feedmill.errors.DeclarationError` with the near miss, or with what to do instead.
    """
    if is_own(cls):
        return  # here new attributes are made
    for name, advice in NEVER_ASKED.items():
        if hasattr(cls, name):
            raise DeclarationError(
                f"{cls.__name__}.{name} is Stream-Framework's, and nothing in Feedmill uses it; {advice}"
            )
    # Nobody overrides a coroutine twin, and "account" is not a slip of "acount".
    known = [n for n in dir(base) if not n.startswith("_") and not inspect.iscoroutinefunction(getattr(base, n))]
    for name in vars(cls):
        if name.startswith("_") or any(name in vars(parent) for parent in cls.__mro__[1:]):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if near:
            raise DeclarationError(f"{cls.__name__}.{name} does not exist; did you mean {near[0]!r}?")


def check_hooks(cls: type, *names: str) -> None:
    """Refuse a hook of *names* that is no method, or a coroutine: nobody awaits what it returns, which is true of any question.

    Raises :class:`~feedmill.errors.DeclarationError` with the hook's name and the fix.
    """
    for name in names:
        hook = getattr(cls, name)
        if not callable(hook):
            raise DeclarationError(f"{cls.__name__}.{name} is {hook!r}; write a method: def {name}(self, …)")
        called = getattr(hook, "__call__", None)  # noqa: B004  # an object's own: it may be a coroutine, too
        if any(map(_is_async, (hook, called))):
            raise DeclarationError(
                f"{cls.__name__}.{name} is an async def, and workers have no event loop that would await it; write a plain"
                f" def {name}, and wrap what must be awaited, e.g. with asgiref.sync.async_to_sync"
            )


def _is_async(hook: object) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook)


def check_positive(cls: type, *names: str) -> None:
    """Refuse a class attribute of *names* that is not a positive int."""
    for name in names:
        value = getattr(cls, name)
        if type(value) is not int or value < 1:
            raise DeclarationError(f"{cls.__name__}.{name} is {value!r}; use a positive int")


def check_number(cls: type, name: str, most: float = math.inf) -> None:
    """Refuse a class attribute that is not a number from 0 to *most*."""
    value = getattr(cls, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        limits = "from 0" if most == math.inf else f"from 0 to {most:g}"
        raise DeclarationError(f"{cls.__name__}.{name} is {value!r}; use a number {limits}")
