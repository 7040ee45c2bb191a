"""A quick look at a feed of groups, which finds it surely healthy, as nearly all are; else it is looked at closely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from feedmill import group_names
from feedmill.doctor.checks.groups import numbers
from feedmill.errors import CorruptRecord
from feedmill.grouping.feed_state import FeedState
from feedmill.grouping.operations import has_custom_score, reads_bodies
from feedmill.grouping.scoring import score_of
from feedmill.ids import MAX_TIME
from feedmill.records.glance import ONE_ID, ONE_SIZE, Glance, Look, look_for
from feedmill.storage.maintenance import StoredFeed

#: Records of each kind that are remembered, and as many scores: one activity makes the same record in many feeds.
REMEMBERED = 30_000

#: The time of a group's newest activity, and the ids that it shows, oldest first.
_Shown = tuple[int, tuple[bytes, ...]]


class Glances:
    """Remembers the records and scores that it saw, in bounded memory."""

    def __init__(self) -> None:
        #: By how they were looked at, and by the bytes, without the touch.
        self._records: defaultdict[Look, dict[bytes, Glance | None]] = defaultdict(dict)
        #: The scores of groups of feeds without counts, in which nothing but name and record matters.
        self._scores: defaultdict[Any, dict[tuple[bytes, bytes], float | None]] = defaultdict(dict)

    def healthy(self, feed_class: Any, stored: StoredFeed) -> list[bytes] | None:
        """The newest ids that a feed shows (none where bodies are not apart); None unless it is surely healthy.

        Not looked at is what its overflow holds besides the number of actors.
        """
        look = look_for(feed_class.timeline_serializer)
        if look is None or stored.wrong or stored.lock is not None or stored.pending or reads_bodies(feed_class):
            return None
        if stored.scores_flaw:
            return None
        if len(stored.scores) != len(stored.records) or not _are_texts(stored.records):
            return None
        for remembered in (self._records[look], self._scores[feed_class]):
            if len(remembered) > REMEMBERED:
                remembered.clear()
        scored = has_custom_score(feed_class)
        if feed_class.counted:
            return self._counted(feed_class, stored, look, scored)
        return self._shown(feed_class, stored, look, scored)

    def _shown(self, feed_class: Any, stored: StoredFeed, look: Look, scored: bool) -> list[bytes] | None:
        """Of a feed whose bodies are apart."""
        known, scores, number, shown = self._records[look], stored.scores, int.from_bytes, list[_Shown]()
        given = self._scores[feed_class]
        for name_and_record in stored.records.items():
            group, data = name_and_record
            if len(data) == ONE_SIZE and data[:2] == ONE_ID and not scored:  # as most are
                updated = number(data[2:9], "big")
                if scores.get(group) != updated or updated > MAX_TIME:
                    return None
                shown.append((updated, (data[2:],)))
                continue
            glance = known[data] if data in known else known.setdefault(data, look(data))
            if glance is None or (glance.has_overflow and not _fits(glance, stored.overflows.get(group, 0))):
                return None
            score: float | None = glance.updated
            if scored and (score := given.get(name_and_record)) is None:
                score = given[name_and_record] = _score(feed_class, FeedState(), group, data)
            if score is None or scores.get(group) != score:
                return None
            shown.append((glance.updated, glance.ids))
        shown.sort(reverse=True)
        return [raw_id for _, ids in shown for raw_id in reversed(ids)]

    def _counted(self, feed_class: Any, stored: StoredFeed, look: Look, scored: bool) -> list[bytes] | None:
        """Of a feed with counts, which holds everything."""
        try:
            state = FeedState.decode(stored.state)
        except CorruptRecord:
            return None
        known, scores, number = self._records[look], stored.scores, int.from_bytes
        seen_mark, read_mark, unseen, unread, latest = state.seen_mark, state.read_mark, 0, 0, 0
        for group, data in stored.records.items():
            key = data[:2] + data[8:]
            glance = known[key] if key in known else known.setdefault(key, look(data))
            if glance is None or (glance.has_overflow and not _fits(glance, stored.overflows.get(group, 0))):
                return None
            score = _score(feed_class, state, group, data) if scored else glance.updated
            if score is None or scores.get(group) != score:
                return None
            revision = number(data[2:8], "big")
            if revision > latest:
                latest = revision
            unseen += revision > seen_mark and not glance.seen_at
            unread += revision > read_mark and not glance.read_at
        return [] if _is_counted(stored, state, latest, (unseen, unread)) else None


def _score(feed_class: Any, state: FeedState, group: bytes, data: bytes) -> float | None:
    """What the aggregator gives; None if it raises, which whoever looks closely says."""
    try:
        return score_of(feed_class, state, group, feed_class.serializer().decode(data), None)
    except Exception:
        return None


def _are_texts(names: Iterable[bytes]) -> bool:
    try:
        b"\0".join([name[: -group_names.DAY_SIZE] if group_names.has_day(name) else name for name in names]).decode()
    except UnicodeDecodeError:
        return False
    return True


def _fits(glance: Glance, named: int) -> bool:
    """Whether a group may have overflow that names so many actors."""
    return named == glance.actors or (glance.truncated and named < glance.actors)


def _is_counted(stored: StoredFeed, state: FeedState, latest: int, counted: tuple[int, int]) -> bool:
    """Whether state and count are what a recount gives."""
    if max(latest, state.seen_mark, state.read_mark) > state.sequence or (state.unseen, state.unread) != counted:
        return False
    kept = numbers(stored.count)
    if kept is None:
        return stored.count is None and (*counted, state.published) == (0, 0, 0)
    return kept == (*counted, state.published)
