"""The encoder of server-sent events: what a browser reads is what was given, whatever that holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill.contrib import server_sent_events
from feedmill.errors import ArgumentError
from tests.contrib.event_stream import Event, EventSource

ONE_LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ONE_LINE, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), ONE_LINE, ONE_LINE), max_size=4),
    st.integers(1, 9),
)
def test_a_browser_reads_what_was_given(sent: list[tuple[str, str, str]], size: int) -> None:
    """Texts of any lines, names and ids arrive as they were, however the stream is cut; without an id the last one stays."""
    stream = b"".join(server_sent_events.event(data, name=name, id=id) for data, name, id in sent)
    browser, found, last = EventSource(), list[Event](), ""
    for start in range(0, len(stream), size):
        found += browser.feed(stream[start : start + size])
    for event, (data, name, id) in zip(found, sent, strict=True):
        last = id or last
        assert event.name == (name or "message") and event.id == last
        assert event.data == data.replace("\r\n", "\n").replace("\r", "\n")


@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_what_is_no_text_is_json(value: Any) -> None:
    """On one line, as JSON.parse reads it."""
    (event,) = EventSource().feed(server_sent_events.event(value))
    assert json.loads(event.data) == value and "\n" not in event.data


def test_what_is_no_event() -> None:
    """A comment and the time to wait make no event; the time is in milliseconds."""
    browser = EventSource()
    assert list(browser.feed(server_sent_events.comment("here") + server_sent_events.retry(2.5))) == []
    assert browser.comments == 1 and browser.retry == 2500
    assert server_sent_events.event("x") == b"data: x\n\n"
    assert server_sent_events.event("") == b"data: \n\n"


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: server_sent_events.event(1, name="a\nb"), "event is 'a.nb'"),
        (lambda: server_sent_events.event(1, id="a\rb"), "id is 'a.rb'"),
        (lambda: server_sent_events.event(1, id="a\0"), "id is"),
        (lambda: server_sent_events.comment("a\n\ndata: b"), "a comment is"),
        (lambda: server_sent_events.event(object()), "is no JSON"),
        (lambda: server_sent_events.retry(-1), "retry is -1"),
    ],
)
def test_what_would_be_another_event(call: Any, complaint: str) -> None:
    """Nothing that somebody gives can end an event and begin another."""
    with pytest.raises(ArgumentError, match=complaint):
        call()
