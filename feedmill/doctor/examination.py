"""The examination: goes through all keys by SCAN, a few feeds at a time, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from feedmill.delivery.deliveries import lock_patience
from feedmill.delivery.letters import reason
from feedmill.doctor.bodies import damaged_bodies, forget_members, gone_bodies
from feedmill.doctor.broker import unsafe_broker
from feedmill.doctor.findings import Finding, Report
from feedmill.doctor.flats import cut, damaged_flat, mended_flat
from feedmill.doctor.mending import look, mend
from feedmill.doctor.overdue import overdue_fanouts
from feedmill.doctor.places import Part, Place, Places
from feedmill.doctor.receipts import (
    check_receipts,
    chunks_without_receipt,
    damaged_letters,
    due_without_receipt,
    sound_managers,
    work_of_strangers,
)
from feedmill.doctor.server import unsafe_server
from feedmill.doctor.spills import suspicion
from feedmill.errors import StorageError
from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS
from feedmill.storage.backends import backend
from feedmill.storage.inspection import inspection
from feedmill.storage.steps import Steps, together

T = TypeVar("T")
#: Feeds that are read in one round trip.
BATCH = 50
#: Parts whose type is looked at by itself; that of the others when their feed is read.
LONERS = {*Part} - {Part.RANKS, Part.GROUPS, Part.COUNT, Part.OTHER}


class Examination:
    """One run. *seen* is told after each step how many keys were looked at, and about how many there are."""

    def __init__(self, *, fix: bool = False, seen: Callable[[int, int], None] = lambda done, total: None) -> None:
        #: Whether to mend, and whom to tell how far it is.
        self.fix, self.seen = fix, seen
        #: What was found so far.
        self.report = Report()
        #: What the keys are of.
        self.places = Places()
        #: Names of the managers whose journal can be used.
        self.managers: list[str] = []
        self._set_aside: set[str] = set()

    def run(self) -> Report:
        """Look at everything."""
        unsafe_server(self.fix, self.report.add)
        for finding in unsafe_broker():
            self.report.add(finding, False)
        self.managers = sound_managers(self._tell)
        due_without_receipt(self.managers, self._tell)
        overdue_fanouts(self.managers, self.fix, self.report.add)
        self.report.letters = damaged_letters(self._tell)
        cursor, total = 0, self._do(inspection().size())
        while True:
            cursor, keys = self._do(inspection().scan(cursor))
            ours = [key for key in dict.fromkeys(keys) if self.places.of(key) is not None]
            self._page(ours)
            self.report.keys += len(keys)
            self.report.strange += len(set(keys)) - len(ours)
            self.seen(self.report.keys, max(total, self.report.keys))
            if not cursor:
                return self.report

    def _do(self, operation: Steps[T]) -> T:
        return backend().run(operation)

    def _page(self, keys: Sequence[bytes]) -> None:
        """Look at what *keys* belong to."""
        parts: dict[Part, list[tuple[bytes, Place]]] = {part: [] for part in Part}
        #: Feeds of groups to look at, with those of their spills that are suspected.
        feeds: dict[Place, dict[bytes, str]] = {}
        for key, held in zip(keys, self._do(inspection().types(keys)) if keys else ()):
            place = self.places.of(key)
            if place is None or held == "none":
                continue
            if held != place.part.type and place.part in LONERS:
                self._wrong_type(key, place, held)
                if place.part is Part.SPILL:
                    feeds[place._replace(part=Part.GROUPS, group=b"")] = {}
            else:
                parts[place.part].append((key, place))
        feeds.update((place, {}) for _, place in parts[Part.GROUPS])
        self._without_hash(parts[Part.RANKS] + parts[Part.COUNT], feeds)
        self._spills([place for _, place in parts[Part.SPILL]], feeds)
        self._flats([place for _, place in parts[Part.FLAT]])
        self._groups(feeds)
        work_of_strangers([(key, place.user_id) for key, place in parts[Part.DUE]], self._tell)
        check_receipts([place.user_id for _, place in parts[Part.RECEIPT]], self.managers, self._tell)
        chunks_without_receipt([place.user_id for _, place in parts[Part.CHUNKS]], self._tell)
        self._bodies([key[-ID_SIZE:] for key, _ in parts[Part.BODY]])

    def _tell(self, findings: Iterable[Finding], mending: Steps[Any] | None = None) -> None:
        """Report *findings*, after *mending* them if that is wanted."""
        findings, mended = list(findings), False
        if not findings:
            return
        self._set_aside.update(finding.where for finding in findings if finding.kind == "wrong type")
        if self.fix and mending is not None:
            try:
                self._do(mending)
                mended = True
            except StorageError:
                raise
            except Exception as error:  # an app's own aggregator may raise anything: that is about this one alone
                findings = [_hopeless(finding, error) for finding in findings]
        for finding in findings:
            self.report.add(finding, mended and finding.mendable)

    def _wrong_type(self, key: bytes, place: Place, held: str) -> None:
        text = f"it holds a {held}, not a {place.part.type} ({place.part.value[1]}); --fix sets it aside"
        name = key.decode(errors="surrogateescape")
        if name in self._set_aside:  # told before, as nothing else of its manager could be looked at
            return
        self._tell([Finding("wrong type", name, text)], inspection().set_aside(name, place.part.type))

    def _without_hash(self, parts: Sequence[tuple[bytes, Place]], feeds: dict[Place, dict[bytes, str]]) -> None:
        """Feeds of which there is an entry or a count, but no records: they come up in no other way."""
        places = list(dict.fromkeys(place._replace(part=Part.GROUPS) for _, place in parts))
        hashes = [(place.key + GROUPS).encode() for place in places]
        held = self._do(inspection().types(hashes)) if hashes else []
        feeds.update((place, {}) for place, kind in zip(places, held) if kind == "none")

    def _spills(self, places: Sequence[Place], feeds: dict[Place, dict[bytes, str]]) -> None:
        """Spills whose group does not say that it has one, and those that do not fit their group."""
        used = self._do(inspection().spills_used([(place.key, place.group) for place in places])) if places else []
        for place, in_use in zip(places, used):
            flaw = self._do(suspicion(place)) if in_use else ""  # one at a time: a spill may be large
            if flaw or not in_use:
                feed = place._replace(part=Part.GROUPS, group=b"")
                feeds.setdefault(feed, {})[place.group] = flaw

    def _flats(self, places: Sequence[Place]) -> None:
        for batch in _batches(places):
            self.report.feeds += len(batch)
            texts = self._do(together([inspection().flat(place.key) for place in batch]))
            for place, text in zip(batch, texts):
                damage = damaged_flat(place.key, text)
                self._tell(damage, inspection().flat_put(place.key, text, mended_flat(text)))
            self._gone_bodies([(place, cut(text)) for place, text in zip(batch, texts)])

    def _groups(self, feeds: dict[Place, dict[bytes, str]]) -> None:
        for batch in _batches(list(feeds.items())):
            self.report.feeds += len(batch)
            looks = self._do(together([look(place, spills) for place, spills in batch]))
            for (place, spills), (_, findings) in zip(batch, looks):
                self._tell(findings, mend(place, spills))
            held = [(place, case.shown_ids()) for (place, _), (case, _) in zip(batch, looks)]
            self._gone_bodies([each for each in held if each[0].feed_class.activity_storage_class is not None])

    def _gone_bodies(self, held: Sequence[tuple[Place, list[bytes]]]) -> None:
        """Feeds, each with the ids that it holds, many of which lead nowhere."""
        found = self._do(together([gone_bodies(place.feed_class, place.key, ids) for place, ids in held]))
        for (place, _), gone in zip(held, found):
            self._tell(gone, forget_members(place.feed_class, place.user_id, lock_patience()))

    def _bodies(self, ids: Sequence[bytes]) -> None:
        if ids:
            for raw_id, finding in self._do(damaged_bodies(self.places.feed_classes, ids)):
                self._tell([finding], self._forget_body(raw_id))

    def _forget_body(self, raw_id: bytes) -> Steps[None]:
        for storage_class in {feed.activity_storage_class: feed for feed in self.places.feed_classes}.values():
            if storage_class.activity_storage_class is not None:
                yield from storage_class.activities().remove([raw_id])


def _hopeless(finding: Finding, error: Exception) -> Finding:
    return Finding(finding.kind, finding.where, f"{finding.text}; mending failed: {reason(error)}", mendable=False)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def examine(*, fix: bool = False, seen: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Look at all that is stored and at the settings; with *fix*, mend what can be mended."""
    return Examination(fix=fix, seen=seen).run()
