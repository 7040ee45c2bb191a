"""To which traces belongs what hooks are told: read from the records of fan-outs, for as long as these are kept. Only asked where somebody traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from feedmill import tracing
from feedmill.errors import FeedmillError
from feedmill.manager import Manager, notified_users, writes
from feedmill.manager.hook_values import FinishedFanout, Notification
from feedmill.storage.auxiliary import fanout_of
from feedmill.storage.hook_queue import REPLACED
from feedmill.storage.journal import DeadLetter
from feedmill.storage.operations import together
from feedmill.storage.registry import backend

#: Direct notifications of an activity, the newest, that are looked at.
MOST_NOTIFICATIONS = 20


def traces_of(manager: Manager, values: Sequence[Any]) -> list[str]:
    """The trace context of each of *values*, which a hook of *manager* is to be told; empty where there is none, or it is not known any more."""
    names = [_fanout_of(manager, value) for value in values]
    try:
        found = _traces(filter(None, names))
        direct = _of_direct_notifications(
            manager, [each for each, name in zip(values, names) if isinstance(each, Notification) and name not in found]
        )
    except FeedmillError:  # what is told is not to fail for that
        return [""] * len(values)
    return [found.get(name) or direct.get(getattr(value, "key", ""), "") for value, name in zip(values, names)]


def _fanout_of(manager: Manager, value: Any) -> str:
    """The fan-out that *value* came of; empty if that is not known, or another has its record by now."""
    if isinstance(value, Notification):
        return writes.name_of(manager, value.activity.raw_id)
    if isinstance(value, FinishedFanout):
        return "" if value.status == REPLACED else value.id
    return value.fanout if isinstance(value, DeadLetter) else ""


def _traces(names: Iterable[str]) -> dict[str, str]:
    """The trace contexts of fan-outs that have one."""
    wanted = list(dict.fromkeys(names))
    found = backend().run(backend().journal.traces(wanted)) if wanted else ()
    return {name: trace for name, trace in zip(wanted, found) if trace}


def _of_direct_notifications(manager: Manager, values: Sequence[Notification]) -> dict[str, str]:
    """The trace contexts of notifications of users who were named, by their keys."""
    kept = backend().auxiliary.notified_users
    raw_ids = list(dict.fromkeys(each.activity.raw_id for each in values))
    known = backend().run(together([kept.notifications(manager.name, raw_id) for raw_id in raw_ids]))
    names: dict[bytes, list[str]] = {}
    for raw_id, (_, notifications) in zip(raw_ids, known):
        newest = sorted(notifications, key=lambda name: -notifications[name][0])
        names[raw_id] = [name for name in newest if notifications[name][1]][:MOST_NOTIFICATIONS]
    traces = _traces(fanout_of(name) for some in names.values() for name in some)
    traced = {raw_id: [name for name in some if fanout_of(name) in traces] for raw_id, some in names.items()}
    users = _users(manager, {raw_id: some for raw_id, some in traced.items() if len(some) > 1})
    found: dict[str, str] = {}
    for each in values:
        some = traced[each.activity.raw_id]
        his = [
            name for name in some if len(some) == 1 or str(each.user_id) in users[each.activity.raw_id].get(name, ())
        ]
        if his:
            found[each.key] = traces[fanout_of(his[0])]
    return found


def _users(manager: Manager, names: Mapping[bytes, Sequence[str]]) -> dict[bytes, dict[str, set[str]]]:
    """Whom direct notifications named, by their activities and names."""
    return {
        raw_id: {
            name: set(map(str, ids)) for name, ids in backend().run(notified_users.users(manager, raw_id, list(some)))
        }
        for raw_id, some in names.items()
    }


def calling(manager: Manager, hook: str, traces: Sequence[str]) -> AbstractContextManager[Any]:
    """The block in which *hook* is called with values of *traces*, as a step in these."""
    traced = [each for each in traces if each]
    if not traced:
        return tracing.NOTHING

    def said(count: int) -> dict[str, Any]:
        return {"feedmill.hook": hook, "messaging.batch.message_count": count}

    about = [(each, said(count)) for each, count in Counter(traced).items()]
    alone = len(traced) == len(traces)
    return tracing.together(tracing.CALL, tracing.CALL, manager.name, about, said(len(traces)), alone=alone)


__all__ = ["calling", "traces_of"]
