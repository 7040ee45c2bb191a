"""Revisions: numbers to texts and back, and everything else refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import revision
from feedmill.errors import FeedmillError, RevisionError
from feedmill.grouping.operations import EVERYTHING

NUMBERS = st.integers(0, EVERYTHING)


@given(NUMBERS)
def test_numbers(number: int) -> None:
    """A number comes back from its text, which needs no quoting in a URL and is short."""
    text = revision.encode(number)
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}", text)
    assert revision.decode(text) == number


@given(NUMBERS, st.integers(0, 16), st.sampled_from("AZaz09-_=+/ \n\0é"))
def test_one_other_character(number: int, at: int, character: str) -> None:
    """A revision of which one character was changed, put in or cut off is refused."""
    text = revision.encode(number)
    for changed in (text[:at] + character + text[at + 1 :], text[:at] + character + text[at:], text[:at]):
        if changed != text:
            with pytest.raises(RevisionError, match="or read the feed again"):
                revision.decode(changed)


@given(st.text() | st.binary() | st.integers() | st.none() | st.lists(st.integers(), max_size=2))
def test_anything_else(thing: Any) -> None:
    """Whatever else is given as a revision is one error of ours."""
    with pytest.raises(RevisionError) as caught:
        revision.decode(thing)
    assert isinstance(caught.value, FeedmillError)


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision of another version is told apart from a damaged one."""
    monkeypatch.setattr(revision, "VERSION", 2)
    newer = revision.encode(5)
    monkeypatch.undo()
    with pytest.raises(RevisionError, match="is of version 2, not 1"):
        revision.decode(newer)
