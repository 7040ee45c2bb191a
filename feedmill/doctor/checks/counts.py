"""State and counts of a notification feed: what it knows of itself is what a recount of its groups gives."""

from __future__ import annotations

from collections.abc import Iterator

from feedmill.doctor.feed_case import Case
from feedmill.doctor.findings import Finding
from feedmill.errors import CorruptRecord
from feedmill.grouping.feed_state import FeedState, count_message, title


def damaged_state(case: Case) -> Iterator[Finding]:
    """A state that cannot be read or is behind its groups; the feed begins to count anew, with everything unseen."""
    if not case.counted:
        return
    latest = max((record.touch for record in case.records.values()), default=0)
    try:
        case.state = FeedState.decode(case.stored.state)
    except CorruptRecord as error:
        yield Finding("damaged state", case.key, f"{error}; what was seen is unseen again")
        case.state = FeedState(latest)
        case.mends = True
    state = case.state
    if max(latest, state.seen_mark, state.read_mark) > state.sequence:
        yield Finding("damaged state", case.key, "its number is behind those of its groups; new ones would seem seen")
        state.seen_mark, state.read_mark = min(state.seen_mark, state.sequence), min(state.read_mark, state.sequence)
        state.sequence = max(latest, state.sequence)
        case.mends = True


def drifted_counts(case: Case) -> Iterator[Finding]:
    """Counts that a recount does not give, or a count of a feed that is not there."""
    if not case.counted:
        return
    if case.foreign:  # then a recount is not to be had
        case.changes.state = case.state.encode()
        return
    state, count_key = case.state, case.changes.count_key
    unseen = sum(not state.is_seen(record) for record in case.records.values())
    unread = sum(not state.is_read(record) for record in case.records.values())
    kept = numbers(case.stored.count)
    known = state.unseen, state.unread, state.published
    if kept is not None and not case.stored.state and not case.stored.records:
        if kept[:2] == (0, 0):
            return
        yield Finding("count without feed", count_key, f"it says {kept[0]} unseen, and there is no feed")
    elif (state.unseen, state.unread) != (unseen, unread):
        text = f"the feed says {state.unseen} unseen and {state.unread} unread; a recount gives {unseen} and {unread}"
        yield Finding("drifted count", count_key, text)
    elif kept is None and case.stored.count is not None:
        yield Finding("drifted count", count_key, f"{case.stored.count[:40]!r} is no count")
    elif (kept or (0, 0, 0)) != known:
        text = f"it says {kept[0]} unseen and {kept[1]} unread" if kept else "it is missing"
        yield Finding("drifted count", count_key, f"{text}; the feed says {state.unseen} and {state.unread}")
    else:
        case.changes.state = state.encode()
        return
    state.unseen, state.unread = unseen, unread
    state.published = max(state.published, kept[2] if kept else 0) + 1
    message = count_message(title(case.key, case.user_id), unseen, unread, state.published)
    case.changes.count = unseen, unread, state.published, message
    case.changes.state = state.encode()
    case.mends = True


def numbers(count: bytes | None) -> tuple[int, int, int] | None:
    """What a stored count says: unseen, unread and the number of the last publication; None if it says nothing."""
    parts = (count or b"").split()
    if len(parts) != 3 or not all(part.isdigit() and len(part) < 20 for part in parts):
        return None
    unseen, unread, sequence = map(int, parts)
    return unseen, unread, sequence
