"""Malformed input never crashes anything: it is read, or refused with an error of ours and nothing written."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

import feedmill
from feedmill import Activity, group_names
from feedmill.errors import ActivityError, CorruptRecord, FeedmillError, MessageError
from feedmill.keys import GROUPS
from feedmill.manager.activity_bodies import DAMAGED, fact_of
from feedmill.msgpack_codec import (
    MAX_BYTES,
    MAX_DEPTH,
    pack,
    unpack,
    unpack_rows,
    unpack_stream,
)
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker.delivery import ids_of
from tests.feeds.samples import Home, News, Notes, held, in_group, on_day
from tests.fuzz import __main__ as command
from tests.fuzz.mutate import mutated
from tests.fuzz.runner import Outcome, run, signed
from tests.fuzz.targets import ACTIVITIES, Files, Target, prepare, targets
from tests.social import SocialManager

NAMES = [target.name for target in targets(Files(), lambda rng, data: None)]
#: Inputs of each target, in the default run.
INPUTS = 250
#: On CI, where Hypothesis makes the same examples each time as well; elsewhere each run makes up others.
CI_SEED = 20


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """All targets by name."""
    os.environ["EXAMPLE_DB"] = str(tmp_path_factory.mktemp("web") / "web.sqlite3")
    from examples.live import store
    from tests.fuzz.web import Web

    store._ready.cache_clear()
    files, web = Files(), Web()
    yield {target.name: target for target in targets(files, web)}
    files.close()
    web.close()
    store._ready.cache_clear()
    del os.environ["EXAMPLE_DB"]


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is damaged is logged; thousands of lines of that are of no use here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", NAMES)
def test_malformed_input_is_refused(every: dict[str, Target], name: str, quiet: None) -> None:
    """A few hundred malformed inputs of this kind: each is read or refused, none crashes or is slow."""
    prepare()
    signed(every[name])
    seed = CI_SEED if limits.default.derandomize else random.randrange(10**9)
    outcome = run(every[name], INPUTS, seed)
    assert outcome.failures == 0, "\n".join([f"seed {seed}", *outcome.shown])
    assert outcome.inputs == INPUTS == outcome.read + outcome.refused.total()


def test_shares_add_up(every: dict[str, Target]) -> None:
    """A million inputs are a million."""
    assert sum(target.share for target in every.values()) == 1000


def test_the_fuzzer_finds_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that is not ours, and an error without words, are failures that name their input."""

    def bad(rng: random.Random, data: bytes) -> None:
        if len(data) % 2:
            raise FeedmillError
        raise KeyError("oops")

    outcome = run(Target("bad", [b"abcdef"], bad, 1), 50, seed=1)
    assert outcome.failures == 50
    command.show([outcome, Outcome("good")])
    shown = capsys.readouterr().out
    assert "KeyError: 'oops'" in shown or "an error without words" in shown
    assert "61626" in shown


def test_a_seed_makes_the_same_inputs() -> None:
    """What a run found can be found again."""
    first, second = ([mutated(random.Random(5), [b"abc" * 9]) for _ in range(3)] for _ in range(2))
    assert first == second


# -- limits

SAMPLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary() | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_corrupt(data: bytes) -> None:
    """Arbitrary bytes are a value or a CorruptRecord, whoever reads them."""
    for read in (unpack, unpack_stream, lambda data: unpack_rows(data, 3), Activity.unpack):
        try:
            read(data)
        except (CorruptRecord, ActivityError):
            continue


