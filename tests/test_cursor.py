"""Cursors: places to texts and back, and everything else refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import cursor
from feedmill.cursor import GroupPosition
from feedmill.errors import CursorError, FeedmillError
from feedmill.ids import MAX_TIME

OWNERS = st.text(max_size=20)


@given(OWNERS, st.binary(min_size=16, max_size=16))
def test_ids(owner: str, raw_id: bytes) -> None:
    """An id comes back from its cursor, which needs no quoting in a URL."""
    text = cursor.encode_id(owner, raw_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert cursor.decode_id(owner, text) == raw_id


@given(OWNERS, st.integers(0, MAX_TIME), st.text(min_size=1).map(str.encode))
def test_groups(owner: str, number: int, group: bytes) -> None:
    """A place among groups comes back from its cursor, whatever the group's name."""
    text = cursor.encode_group(owner, GroupPosition(number, group))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert cursor.decode_group(owner, text) == (number, group)


@given(OWNERS, OWNERS, st.binary(min_size=16, max_size=16))
def test_of_another_owner(one: str, other: str, raw_id: bytes) -> None:
    """A cursor of one kind of feed is none of another kind."""
    if one != other:
        with pytest.raises(CursorError, match="belongs to another kind of feed"):
            cursor.decode_id(other, cursor.encode_id(one, raw_id))


@given(st.binary(min_size=16, max_size=16), st.integers(0, 33), st.sampled_from("AZaz09-_=+/ \n\0é"))
def test_one_other_character(raw_id: bytes, at: int, character: str) -> None:
    """A cursor of which one character was changed, put in or cut off is refused."""
    text = cursor.encode_id("flat", raw_id)
    for changed in (text[:at] + character + text[at + 1 :], text[:at] + character + text[at:], text[:at]):
        if changed != text:
            with pytest.raises(CursorError, match="start again without a cursor"):
                cursor.decode_id("flat", changed)


@given(st.text() | st.binary() | st.integers() | st.none() | st.lists(st.integers(), max_size=2))
def test_anything_else(thing: Any) -> None:
    """Whatever else is given as a cursor is one error of ours."""
    for decode in (cursor.decode_id, cursor.decode_group):
        with pytest.raises(CursorError) as caught:
            decode("flat", thing)
        assert isinstance(caught.value, FeedmillError)


def test_places_of_the_other_shape() -> None:
    """A place that is whole but of another shape is refused: 16 bytes are an id, a group has a name and a time."""
    with pytest.raises(CursorError, match="names no activity"):
        cursor.decode_id("x", cursor.encode("x", b"short"))
    with pytest.raises(CursorError, match="names no group"):
        cursor.decode_group("x", cursor.encode("x", b"1234567"))
    with pytest.raises(CursorError, match="names no group"):
        cursor.decode_group("x", cursor.encode("x", b"\xff" * 7 + b"name"))


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor of a version to come is refused by its number."""
    monkeypatch.setattr(cursor, "VERSION", 2)
    later = cursor.encode("x", b"?" * 16)
    monkeypatch.undo()
    with pytest.raises(CursorError, match="is of version 2, not 1"):
        cursor.decode("x", later)


@given(st.binary(min_size=16, max_size=16))
def test_one_cursor_is_one_text(raw_id: bytes) -> None:
    """No other text is the same cursor: not with characters put in that decoders pass over, not with spare bits set."""
    text = cursor.encode_id("flat", raw_id)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = text[:-1] + alphabet[alphabet.index(text[-1]) | 1]
    for other in (text[:5] + "\n\n\n\n" + text[5:], text + "====", text + "==", spare):
        if other != text:
            with pytest.raises(CursorError, match="is not a cursor; start again"):
                cursor.decode_id("flat", other)
