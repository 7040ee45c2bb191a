"""The examination: goes through all that is stored, a page at a time, in memory that does not grow.

First the backend in force, by SCAN, and then the servers that stand beside it, which may be away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from feedmill import settings
from feedmill.doctor.checks.activities import KnownBodies, damaged_bodies, forget_members
from feedmill.doctor.checks.flat import cut, damaged_flat, newest_ids, overlong, repaired_flat
from feedmill.doctor.checks.growth import endless
from feedmill.doctor.checks.journal import (
    check_fanout_records,
    chunks_without_record,
    damaged_dead_letters,
    due_without_record,
    overdue_fanouts,
    untold_hooks,
    work_of_unknown_managers,
)
from feedmill.doctor.checks.overflow import suspicions
from feedmill.doctor.checks.quick import Glances
from feedmill.doctor.checks.settings import (
    cassandra_schema,
    is_brokers,
    unnamed_servers,
    unreachable,
    unsafe_broker,
    unsafe_server,
)
from feedmill.doctor.key_map import KeyInfo, KeyKind, KeyMap, pages, place_of
from feedmill.doctor.repair import diagnose, repair
from feedmill.doctor.report import Finding, Report
from feedmill.errors import StorageAway, StorageError
from feedmill.ids import ID_SIZE
from feedmill.iteration import batched
from feedmill.keys import GROUPS, dead_letters_key, due_key, wakeup_key
from feedmill.registry import manager_names
from feedmill.storage.activity_state import seconds_kept
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.maintenance import BesideMaintenance, StoredFeed, StoredFlat, TimelineMaintenance
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend, maintenance
from feedmill.worker.dead_letters import reason
from feedmill.worker.delivery import lock_timeout

S = TypeVar("S")
T = TypeVar("T")
#: Feeds that are read in one round trip.
BATCH = 200
#: Parts whose type is not asked for before they are read.
UNASKED = {KeyKind.RANKS, KeyKind.GROUPS, KeyKind.COUNT, KeyKind.LOCK, KeyKind.OTHER, KeyKind.FLAT, KeyKind.BODY}
#: A feed of groups, and those of its overflow that are suspected of something.
Suspected = tuple[KeyInfo, dict[bytes, str]]


class Examination:
    """One run. *seen* is told after each step how many keys were looked at, and about how many there are."""

    def __init__(self, *, fix: bool = False, seen: Callable[[int, int], None] = lambda done, total: None) -> None:
        #: Whether to fix, and whom to tell how far it is.
        self.fix, self.seen = fix, seen
        #: What was found so far.
        self.report = Report()
        #: What the keys are of.
        self.key_map = KeyMap()
        #: Names of the managers whose journal can be used.
        self.managers: list[str] = []
        #: What reads servers beside the backend that are not examined, or not any more; why was told.
        self._skipped: set[BesideMaintenance] = set()
        self._set_aside: set[str] = set()
        self._glances = Glances()
        self._bodies = KnownBodies()
        #: About how many keys there are.
        self._total = 0
        #: Whether bodies were forgotten.
        self._forgotten = False

    def run(self) -> Report:
        """Look at everything."""
        unsafe_server(self.fix, self.report.add)
        for finding in (*unsafe_broker(), *unnamed_servers(self.key_map.feed_classes)):
            self.report.add(finding, False)
        for finding in cassandra_schema():
            self.report.add(finding, False)
            self._skipped.update(backend().beside)
        self._guarded("the journal", self._journal)
        here = backend().maintenance
        maps = {place: KeyMap(place=place) for place in backend().beside}
        self._total = self._do(here.size())
        self._beside(self._expect)
        self._everything(pages(here), self.key_map)
        self._beside(lambda place: self._everything(self._pages_beside(place), maps[place]))
        if self._forgotten:  # feeds that were looked at before may hold what has no body now
            feeds, kinds = self.report.feeds, self.report.kinds.copy()
            self._feeds_again(pages(here), self.key_map)
            self._beside(lambda place: self._feeds_again(self._pages_beside(place), maps[place]))
            self.report.feeds, self.report.kinds = feeds, kinds
        return self.report

    def _expect(self, place: BesideMaintenance) -> None:
        """Expect as many keys more as *place* has; that it does not tell is no harm."""
        try:
            self._total += self._do(place.size())
        except StorageError as error:
            self._still_there(error)

    def _beside(self, examine: Callable[[BesideMaintenance], None]) -> None:
        """Look at what is on servers beside the backend. If one cannot be asked, this is told, and what is on it is left out."""
        for place in backend().beside:
            if place in self._skipped:
                continue
            try:
                examine(place)
            except StorageError as error:
                self._still_there()
                self._skipped.add(place)
                self.report.add(unreachable(place, error), False)

    def _everything(self, found: Iterable[Sequence[bytes]], key_map: KeyMap) -> None:
        for keys in found:
            known = {key: info for key in dict.fromkeys(keys) if (info := key_map.of(key)) is not None}
            self._page(known)
            self.report.keys += len(keys)
            self.report.unknown_keys += sum(key not in known and not is_brokers(key) for key in set(keys))
            self.seen(self.report.keys, max(self._total, self.report.keys))

    def _feeds_again(self, found: Iterable[Sequence[bytes]], key_map: KeyMap) -> None:
        for keys in found:
            known = {key: info for key in keys if (info := key_map.of(key)) is not None}
            self._page({key: info for key, info in known.items() if info.kind in (KeyKind.FLAT, KeyKind.GROUPS)})

    def _pages_beside(self, place: BesideMaintenance) -> Iterator[Sequence[bytes]]:
        """All our keys of servers that may fail at a part of what they hold: that is told, and left out."""
        cursor = None
        while cursor != 0:
            try:
                cursor, keys = self._do(place.scan(cursor or 0))
            except StorageError as error:
                self._still_there(error)
                cursor, is_left_out = place.beyond(cursor or 0)
                if is_left_out:
                    self._tell([_unread(f"a part of the feeds on {place.servers}", error)])
                continue
            yield keys

    def _journal(self) -> None:
        self.managers = [name for name in manager_names() if self._is_sound(wakeup_key(name), due_key(name))]
        due_without_record(self.managers, self._tell)
        overdue_fanouts(self.managers, self.fix, self.report.add)
        untold_hooks(self.managers, self.report.add)
        if self._is_sound(dead_letters_key()):
            self.report.dead_letters = damaged_dead_letters(self._tell)

    def _is_sound(self, *names: str) -> bool:
        """Whether each of these keys holds what it should or nothing, perhaps only now: of a wrong type, one stops others."""
        found = {name.encode(): info for name in names if (info := self.key_map.of(name.encode())) is not None}
        for key, held in self._types(list(found)):
            self._is_of_type(key, found[key], held)
        return all(held in (found[key].kind.type, "none") for key, held in self._types(list(found)))

    # -- one thing that cannot be read is a finding, and the others are read

    def _do(self, operation: Steps[T]) -> T:
        return backend().run(operation)

    def _still_there(self, error: Exception | None = None) -> None:
        """:class:`~feedmill.errors.StorageError` if a server is away: that is no finding about what was looked at, but the end of what
        is there. Servers beside the backend are asked where *error* says so: some do not answer about what they fail at.
        """
        for place in backend().beside if isinstance(error, StorageAway) else ():
            self._do(place.types([b"feedmill"]))
        self._do(backend().maintenance.types([b"feedmill"]))

    def _guarded(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception as error:
            self._still_there(error)
            self._tell([_unread(what, error)])

    def _each(
        self, items: Sequence[S], operation: Callable[[S], Steps[T]], name: Callable[[S], str]
    ) -> list[tuple[S, T]]:
        """What *operation* gives for each of *items*: in one go or, where that fails, one after the other."""
        try:
            return list(zip(items, self._do(together([operation(item) for item in items])))) if items else []
        except Exception as error:
            self._still_there(error)
        found = []
        for item in items:
            try:
                found.append((item, self._do(operation(item))))
            except Exception as error:
                self._still_there(error)
                self._tell([_unread(name(item), error)])
        return found

    def _tell(self, findings: Iterable[Finding], repair: Steps[Any] | None = None) -> bool:
        """Report *findings*, after *repair* if that is wanted; whether it was done."""
        findings, fixed = list(findings), False
        if not findings:
            return False
        self._set_aside.update(finding.where for finding in findings if finding.kind == "wrong type")
        if self.fix and repair is not None:
            try:
                self._do(repair)
                fixed = True
            except Exception as error:  # also an app's own aggregator may raise anything: that is about this one alone
                self._still_there(error)
                findings = [_unfixable(finding, error) for finding in findings]
        for finding in findings:
            self.report.add(finding, fixed and finding.fixable)
        return fixed

    # -- a page

    def _page(self, known: dict[bytes, KeyInfo]) -> None:
        """Look at what the keys of *known* belong to."""
        by_kind: dict[KeyKind, list[tuple[bytes, KeyInfo]]] = {part: [] for part in KeyKind}
        types = dict(self._types([key for key, info in known.items() if info.kind not in UNASKED]))
        #: Feeds of groups to look at, with those of their overflow that are suspected.
        feeds: dict[KeyInfo, dict[bytes, str]] = {}
        for key, info in known.items():
            if info.kind in UNASKED or self._is_of_type(key, info, types[key]):
                by_kind[info.kind].append((key, info))
            elif types[key] != "none" and info.kind is KeyKind.OVERFLOW:
                feeds[info.feed] = {}
        feeds.update((info, {}) for _, info in by_kind[KeyKind.GROUPS])
        self._without_hash(by_kind[KeyKind.RANKS] + by_kind[KeyKind.COUNT], feeds)
        self._overflows([info for _, info in by_kind[KeyKind.OVERFLOW]], feeds)
        held = [info for _, info in by_kind[KeyKind.LOCK]]
        self._beside(lambda place: self._locked(place, [info for info in held if place_of(info.feed_class) is place]))
        self.report.bodies += len(by_kind[KeyKind.BODY])
        self.report.kinds.update(info.feed_class for _, info in by_kind[KeyKind.FLAT])
        self.report.kinds.update(info.feed_class for info in feeds)
        for flats in batched(by_kind[KeyKind.FLAT], BATCH):
            self._flats(flats)
        for groups in batched(list(feeds.items()), BATCH):
            self._groups(groups)
        due = [(key, info.user_id) for key, info in by_kind[KeyKind.DUE]]
        fanout_records, chunks = (
            [info.user_id for _, info in by_kind[part]] for part in (KeyKind.FANOUT_RECORD, KeyKind.CHUNKS)
        )
        self._guarded("what is due", lambda: work_of_unknown_managers(due, self._tell))
        self._guarded("fan-out records", lambda: check_fanout_records(fanout_records, self.managers, self._tell))
        self._guarded("chunks", lambda: chunks_without_record(chunks, self._tell))
        self._guarded("bodies", lambda: self._look_at_bodies(by_kind[KeyKind.BODY]))

    def _types(self, keys: Sequence[bytes]) -> list[tuple[bytes, str]]:
        return list(zip(keys, self._do(backend().maintenance.types(keys)))) if keys else []

    def _is_of_type(self, key: bytes, info: KeyInfo, held: str) -> bool:
        """Whether *key* holds what it should; what it should not is reported, and nothing is neither."""
        if held == info.kind.type or held == "none":
            return held != "none"
        text = f"the key is a {held}, not a {info.kind.type} ({info.kind.value[1]}); --fix renames it"
        name = key.decode(errors="surrogateescape")
        if name not in self._set_aside:  # else told before, as nothing else of its manager could be looked at
            self._tell([Finding("wrong type", name, text)], backend().maintenance.set_aside(name, info.kind.type))
        return False

    def _without_hash(self, by_kind: Sequence[tuple[bytes, KeyInfo]], feeds: dict[KeyInfo, dict[bytes, str]]) -> None:
        """Feeds of which there is an entry or a count, but no records: they come up in no other way."""
        infos = dict.fromkeys(info.feed for _, info in by_kind)
        hashes = {(info.key + GROUPS).encode(): info for info in infos if info not in feeds}
        if hashes and self._do(backend().maintenance.number(list(hashes))) < len(hashes):
            feeds.update((hashes[key], {}) for key, held in self._types(list(hashes)) if held == "none")

    def _locked(self, place: TimelineMaintenance, infos: Sequence[KeyInfo]) -> None:
        """Feeds on other servers of which there is a lock or something among the pending writes here, but nothing that *place* reads:
        they come up in no other way.
        """
        for some in batched(infos, BATCH):
            keys = {(info.key + GROUPS).encode(): info.feed for info in some}
            types = self._do(place.types(list(keys)))
            self._groups([(info, {}) for info, held in zip(keys.values(), types) if held == "none"])

    def _overflows(self, infos: Sequence[KeyInfo], feeds: dict[KeyInfo, dict[bytes, str]]) -> None:
        """Overflow whose group does not say that it has one, and those that do not fit their group."""
        for info, flaw in self._each(list(batched(infos, BATCH)), suspicions, lambda batch: batch[0].key):
            for each, suspected in zip(info, flaw):
                if suspected is not None:
                    feeds.setdefault(each.feed, {})[each.group] = suspected

    def _flats(self, flats: Sequence[tuple[bytes, KeyInfo]]) -> None:
        found = self._stored_flats(flats)
        missing = dict(self._types([key for (key, _), stored in found if stored is None]))
        sound: list[tuple[KeyInfo, list[bytes]]] = []
        for (key, info), stored in found:
            if stored is None:
                self._is_of_type(key, info, missing[key])
                continue
            self.report.feeds += 1
            ids, most = newest_ids(stored), info.feed_class.max_length
            if ids is None:
                fixed = repaired_flat(stored.text)
                self._tell(damaged_flat(info.key, stored), _place(info).flat_put(info.key, stored, fixed))
                ids = cut(fixed)[::-1]
            if found_long := overlong(info.key, len(ids), most):
                timeline, channel = info.feed_class.timeline(), info.feed_class.channel()
                self._tell(found_long, timeline.flat_trim(info.key, most, channel=channel))
            sound.append((info, ids))
        self._look_for_bodies(sound)

    def _stored_flats(
        self, flats: Sequence[tuple[bytes, KeyInfo]]
    ) -> list[tuple[tuple[bytes, KeyInfo], StoredFlat | None]]:
        """The timelines at *flats*, all of them on the same servers, in one go or, where that fails, one after the other."""
        place = _place(flats[0][1])
        try:
            return list(zip(flats, self._do(place.flats([key for key, _ in flats]))))
        except Exception as error:
            self._still_there(error)
        each = self._each(flats, lambda flat: place.flats([flat[0]]), lambda flat: flat[1].key)
        return [(flat, stored) for flat, (stored,) in each]

    def _groups(self, feeds: Sequence[Suspected]) -> None:
        self.report.feeds += len(feeds)
        sound: list[tuple[KeyInfo, list[bytes]]] = []
        close: list[Suspected] = []
        repaired: list[Suspected] = []
        stored_feeds = self._each(feeds, _stored, lambda feed: feed[0].key)
        self._unlisted_overflows(stored_feeds)
        for (info, overflows), stored in stored_feeds:
            ids = None if overflows else self._glances.healthy(info.feed_class, stored)
            if ids is None:
                close.append((info, overflows))
            else:
                sound.append((info, ids))
        for (info, overflows), (case, findings) in self._each(
            close, lambda feed: diagnose(*feed), lambda feed: feed[0].key
        ):
            if self._tell(findings, repair(info, overflows)):
                repaired.append((info, {}))  # it may show what came with pending writes
            else:
                sound.append((info, case.shown_ids()[::-1]))
        for (info, _), (case, _) in self._each(repaired, lambda feed: diagnose(*feed), lambda feed: feed[0].key):
            sound.append((info, case.shown_ids()[::-1]))
        self._look_for_bodies([each for each in sound if each[0].feed_class.activity_storage_class is not None])

    def _unlisted_overflows(self, feeds: Sequence[tuple[Suspected, StoredFeed]]) -> None:
        """Suspect overflow of *feeds*, as they were read, where no scan gives it."""
        apart = [each for each in feeds if each[1].overflows and not _place(each[0][0]).lists_overflow]
        infos = [
            info._replace(kind=KeyKind.OVERFLOW, group=group)
            for (info, _), stored in apart
            for group in stored.overflows
        ]
        self._overflows(infos, {info: suspected for (info, suspected), _ in apart})

    def _look_for_bodies(self, held: Sequence[tuple[KeyInfo, list[bytes]]]) -> None:
        """Feeds, each with the ids that it holds, newest first, some of which may lead nowhere."""
        for info, missing in self._do(self._bodies.missing(held)):
            self._tell([missing], forget_members(info.feed_class, info.user_id, lock_timeout()))

    def _look_at_bodies(self, bodies: Sequence[tuple[bytes, KeyInfo]]) -> None:
        ids = [key[-ID_SIZE:] for key, _ in bodies]
        found, unread = self._do(damaged_bodies(self.key_map.feed_classes, ids)) if ids else ([], [])
        keys = {key[-ID_SIZE:]: (key, info) for key, info in bodies}
        for key, held in self._types([keys[raw_id][0] for raw_id in unread]):
            self._is_of_type(key, keys[key[-ID_SIZE:]][1], held)
        for raw_id, finding in found:
            self._tell([finding], self._forget_body(raw_id))
        if bodies and settings.current().activity_ttl:
            for key, finding in self._do(endless([key for key, _ in bodies])):
                end = seconds_kept(key[-ID_SIZE:], OPEN_TTL)
                self._tell([finding], backend().maintenance.forget(key, end))

    def _forget_body(self, raw_id: bytes) -> Steps[None]:
        self._forgotten = True
        self._bodies.forget(raw_id)
        for storage_class in {feed.activity_storage_class: feed for feed in self.key_map.feed_classes}.values():
            if storage_class.activity_storage_class is not None:
                yield from storage_class.activities().remove([raw_id])


def _place(info: KeyInfo) -> TimelineMaintenance:
    """What reads a feed."""
    return maintenance(info.feed_class.timeline())


def _stored(feed: Suspected) -> Steps[StoredFeed]:
    info, _ = feed
    return _place(info).feed(info.key, info.feed_class.count_key_of(info.user_id))


def _unread(what: str, error: Exception) -> Finding:
    return Finding("not examined", what, f"it cannot be read: {reason(error)}", fixable=False)


def _unfixable(finding: Finding, error: Exception) -> Finding:
    return Finding(finding.kind, finding.where, f"{finding.text}; repair failed: {reason(error)}", fixable=False)


def examine(*, fix: bool = False, seen: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Look at all that is stored and at the settings; with *fix*, fix what can be fixed."""
    return Examination(fix=fix, seen=seen).run()
