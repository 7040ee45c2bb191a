"""What is fuzzed: everything that reads bytes which others may have made. Each target must end well or with our error."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import random
import tempfile
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import feedmill
from feedmill import Activity, cursor, revision, signing
from feedmill.errors import FeedmillError
from feedmill.fanout.operations import TOGETHER
from feedmill.grouping import pending_writes
from feedmill.grouping.feed_state import FeedState
from feedmill.manager import Priority
from feedmill.msgpack_codec import pack, unpack, unpack_rows, unpack_stream
from feedmill.records import AggregatedActivitySerializer, NotificationSerializer
from feedmill.records.layout import view_of
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.tasks import deliver, fan_out, follow, sweep, unfollow
from feedmill.tools.replay.lines import Garbage
from feedmill.tools.replay.read import read_events, read_follows
from feedmill.verbs import Love
from feedmill.worker.planned_chunks import planned_chunk
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day
from tests.fuzz import stores
from tests.fuzz.mutate import confused, mutated
from tests.social import SocialManager

#: Everybody that appears in the samples.
ACTIVITIES = [
    on_day(1),
    in_group(3),
    Activity("ann", Love, uuid.UUID(int=7), target="böard", time=BASE),
    Activity(-5, Love, 2**64 - 1, time=BASE, extra_context={"a": [1, {"b": b"x"}], "t": BASE, "u": uuid.UUID(int=9)}),
]
#: Of one actor and group, so they can stand in one part of overflow.
OF_ONE = [in_group(number, actor=1) for number in range(5)]
Call = Callable[[random.Random, bytes], None]


class Target(NamedTuple):
    """One thing that reads bytes."""

    name: str
    samples: Sequence[bytes]
    #: Reads one input; :class:`FeedmillError` is a refusal, anything else is a failure.
    call: Call
    #: Of a million inputs, how many this target gets, in thousands.
    share: int


def activity(rng: random.Random, data: bytes) -> None:
    found = Activity.unpack(data)
    assert len(found.raw_id) == 16 and repr(found) and found.time
    found.extra_context.get("a")
    assert Activity.unpack(found.pack()) == found


def value(rng: random.Random, data: bytes) -> None:
    rng.choice((unpack, unpack_stream, partial(unpack_rows, size=5)))(data)


def _ended(*calls: Callable[[], Any]) -> None:
    """Make all *calls*; raise the first refusal at the end."""
    refusal: FeedmillError | None = None
    for call in calls:
        try:
            call()
        except FeedmillError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal


def record_reader(serializer: Any) -> Call:
    def read(rng: random.Random, data: bytes) -> None:
        def decode() -> None:
            record = serializer.decode(data)
            assert record.members == sorted(record.members, key=lambda member: member.raw_id)
            record.add(serializer.member(in_group(rng.randrange(99))))
            record.revision += 1
            serializer.decode(serializer.encode(record))

        _ended(decode, lambda: view_of(serializer, data))

    return read


def part_reader(serializer: Any) -> Call:
    """Reads an actor's part of overflow; what is appended behind damage is found."""

    def read(rng: random.Random, data: bytes) -> None:
        parts, new = serializer.overflow_codec, serializer.member(in_group(1))
        assert parts.salvage(new.actor, data + parts.encode([new]))[-1] == new
        members = parts.decode(new.actor, data)
        assert parts.decode(new.actor, parts.encode(members)) == members

    return read


def state(rng: random.Random, data: bytes) -> None:
    assert FeedState.decode(data).encode() == (data or FeedState().encode())


def pending_write(rng: random.Random, data: bytes) -> None:
    pending_writes.read(Notes, data)


def cursors(rng: random.Random, data: bytes) -> None:
    """And revisions, which are made alike."""
    text: Any = rng.choice((data.decode("latin-1"), data.decode(errors="replace"), data))
    if rng.random() < 0.3:
        assert revision.encode(revision.decode(text)) == text
        return
    read = rng.choice((cursor.decode_id, cursor.decode_group))
    read("owner", text if rng.random() < 0.5 else cursor.encode("owner", data))


def pages(rng: random.Random, data: bytes) -> None:
    """Cursors at the door of feeds; half of them with the right owner and a right checksum."""
    feed: Any = rng.choice((Home, News, Notes))(1)
    if not DATA.flat:
        for feed_class in (Home, News, Notes):
            feed_class(1).add_many([on_day(1), on_day(2), on_day(3)])
    own = feed.page(2).next
    raw = base64.urlsafe_b64decode(own + "=" * (-len(own) % 4))
    forged = raw[:5] + data + hashlib.blake2b(raw[:5] + data, digest_size=4).digest()
    text = base64.urlsafe_b64encode(forged).rstrip(b"=").decode() if rng.random() < 0.5 else data.decode("latin-1")
    feed.page(2, after=text)


def messages(rng: random.Random, data: bytes) -> None:
    """A task's arguments: some damaged, some of another kind, sometimes too many or too few."""
    task, args = rng.choice(_messages())
    args = list(args)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(args) + 1)
        if at == len(args):
            args.append(data)
        elif isinstance(args[at], bytes) and rng.random() < 0.7:
            args[at] = data
        else:
            args[at] = confused(rng, args[at], MESSAGE_PARTS)
    if rng.random() < 0.1:
        del args[rng.randrange(len(args)) :]
    before = _stored()
    try:
        task.run(*args)
    except FeedmillError:
        assert _stored() == before, "something was written by a message that was refused"
        raise
    finally:
        DATA.clear()


MESSAGE_PARTS = [each.raw_id for each in ACTIVITIES] + [pack([1, 2]), pack(["a", uuid.UUID(int=1)]), pack([])]


