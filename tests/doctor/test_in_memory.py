"""The storage in memory is examined by the same checks, without a server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from feedmill import configure
from feedmill.doctor import examine
from feedmill.keys import GROUPS
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from tests.doctor.fixtures import USER, DoctorManager, examined, fill
from tests.feeds.samples import Home, News, Notes, in_group, on_day

F0 = f"{DoctorManager.name}:f0"
NEWS, NOTES = News(USER), Notes(USER)


def cut_record() -> None:
    records = DATA.groups[NEWS.key].records
    records[min(records)] = records[min(records)][:5]


def entry_alone() -> None:
    DATA.groups[NEWS.key].scores[b"nobody"] = 5


def record_alone() -> None:
    del DATA.groups[NOTES.key].scores[max(DATA.groups[NOTES.key].scores)]


def orphaned_overflow() -> None:
    DATA.groups[NEWS.key].overflows[b"gone"] = {b"actor": b""}


def lost_overflow() -> None:
    DATA.groups[NEWS.key].overflows.clear()


def drifted_count() -> None:
    DATA.counts[NOTES.count_key] = (50, 50, 50)


def stuck_lock() -> None:
    held = DATA.groups[NOTES.key]
    held.lock, held.deadline = b"t" * 8, time.time() - 50


def endless_lock() -> None:
    held = DATA.groups[NOTES.key]
    held.lock, held.deadline = b"t" * 8, time.time() + 10**8


def pending_left_behind() -> None:
    DATA.groups[NEWS.key].pending = b"\xc1"


def damaged_state() -> None:
    DATA.groups[NOTES.key].state = b"x"


def unsorted_ids() -> None:
    DATA.flat[Home(USER).key].reverse()


def duplicate_ids() -> None:
    DATA.flat[Home(USER).key] *= 2


def damaged_body() -> None:
    DATA.bodies[min(DATA.bodies)] = b"\xc1"


def damaged_overflow() -> None:
    (overflow,) = DATA.groups[NOTES.key].overflows.values()
    overflow[next(actor for actor, members in overflow.items() if members)] = b"\0" * 30


def gone_bodies() -> None:
    for number in range(40):
        DATA.bodies.pop(in_group(number).raw_id, None)


def swapped_body() -> None:
    DATA.bodies[on_day(1).raw_id] = DATA.bodies[on_day(2).raw_id]


def open_fanout() -> None:
    backend().run(backend().journal.open(DoctorManager.name, F0, "add", on_day(6).raw_id))


def overdue_fanout() -> None:
    open_fanout()
    DATA.due[DoctorManager.name][F0] = 5


def due_alone() -> None:
    open_fanout()
    del DATA.fanout_records[F0]


def due_too_late() -> None:
    open_fanout()
    DATA.due[DoctorManager.name][F0] = 10**18


def fanout_record_alone() -> None:
    open_fanout()
    DATA.fanout_records[F0]["created"] = 5
    DATA.due.clear()


def record_of_nonsense() -> None:
    open_fanout()
    DATA.fanout_records[F0]["generation"] = "many"


def damaged_dead_letter() -> None:
    backend().run(backend().journal.dead_letter("why", b"\xc1"))


DAMAGE: dict[Callable[[], None], str] = {
    cut_record: "damaged group",
    entry_alone: "entry without record",
    record_alone: "record without entry",
    orphaned_overflow: "orphaned overflow",
    lost_overflow: "damaged overflow",
    drifted_count: "drifted count",
    stuck_lock: "stuck lock",
    endless_lock: "stuck lock",
    pending_left_behind: "orphaned pending writes",
    damaged_state: "damaged state",
    unsorted_ids: "unsorted ids",
    duplicate_ids: "duplicate ids",
    damaged_body: "damaged body",
    swapped_body: "damaged body",
    gone_bodies: "missing bodies",
    damaged_overflow: "damaged overflow",
    overdue_fanout: "overdue fan-outs",
    due_alone: "due without record",
    due_too_late: "due too late",
    fanout_record_alone: "forgotten fan-out",
    record_of_nonsense: "damaged fan-out record",
    damaged_dead_letter: "damaged dead letter",
}


@pytest.mark.parametrize(("inflict", "kind"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_fixed(memory: None, inflict: Callable[[], None], kind: str) -> None:
    """This damage is named, fixed, and gone."""
    fill()
    assert examined() == {}
    inflict()
    assert kind in examined()
    assert examine(fix=True).remaining == 0
    assert examined() == {}


def test_both_storages_show_the_doctor_the_same(redis_url: str) -> None:
    """Of feeds that were filled alike, the two inspections read the same."""
    seen = []
    for url in (redis_url, "memory://"):
        configure(redis_url=url)
        fill()
        stored = backend().run(backend().maintenance.feed(NOTES.key, NOTES.count_key, [b"other"]))
        _, keys = backend().run(backend().maintenance.scan(0))
        ours = {key for key in keys if key.endswith((b":groups", b":count")) or b":home:" in key or b":a:" in key}
        feed = stored.scores, set(stored.records), stored.overflows, stored.pending, stored.lock, stored.wrong
        seen.append((*feed, backend().run(backend().maintenance.flats([Home(USER).key.encode()]))[0], ours))
    assert seen[0] == seen[1]
    assert any(key.endswith(GROUPS.encode()) for key in seen[0][-1])
