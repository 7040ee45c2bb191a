"""The examination: goes through all keys by SCAN, a page at a time, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from feedmill.doctor.checks.activities import KnownBodies, damaged_bodies, forget_members
from feedmill.doctor.checks.flat import cut, damaged_flat, mended_flat, newest_ids
from feedmill.doctor.checks.journal import (
    check_receipts,
    chunks_without_receipt,
    damaged_letters,
    due_without_receipt,
    overdue_fanouts,
    work_of_strangers,
)
from feedmill.doctor.checks.overflow import suspicions
from feedmill.doctor.checks.quick import Glances
from feedmill.doctor.checks.settings import is_brokers, unsafe_broker, unsafe_server
from feedmill.doctor.key_map import Part, Place, Places
from feedmill.doctor.repair import look, mend
from feedmill.doctor.report import Finding, Report
from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS, bell_key, due_key, letters_key
from feedmill.registry import manager_names
from feedmill.storage.maintenance import StoredFeed
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker.dead_letters import reason
from feedmill.worker.delivery import lock_patience

S = TypeVar("S")
T = TypeVar("T")
#: Feeds that are read in one round trip.
BATCH = 200
#: Parts whose type is not asked for before they are read.
UNASKED = {Part.RANKS, Part.GROUPS, Part.COUNT, Part.OTHER, Part.FLAT, Part.BODY}
#: A feed of groups, and those of its spills that are suspected of something.
Suspected = tuple[Place, dict[bytes, str]]


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
        self._glances = Glances()
        self._bodies = KnownBodies()
        #: Whether bodies were forgotten.
        self._forgotten = False

    def run(self) -> Report:
        """Look at everything."""
        unsafe_server(self.fix, self.report.add)
        for finding in unsafe_broker():
            self.report.add(finding, False)
        self._guarded("the journal", self._journal)
        total = self._do(backend().maintenance.size())
        for keys in self._pages():
            known = {key: place for key in dict.fromkeys(keys) if (place := self.places.of(key)) is not None}
            self._page(known)
            self.report.keys += len(keys)
            self.report.strange += sum(key not in known and not is_brokers(key) for key in set(keys))
            self.seen(self.report.keys, max(total, self.report.keys))
        if self._forgotten:  # feeds that were looked at before may hold what has no body now
            feeds = self.report.feeds
            for keys in self._pages():
                known = {key: place for key in keys if (place := self.places.of(key)) is not None}
                self._page({key: place for key, place in known.items() if place.part in (Part.FLAT, Part.GROUPS)})
            self.report.feeds = feeds
        return self.report

    def _pages(self) -> Iterator[Sequence[bytes]]:
        """All our keys; one may come twice."""
        cursor = None
        while cursor != 0:
            cursor, keys = self._do(backend().maintenance.scan(cursor or 0))
            yield keys

    def _journal(self) -> None:
        self.managers = [name for name in manager_names() if self._is_sound(bell_key(name), due_key(name))]
        due_without_receipt(self.managers, self._tell)
        overdue_fanouts(self.managers, self.fix, self.report.add)
        if self._is_sound(letters_key()):
            self.report.letters = damaged_letters(self._tell)

    def _is_sound(self, *names: str) -> bool:
        """Whether each of these keys holds what it should or nothing, perhaps only now: of a wrong type, one stops others."""
        found = {name.encode(): place for name in names if (place := self.places.of(name.encode())) is not None}
        for key, held in self._types(list(found)):
            self._is_of_type(key, found[key], held)
        return all(held in (found[key].part.type, "none") for key, held in self._types(list(found)))

    # -- one thing that cannot be read is a finding, and the others are read

    def _do(self, operation: Steps[T]) -> T:
        return backend().run(operation)

    def _still_there(self) -> None:
        """:class:`~feedmill.errors.StorageError` if the server is away: that is no finding, but the end."""
        self._do(backend().maintenance.types([b"feedmill"]))

    def _guarded(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception as error:
            self._still_there()
            self._tell([_unread(what, error)])

    def _each(
        self, items: Sequence[S], operation: Callable[[S], Steps[T]], name: Callable[[S], str]
    ) -> list[tuple[S, T]]:
        """What *operation* gives for each of *items*: in one go or, where that fails, one after the other."""
        try:
            return list(zip(items, self._do(together([operation(item) for item in items])))) if items else []
        except Exception:
            self._still_there()
        found = []
        for item in items:
            try:
                found.append((item, self._do(operation(item))))
            except Exception as error:
                self._still_there()
                self._tell([_unread(name(item), error)])
        return found

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
            except Exception as error:  # also an app's own aggregator may raise anything: that is about this one alone
                self._still_there()
                findings = [_hopeless(finding, error) for finding in findings]
        for finding in findings:
            self.report.add(finding, mended and finding.mendable)

    # -- a page

    def _page(self, known: dict[bytes, Place]) -> None:
        """Look at what the keys of *known* belong to."""
        parts: dict[Part, list[tuple[bytes, Place]]] = {part: [] for part in Part}
        types = dict(self._types([key for key, place in known.items() if place.part not in UNASKED]))
        #: Feeds of groups to look at, with those of their spills that are suspected.
        feeds: dict[Place, dict[bytes, str]] = {}
        for key, place in known.items():
            if place.part in UNASKED or self._is_of_type(key, place, types[key]):
                parts[place.part].append((key, place))
            elif types[key] != "none" and place.part is Part.SPILL:
                feeds[place.feed] = {}
        feeds.update((place, {}) for _, place in parts[Part.GROUPS])
        self._without_hash(parts[Part.RANKS] + parts[Part.COUNT], feeds)
        self._spills([place for _, place in parts[Part.SPILL]], feeds)
        for flats in _batches(parts[Part.FLAT]):
            self._flats(flats)
        for groups in _batches(list(feeds.items())):
            self._groups(groups)
        due = [(key, place.user_id) for key, place in parts[Part.DUE]]
        receipts, chunks = ([place.user_id for _, place in parts[part]] for part in (Part.RECEIPT, Part.CHUNKS))
        self._guarded("what is due", lambda: work_of_strangers(due, self._tell))
        self._guarded("receipts", lambda: check_receipts(receipts, self.managers, self._tell))
        self._guarded("chunks", lambda: chunks_without_receipt(chunks, self._tell))
        self._guarded("bodies", lambda: self._look_at_bodies(parts[Part.BODY]))

    def _types(self, keys: Sequence[bytes]) -> list[tuple[bytes, str]]:
        return list(zip(keys, self._do(backend().maintenance.types(keys)))) if keys else []

    def _is_of_type(self, key: bytes, place: Place, held: str) -> bool:
        """Whether *key* holds what it should; what it should not is reported, and nothing is neither."""
        if held == place.part.type or held == "none":
            return held != "none"
        text = f"it holds a {held}, not a {place.part.type} ({place.part.value[1]}); --fix sets it aside"
        name = key.decode(errors="surrogateescape")
        if name not in self._set_aside:  # else told before, as nothing else of its manager could be looked at
            self._tell([Finding("wrong type", name, text)], backend().maintenance.set_aside(name, place.part.type))
        return False

    def _without_hash(self, parts: Sequence[tuple[bytes, Place]], feeds: dict[Place, dict[bytes, str]]) -> None:
        """Feeds of which there is an entry or a count, but no records: they come up in no other way."""
        places = dict.fromkeys(place.feed for _, place in parts)
        hashes = {(place.key + GROUPS).encode(): place for place in places if place not in feeds}
        if hashes and self._do(backend().maintenance.number(list(hashes))) < len(hashes):
            feeds.update((hashes[key], {}) for key, held in self._types(list(hashes)) if held == "none")

    def _spills(self, places: Sequence[Place], feeds: dict[Place, dict[bytes, str]]) -> None:
        """Spills whose group does not say that it has one, and those that do not fit their group."""
        for place, flaw in self._each(list(_batches(places)), suspicions, lambda batch: batch[0].key):
            for each, suspected in zip(place, flaw):
                if suspected is not None:
                    feeds.setdefault(each.feed, {})[each.group] = suspected

    def _flats(self, flats: Sequence[tuple[bytes, Place]]) -> None:
        texts = self._do(backend().maintenance.strings([key for key, _ in flats]))
        gone = dict(self._types([key for (key, _), text in zip(flats, texts) if text is None]))
        sound: list[tuple[Place, list[bytes]]] = []
        for (key, place), text in zip(flats, texts):
            if text is None:
                self._is_of_type(key, place, gone[key])
                continue
            self.report.feeds += 1
            ids = newest_ids(text)
            if ids is None:
                mended = mended_flat(text)
                self._tell(damaged_flat(place.key, text), backend().maintenance.flat_put(place.key, text, mended))
                ids = cut(mended)[::-1]
            sound.append((place, ids))
        self._look_for_bodies(sound)

    def _groups(self, feeds: Sequence[Suspected]) -> None:
        self.report.feeds += len(feeds)
        sound: list[tuple[Place, list[bytes]]] = []
        close: list[Suspected] = []
        for (place, spills), stored in self._each(feeds, _stored, lambda feed: feed[0].key):
            ids = None if spills else self._glances.healthy(place.feed_class, stored)
            if ids is None:
                close.append((place, spills))
            else:
                sound.append((place, ids))
        for (place, spills), (case, findings) in self._each(close, lambda feed: look(*feed), lambda feed: feed[0].key):
            self._tell(findings, mend(place, spills))
            sound.append((place, case.shown_ids()[::-1]))
        self._look_for_bodies([each for each in sound if each[0].feed_class.activity_storage_class is not None])

    def _look_for_bodies(self, held: Sequence[tuple[Place, list[bytes]]]) -> None:
        """Feeds, each with the ids that it holds, newest first, some of which may lead nowhere."""
        for place, gone in self._do(self._bodies.missing(held)):
            self._tell([gone], forget_members(place.feed_class, place.user_id, lock_patience()))

    def _look_at_bodies(self, bodies: Sequence[tuple[bytes, Place]]) -> None:
        ids = [key[-ID_SIZE:] for key, _ in bodies]
        found, unread = self._do(damaged_bodies(self.places.feed_classes, ids)) if ids else ([], [])
        keys = {key[-ID_SIZE:]: (key, place) for key, place in bodies}
        for key, held in self._types([keys[raw_id][0] for raw_id in unread]):
            self._is_of_type(key, keys[key[-ID_SIZE:]][1], held)
        for raw_id, finding in found:
            self._tell([finding], self._forget_body(raw_id))

    def _forget_body(self, raw_id: bytes) -> Steps[None]:
        self._forgotten = True
        self._bodies.forget(raw_id)
        for storage_class in {feed.activity_storage_class: feed for feed in self.places.feed_classes}.values():
            if storage_class.activity_storage_class is not None:
                yield from storage_class.activities().remove([raw_id])


def _stored(feed: Suspected) -> Steps[StoredFeed]:
    place, _ = feed
    return backend().maintenance.feed(place.key, place.feed_class.count_key_of(place.user_id))


def _unread(what: str, error: Exception) -> Finding:
    return Finding("not examined", what, f"it cannot be read: {reason(error)}", mendable=False)


def _hopeless(finding: Finding, error: Exception) -> Finding:
    return Finding(finding.kind, finding.where, f"{finding.text}; mending failed: {reason(error)}", mendable=False)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def examine(*, fix: bool = False, seen: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Look at all that is stored and at the settings; with *fix*, mend what can be mended."""
    return Examination(fix=fix, seen=seen).run()