def _messages() -> list[tuple[Any, list[Any]]]:
    run, name, body = backend().run, SocialManager.name, on_day(1).raw_id
    f = f"{name}:f"
    plan = run(backend().journal.open(name, f, "add", body, sent=True)).generation
    chunks = [planned_chunk("followers", Priority.HIGH, [1, 2]), planned_chunk("recipients", Priority.HIGH, ["x"])]
    DATA.fanout_records[f]["chunks"] = dict(enumerate(map(pack, chunks)))
    return [
        (deliver, [name, "add", body, f, plan, 0]),
        (deliver, [name, "remove", body, f, plan, 1]),
        (deliver, [name, TOGETHER, pack([body, [body, f, plan, 1]]), f, plan, 0]),
        (follow, [name, pack([1, 2]), f, plan]),
        (unfollow, [name, pack([1, 2]), f, plan]),
        (fan_out, [name]),
        (sweep, []),
    ]


def _stored() -> tuple[Any, ...]:
    feeds = {key: dict(feed.records) for key, feed in DATA.groups.items() if feed.records}
    return {key: list(ids) for key, ids in DATA.flat.items()}, feeds, dict(DATA.bodies), dict(DATA.counts)


def signatures(rng: random.Random, data: bytes) -> None:
    args = [data, rng.choice((1, "x", None, True))]
    signing.check("feedmill.deliver", args, {signing.HEADER: confused(rng, data.hex()[:64], [data])})
    raise AssertionError("a message was taken for signed")


class Files:
    """Event and follow files on a disk."""

    SAMPLES = (
        b"user_id\tfriend_id\n1\t2\nann\tbob\n",
        b"actor,object,time,verb\n1,2,2024-01-01T00:00:00Z,love\n3,4,1700000000.5,listen\n",
        b'\xef\xbb\xbfactor,object\n"quo""ted",x\n\xff\xfe,1\n',
        gzip.compress(b"actor,object\n1,2\n3,4\n", mtime=0),
    )

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="feedmill-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        os.close(handle)
        self.path = Path(name)

    def __call__(self, rng: random.Random, data: bytes) -> None:
        self.path.write_bytes(data)
        garbage = Garbage()
        if rng.random() < 0.5:
            read_follows(self.path, (), garbage)
        else:
            for event in read_events(self.path, (), garbage):
                Activity(event.actor, Love, event.object, time=event.time)

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink()


def targets(files: Files, web: Call) -> list[Target]:
    """All of them; the shares add up to a thousand."""
    bodies, raw_ids = [each.pack() for each in ACTIVITIES], [each.raw_id for each in ACTIVITIES]
    aggregated, notification = AggregatedActivitySerializer(), NotificationSerializer()
    ids = stores.records([aggregated], ACTIVITIES)
    whole = stores.records([notification], ACTIVITIES)
    overflows = {
        serializer: [serializer.overflow_codec.encode(map(serializer.member, OF_ONE[:count])) for count in (1, 5)]
        for serializer in (aggregated, notification)
    }
    pending = [b"".join(pack([True, body]) for body in bodies), pack([False, bodies[0]])]
    states = [FeedState(5, 4, 3, 2, 1, 6, 7, 8).encode()]
    places = [on_day(1).raw_id, (5).to_bytes(7, "big") + b"group"]
    parts = [*ids, *whole, *pending, *states, *overflows[aggregated], *overflows[notification]]
    letters = [pack(["add", bodies[0], "f"]), pack(["feedmill.deliver", ["x", 1]])]
    http = [json.dumps(body).encode() for body in ({"text": "x", "key": "y"}, {"groups": [], "read": True})]
    return [
        Target("activity bodies", bodies, activity, 130),
        Target("msgpack values", [*bodies, *pending], value, 130),
        Target("aggregated records", ids, record_reader(aggregated), 110),
        Target("notification records", whole, record_reader(notification), 120),
        Target("overflow ids", overflows[aggregated], part_reader(aggregated), 20),
        Target("overflow activities", overflows[notification], part_reader(notification), 30),
        Target("states of feeds", states, state, 40),
        Target("pending writes", pending, pending_write, 50),
        Target(
            "cursors",
            [*places, *(cursor.encode("owner", p).encode() for p in places), revision.encode(5).encode()],
            cursors,
            70,
        ),
        Target("cursors at feeds", places, pages, 30),
        Target("task messages", MESSAGE_PARTS, messages, 80),
        Target("signatures", bodies, signatures, 40),
        Target("feeds with damage", parts, stores.damaged_feed, 30),
        Target("stores that the doctor fixes", [*parts, *bodies, *letters], stores.doctor, 10),
        Target(
            "fan-outs in the journal", [*raw_ids, pack(raw_ids), pack([raw_ids[0], pack([1, 2])])], stores.claims, 20
        ),
        Target(
            "chunks in the journal",
            [
                pack(planned_chunk("followers", Priority.HIGH, ids))
                for ids in ([1, "a", uuid.UUID(int=5)], [5, 7, 1000], [f"user-{number}" for number in range(9)])
            ],
            stores.chunk,
            10,
        ),
        Target("fan-out records", [b"add", b"1700000000000", b"12"], stores.record, 20),
        Target("dead letters", letters, stores.letter, 20),
        Target("event and follow files", files.SAMPLES, files, 20),
        Target("HTTP requests", [*http, b"[[[", b"{}", b"\xff"], web, 20),
    ]


def prepare() -> None:
    """The settings under which the targets run."""
    feedmill.configure(redis_url="memory://", celery_app="feedmill.tasks:app", signing_key="")
    DATA.clear()


__all__ = ["Files", "Target", "mutated", "prepare", "targets"]
