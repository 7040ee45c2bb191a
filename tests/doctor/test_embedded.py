"""The embedded storage is examined by the same checks, without a server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from feedmill import configure
from feedmill.doctor import examine
from feedmill.keys import GROUPS
from feedmill.storage.backends import backend
from feedmill.storage.inspection import inspection
from feedmill.storage.memory import BACKEND
from tests.doctor.clinic import PATIENT, examined, fill
from tests.feeds.samples import Home, News, Notes

NEWS, NOTES = News(PATIENT), Notes(PATIENT)


def cut_record() -> None:
    records = BACKEND.groups[NEWS.key].records
    records[min(records)] = records[min(records)][:5]


def entry_alone() -> None:
    BACKEND.groups[NEWS.key].scores[b"nobody"] = 5


def record_alone() -> None:
    del BACKEND.groups[NOTES.key].scores[max(BACKEND.groups[NOTES.key].scores)]


def orphaned_spill() -> None:
    BACKEND.groups[NEWS.key].spills[b"gone"] = {b"actor": b""}


def lost_spill() -> None:
    BACKEND.groups[NEWS.key].spills.clear()


def drifted_count() -> None:
    BACKEND.counts[NOTES.count_key] = (50, 50, 50)


def stuck_lock() -> None:
    held = BACKEND.groups[NOTES.key]
    held.lock, held.deadline = b"t" * 8, time.time() - 50


def endless_lock() -> None:
    held = BACKEND.groups[NOTES.key]
    held.lock, held.deadline = b"t" * 8, time.time() + 10**8


def left_inbox() -> None:
    BACKEND.groups[NEWS.key].inbox = b"\xc1"


def damaged_state() -> None:
    BACKEND.groups[NOTES.key].state = b"x"


def unsorted_ids() -> None:
    BACKEND.flat[Home(PATIENT).key].reverse()


def duplicate_ids() -> None:
    BACKEND.flat[Home(PATIENT).key] *= 2


def damaged_body() -> None:
    BACKEND.bodies[min(BACKEND.bodies)] = b"\xc1"


DAMAGE: dict[Callable[[], None], str] = {
    cut_record: "damaged group",
    entry_alone: "entry without record",
    record_alone: "record without entry",
    orphaned_spill: "orphaned spill",
    lost_spill: "damaged spill",
    drifted_count: "drifted count",
    stuck_lock: "stuck lock",
    endless_lock: "stuck lock",
    left_inbox: "inbox left behind",
    damaged_state: "damaged state",
    unsorted_ids: "unsorted ids",
    duplicate_ids: "duplicate ids",
    damaged_body: "damaged body",
}


@pytest.mark.parametrize(("inflict", "kind"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_mended(memory: None, inflict: Callable[[], None], kind: str) -> None:
    """This damage is named, mended, and gone."""
    fill()
    assert examined() == {}
    inflict()
    assert kind in examined()
    assert examine(fix=True).left == 0
    assert examined() == {}


def test_both_storages_show_the_doctor_the_same(redis_url: str) -> None:
    """Of feeds that were filled alike, the two inspections read the same."""
    seen = []
    for url in (redis_url, "memory://"):
        configure(redis_url=url)
        fill()
        stored = backend().run(inspection().feed(NOTES.key, NOTES.count_key, [b"other"]))
        _, keys = backend().run(inspection().scan(0))
        ours = {key for key in keys if key.endswith((b":groups", b":count")) or b":home:" in key or b":a:" in key}
        feed = stored.scores, set(stored.records), stored.spills, stored.inbox, stored.lock, stored.wrong
        seen.append((*feed, backend().run(inspection().flat(Home(PATIENT).key)), ours))
    assert seen[0] == seen[1]
    assert any(key.endswith(GROUPS.encode()) for key in seen[0][-1])
