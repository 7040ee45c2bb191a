"""Activities: ids, values, and the way to bytes and back."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import Activity
from feedmill.errors import CorruptRecord, UnknownVerb
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