@given(SAMPLE)
@limits(max_examples=150)
def test_any_value_is_a_message_or_refused(value: Any) -> None:
    """Values of every shape in place of an activity or of ids: accepted as what they are, or a MessageError."""
    data = pack(value)
    with contextlib.suppress(MessageError):
        assert all(isinstance(each, (int, str, uuid.UUID)) for each in ids_of(data, "ids"))
    with contextlib.suppress(CorruptRecord, ActivityError):
        assert isinstance(Activity.unpack(data), Activity)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited() -> None:
    """What is nested as deep as allowed is read, one deeper is refused, in lists, dicts and runs."""
    assert unpack(pack(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    assert unpack_stream(pack(nested(MAX_DEPTH)) * 2) == [nested(MAX_DEPTH)] * 2
    for read in (unpack, unpack_stream):
        for value in (nested(MAX_DEPTH + 1), {"a": nested(MAX_DEPTH)}, nested(400)):
            with pytest.raises(CorruptRecord, match=f"nested deeper than {MAX_DEPTH}"):
                read(pack(value))
        with pytest.raises(CorruptRecord):
            read(b"\x91" * 100_000)


def test_size_is_limited() -> None:
    """What is larger than any value may be is refused before it is read."""
    for read in (unpack, unpack_stream, lambda data: unpack_rows(data, 2)):
        with pytest.raises(CorruptRecord, match="limit is 16,777,216"):
            read(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    "header", [b"\xdd\xdd\xdd\xdd\xdd", b"\xdc\xdc\xdc" * 600, b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_lengths_that_lie_take_no_memory(header: bytes) -> None:
    """A header that announces gigabytes is refused without taking them."""
    tracemalloc.start()
    for read in (unpack, unpack_stream, lambda data: unpack_rows(data, 0)):
        with pytest.raises(CorruptRecord):
            read(header)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8_000_000


@pytest.mark.parametrize("code", [0, 2, 5, 127, -2])
def test_extension_types_are_limited(code: int) -> None:
    """Only the UUID and msgpack's timestamp are extension types that are read."""
    with pytest.raises(CorruptRecord, match="extension type|not valid"):
        unpack(bytes((0xD6, code % 256)) + b"1234")


def test_what_could_not_be_read_again_is_refused_at_the_boundary() -> None:
    """A context that is too deep, or holds types that are not ours, and an id that is too long, are refused."""
    import msgpack

    for context in ({"a": nested(MAX_DEPTH)}, {"a": nested(600)}, {"a": msgpack.ExtType(5, b"x")}):
        with pytest.raises(ActivityError, match="extra_context"):
            Activity(1, Love, 2, extra_context=context)
    with pytest.raises(ActivityError, match="actor id 'xxx.* has 300 characters; use at most 255, or a hash"):
        Activity("x" * 300, Love, 2)


def test_a_damaged_context_is_refused_before_delivery() -> None:
    """An activity whose context is no dict does not get into anybody's feed."""
    for context in (b"\xc1", pack([1]), pack("x")):
        body = pack([1, 2, 3, 4, None, context])
        assert fact_of(SocialManager(), bytes(16), body).kind == DAMAGED
        with pytest.raises(CorruptRecord):
            _ = Activity.unpack(body).extra_context


# -- a real server: scripts meet what Python never sees


@pytest.mark.parametrize("feed_class", [News, Notes])
def test_scripts_survive_damage(redis_url: str, feed_class: Any, quiet: None) -> None:
    """Damaged records, states, locks, pending writes and overflow on a real server: a chunk reaches every other feed and group."""
    client, rng = redis.Redis.from_url(redis_url), random.Random(4)
    run_steps = backend().run
    feed_class.insert_activities([on_day(n) for n in range(10)] + [in_group(n) for n in range(60)])
    hash_key = feed_class(1).key + GROUPS
    for number in range(150):
        client.delete(*client.keys("fm:test:*") or ["x"])
        feed_class(1).add_many([on_day(2), on_day(3), *(in_group(n) for n in range(35))])
        fields = client.hgetall(hash_key)
        names = [field for field in fields if field[:1] != b"\0"]
        (big,) = [field for field in names if fields[field][0] & 1]
        samples = [fields[field] for field in names] + [fields.get(STATE.encode(), b"0")]
        noise = mutated(rng, samples)
        target = rng.randrange(5)
        if target == 0:
            client.hset(hash_key, STATE, noise)
        elif target == 1:
            client.hset(hash_key, b"\0i", noise)
        elif target == 2:
            overflow = hash_key.encode() + b":" + big
            client.hset(overflow, client.hkeys(overflow)[0], noise)
        else:
            client.hset(
                hash_key,
                rng.choice(
                    [name for name in names if b"1003" not in name and b"01-04" not in group_names.spelled(name)]
                ),
                noise,
            )
        new = [on_day(9), on_day(2), in_group(50), in_group(1, 1)]
        feedmill.configure(lock_ttl=0.2)  # a lock of noise must not be waited for
        run_steps(feed_class.deliver([0, 1, 2], new))
        for user in (0, 2):
            assert {on_day(9), on_day(2), in_group(50)} <= set(held(feed_class(user)[:])), number
        shown = held(feed_class(1)[:])
        assert on_day(3) in shown, (number, target, noise)
    client.close()


def test_a_broken_flat_timeline_takes_new_activities(redis_url: str, quiet: None) -> None:
    """Whatever a flat timeline holds, what is newer than it is shown, and late ones break nothing."""
    client, rng = redis.Redis.from_url(redis_url), random.Random(4)
    Home.insert_activities([on_day(n) for n in range(20)])
    for _ in range(150):
        Home(1).delete()
        Home(1).add_many([on_day(n) for n in range(10, 16)])
        client.set(Home(1).key, mutated(rng, [client.get(Home(1).key) or b""]))
        backend().run(Home.deliver([1, 2], [on_day(3)]))
        backend().run(Home.deliver([1, 2], [on_day(19)]))
        assert on_day(19) in Home(1)[:] or client.strlen(Home(1).key) > 16
        assert Home(2)[0] == on_day(19)
        Home(2).delete()
    client.close()


def test_samples_are_well_formed(tmp_path: Path) -> None:
    """The fuzzer begins with inputs that are read as they are."""
    prepare()
    assert [Activity.unpack(each.pack()) for each in ACTIVITIES] == ACTIVITIES
    files = Files()
    for target in targets(files, lambda rng, data: None):
        if target.name not in (
            "signatures",
            "fan-outs in the journal",
            "dead letters",
            "cursors",
            "cursors at feeds",
            "task messages",
            "event and follow files",
        ):
            for sample in target.samples if target.name != "msgpack values" else ():
                target.call(random.Random(1), sample)
    files.close()
