"""What is fuzzed where more than one reader is concerned: feeds with damage, the journal, the doctor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from unittest import mock

from feedmill import registry
from feedmill.doctor import examine
from feedmill.errors import FeedmillError
from feedmill.fanout.handle import status_of
from feedmill.ids import ID_SIZE, is_id
from feedmill.msgpack_codec import pack
from feedmill.storage.journal import FANOUT, HOOK, MESSAGE, DeadLetter
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters, drain
from feedmill.worker.delivery import AUDIENCES
from feedmill.worker.planned_chunks import read_chunk
from tests.doctor.fixtures import DoctorManager
from tests.feeds.samples import Home, News, Notes, held, in_group, on_day
from tests.fuzz.mutate import confused

#: What a fan-out record says, as texts.
FIELDS = {
    **{
        "manager": DoctorManager.name,
        "op": "add",
        "created": "1700000000000",
        "planned": "3",
        "done": "2",
        "reached": "9",
    },
    **{
        "fully_planned": "1",
        "claimed": "1700000000001",
        "attempts": "1",
        "tried": "1",
        "deaths": "0",
        "retried": "0",
        "failed": "0",
        "error": "why",
    },
}

#: Fan-outs.
F, GOOD, BAD = (f"{DoctorManager.name}:{name}" for name in ("f", "good", "bad"))


def damaged_feed(rng: random.Random, data: bytes) -> None:
    """A feed with damage in it is written and read; nothing is raised, and its other groups are what they were."""
    feed_class: Any = rng.choice((News, Notes))
    DATA.clear()
    feed = feed_class(1)
    feed.add_many([on_day(2), on_day(3)])
    held_feed = DATA.groups[feed.key]
    victim = min(held_feed.records)
    kind = rng.randrange(4)
    if kind == 0:
        held_feed.records[victim] = data
    elif kind == 1:
        held_feed.state = data
    elif kind == 2:
        held_feed.pending = data
    else:
        held_feed.records[victim] = bytes((held_feed.records[victim][0] | 1,)) + held_feed.records[victim][1:]
        held_feed.overflows[victim] = {pack(2): data}
    try:
        feed_class.insert_activities([on_day(9)])
        backend().run(feed_class.deliver([1], [on_day(2), on_day(9)], [on_day(5)]))
        shown = held(feed[:])
        assert on_day(3) in shown and on_day(9) in shown, shown
    finally:
        DATA.clear()


def record(rng: random.Random, data: bytes) -> None:
    """A fan-out record with noise in one of its fields: its status can be told."""
    fields = {**FIELDS, rng.choice(tuple(FIELDS)): data.decode(errors="replace"), "now": "1700000000009"}
    if rng.random() < 0.3:
        fields[rng.choice(tuple(FIELDS))] = rng.choice(("²", "9" * 5000, "-1", "1.5", ""))
    status = status_of(fields, rng.choice(("", "add")))
    assert status.seconds >= 0 and status.done >= 0


def letter(rng: random.Random, data: bytes) -> None:
    """A dead letter: what it holds is said, or it is told to be nothing."""
    kind = rng.choice((FANOUT, MESSAGE, HOOK, data.decode(errors="replace")))
    assert len(dead_letters.content(DeadLetter("5-1", kind, "why", data))) in (2, 3)


def doctor(rng: random.Random, data: bytes) -> None:
    """Noise anywhere in a store: the doctor names it, fixes it, and finds nothing the second time."""
    DATA.clear()
    feed = rng.choice((News, Notes))(1)
    everything = [on_day(1), on_day(2), *(in_group(n) for n in range(33))]
    Home(1).add_many([on_day(1), on_day(2)])
    News.insert_activities(everything)
    feed.add_many(everything)
    _spoil(rng, data, DATA.groups[feed.key])
    try:
        # Managers of other tests would be looked for in each store.
        with mock.patch.object(registry, "_managers", {DoctorManager.name: DoctorManager}):
            examine(fix=True)
            others = "verb not registered", "newer record", "pending writes"  # noise may say what a newer release would
            left = [finding for finding in examine().shown if finding.kind not in others]
        assert left == [], left
        feed.add(on_day(9))
        assert on_day(9) in held(feed[:])
    finally:
        DATA.clear()


def _spoil(rng: random.Random, data: bytes, feed: Any) -> None:
    """Put *data* somewhere."""
    kind = rng.randrange(8)
    if kind == 0:
        feed.records[rng.choice(list(feed.records))] = data
    elif kind == 1:
        feed.state = data
    elif kind == 2:
        feed.pending = data
    elif kind == 3:
        overflow = feed.overflows[rng.choice(list(feed.overflows))]
        overflow[rng.choice([*overflow, data])] = data
    elif kind == 4:
        DATA.bodies[rng.choice(list(DATA.bodies))] = data
    elif kind == 5:
        (key,) = DATA.flat
        DATA.flat[key][1:1] = [data[at : at + ID_SIZE] for at in range(0, len(data) - ID_SIZE + 1, ID_SIZE)]
    elif kind == 6:
        backend().run(backend().journal.dead_letter("why", data))
    else:
        backend().run(backend().journal.open(DoctorManager.name, F, "add", data))
        field = rng.choice(("op", "generation", "created", "body", "manager", "planned"))
        DATA.fanout_records[F][field] = confused(rng, DATA.fanout_records[F].get(field), [data])


def claims(rng: random.Random, data: bytes) -> None:
    """A fan-out whose body is noise, among sound ones: those are done, and it is told what is wrong with it."""
    DATA.clear()
    run = backend().run
    Home.insert_activities([on_day(1)])
    run(
        backend().journal.open(
            DoctorManager.name, BAD, rng.choice(("add", "remove", "update", "import", "notify")), data
        )
    )
    run(backend().journal.open(DoctorManager.name, GOOD, "add", on_day(1).raw_id))
    refusal: FeedmillError | None = None
    try:
        drain.drain(DoctorManager.name)
    except FeedmillError as error:
        refusal = error
    assert run(backend().journal.get(GOOD)).get("finished"), "a sound fan-out was held up by a malformed one"
    DATA.clear()
    if refusal is not None:
        raise refusal


def chunk(rng: random.Random, data: bytes) -> None:
    """A chunk as the journal keeps it."""
    planned = read_chunk(data)
    assert planned.audience in AUDIENCES
    assert all(map(is_id, planned.user_ids))


def records(serializers: Sequence[Any], activities: Sequence[Any]) -> list[bytes]:
    """Well-formed records of each kind."""
    from feedmill.records.record import Record

    found = []
    for serializer in serializers:
        several, one, big = (Record(serializer.overflow_codec) for _ in range(3))
        for each in activities[1:]:
            several.add(serializer.member(each))
        one.add(serializer.member(on_day(1)))
        for number in range(32):
            big.add(serializer.member(in_group(number)))
        several.seen_at = several.read_at = 5
        found += [serializer.encode(record) for record in (several, one, big)]
    return found
