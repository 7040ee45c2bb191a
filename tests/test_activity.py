"""Activities: ids, values, and the way to bytes and back."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import pickle
import string
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import Activity
from feedmill.activity import checked_values, is_surely_sound, unpack_sound
from feedmill.errors import CorruptRecord, UnknownVerb
from feedmill.msgpack_codec import unpack
from feedmill.verbs import Add, Comment, Follow, Love

NOW = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.timezone.utc)
IDS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.text(min_size=1, max_size=20), st.uuids())
TIMES = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2254, 1, 1), timezones=st.timezones())
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def everything(activity: Activity) -> tuple[Any, ...]:
    return (
        activity.actor_id,
        activity.verb,
        activity.object_id,
        activity.target_id,
        activity.time,
        dict(activity.extra_context),
    )


@given(
    IDS,
    st.sampled_from([Follow, Comment, Love, Add]),
    IDS,
    st.none() | IDS,
    TIMES,
    st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
)
def test_pack_and_unpack(
    actor: Any, verb: Any, object_: Any, target: Any, time: dt.datetime, context: dict[str, Any]
) -> None:
    """Any activity comes back from its bytes as it was, with the same id."""
    activity = Activity(actor, verb, object_, target, time, context)
    again = Activity.unpack(activity.pack())
    assert everything(again) == everything(activity)
    assert again == activity
    assert again.id == activity.id
    assert type(again.actor_id) is type(actor)


@given(TIMES, TIMES)
def test_ids_are_ordered_by_time(first: dt.datetime, second: dt.datetime) -> None:
    """An earlier activity has the smaller id."""
    a, b = Activity(1, Love, 1, time=first), Activity(2, Love, 2, time=second)
    if a.microseconds != b.microseconds:
        assert (a.id < b.id) == (first < second) == (a < b)


@given(st.binary(max_size=60))
def test_other_bytes_are_refused(data: bytes) -> None:
    """Bytes that are no activity are one of two errors, never another one."""
    with contextlib.suppress(CorruptRecord, UnknownVerb):
        Activity.unpack(data)


LATER = st.datetimes(dt.datetime(1970, 2, 1), dt.datetime(2254, 1, 1), timezones=st.just(dt.timezone.utc))
PLAIN_IDS = st.integers(-(2**63), 2**64 - 1) | st.uuids() | st.text(string.printable, min_size=1, max_size=31)


@given(PLAIN_IDS, PLAIN_IDS, st.none() | PLAIN_IDS, LATER, st.dictionaries(st.text(max_size=5), VALUES, max_size=2))
def test_what_is_usual_is_unpacked_when_it_is_looked_at(
    actor: Any, object_: Any, target: Any, time: dt.datetime, context: dict[str, Any]
) -> None:
    """Numbers, UUIDs and short texts are told to be sound at once; whatever is asked first, and of a copy too, all is there."""
    activity = Activity(actor, Love, object_, target, time, context)
    packed = activity.pack()
    if len(activity.packed_context) < 256:
        assert is_surely_sound(packed)
    for name in ("raw_id", "time", "actor", "extra_context", "verb", "target_id"):
        read = Activity.unpack(packed)
        assert getattr(read, name) == getattr(activity, name)
        assert everything(read) == everything(activity) and read.pack() == packed
    moved = Activity.unpack(packed).dated(5)
    assert (moved.microseconds, moved.actor_id, moved.pack() != packed) == (5, activity.actor_id, True)
    for same in (copy.copy(Activity.unpack(packed)), pickle.loads(pickle.dumps(Activity.unpack(packed)))):
        assert everything(same) == everything(activity)


@given(IDS, IDS, st.none() | IDS, LATER, st.binary(max_size=5), st.data())
def test_nothing_is_called_sound_that_is_not(
    actor: Any, object_: Any, target: Any, time: dt.datetime, context: bytes, data: Any
) -> None:
    """Of packed activities some of whose bytes were changed, cut or added, each that is called sound can be unpacked."""
    packed = bytearray(Activity(actor, Love, object_, target, time, {"c": context} if context else {}).pack())
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(packed[: data.draw(st.integers(0, len(packed)))]) + data.draw(st.binary(max_size=2))
    for each in (bytes(packed), changed):
        sound, others = unpack_sound(Activity, [b"1", b"2", b"3"], [Activity(1, Love, 5).pack(), None, each])
        assert list(sound) == [b"1", b"3"][: 1 + is_surely_sound(each)] and others == [(b"3", each)][len(sound) - 1 :]
        if is_surely_sound(each):
            values = checked_values(unpack(each))
            for activity in (Activity.unpack(each), sound[b"3"]):
                assert (activity.microseconds, activity.actor_id, activity.verb.id) == values[:3]
                assert (activity.object_id, activity.target_id, activity.packed_context) == values[3:]


def test_an_unknown_verb_is_told_at_once() -> None:
    """An activity of a verb that is not registered is refused when it is unpacked, not when somebody looks at it."""
    packed = Activity(1, Love, 2, time=NOW).pack()
    assert packed.count(b"\x03") == 1
    for verb in (b"\x7e", b"\xcd\x7f\xff"):
        with pytest.raises(UnknownVerb):
            Activity.unpack(packed.replace(b"\x03", verb))


@pytest.mark.parametrize("change", [{"actor": 2}, {"verb": Add}, {"object": 6}, {"target": 1}, {"actor": "1"}])
def test_one_difference_is_another_activity(change: dict[str, Any]) -> None:
    """Activities of one microsecond that differ in anything are two; a context makes no difference."""
    parts: dict[str, Any] = {"actor": 1, "verb": Love, "object": 5, "time": NOW}
    one = Activity(**parts)
    assert one != Activity(**{**parts, **change})
    assert one.id != Activity(**{**parts, **change}).id
    assert one == Activity(**parts, extra_context={"a": 1})
    assert len({one, Activity(**parts)}) == 1


def test_verbs() -> None:
    """The verb may be a class, an instance or a number."""
    assert Activity(1, 3, 1, time=NOW) == Activity(1, Love, 1, time=NOW) == Activity(1, Love(), 1, time=NOW)


def test_an_id_is_32_digits_of_time_first() -> None:
    """An id is 32 hexadecimal digits that begin with the microseconds since 1970."""
    activity = Activity(1, Love, 2, time=NOW)
    assert len(activity.id) == 32
    assert int(activity.id[:14], 16) == activity.microseconds
    assert activity.serialization_id == activity.id
    assert "1 loved 2" in repr(activity)


def test_the_context_is_read_only() -> None:
    """A context cannot be changed after the fact."""
    context = {"when": NOW, "list": [1, {"deep": b"x"}], "id": uuid.UUID(int=9)}
    activity = Activity(1, Love, 2, time=NOW, extra_context=context)
    assert dict(activity.extra_context) == context
    with pytest.raises(TypeError):
        activity.extra_context["more"] = 1  # type: ignore[index]
