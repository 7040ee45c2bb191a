"""The index of a manager's activities: which are about an object, and which an actor did.

It is made of a fixed number of lists, the *buckets*. Which one an activity is in is told by hashes of its object and of its
actor, so that one entry is found by either: an object is in four buckets, an actor in sixteen. An entry, which tells of object and target one
byte of a hash each, is one of::

    object byte, id without its first byte                  16 bytes
    object byte, id without its first byte, target byte     17 bytes, if there is a target
    object byte, target byte, id                            18 bytes, if the first byte of the id is not ERA

What it finds are candidates: the bodies decide. An activity is known as long as its body is kept. An entry may be there twice, and
those whose body is gone are dropped by and by (:func:`clean`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

from feedmill.activity import Activity
from feedmill.ids import ACTOR_SLICE, ID_SIZE, EntityId, actor_hashes
from feedmill.iteration import batched
from feedmill.manager import activity_bodies
from feedmill.manager.hooks import ManagerHooks
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

#: Into how many parts objects, and actors, are divided. To change them makes an index of another kind.
OBJECTS, ACTORS = 16, 4
BUCKETS = OBJECTS * ACTORS
#: The first byte of ids of what happens between May 2023 and May 2032: seven bytes of microseconds.
ERA = 6
#: Buckets that are read in one round trip.
AT_ONCE = 8
#: Entries that are looked at in one go when an index is cleaned.
CLEANED_AT_ONCE = 500

#: Whether an entry may be one that is looked for.
Matches = Callable[[bytes], bool]


def _hash(thing: EntityId | None) -> bytes:
    """Two bytes for an object or a target: 5 and "5" are one."""
    return blake2b(b"" if thing is None else str(thing).encode(), digest_size=2).digest()


def _bucket(part: int, actor: bytes) -> int:
    return part * ACTORS + (actor[0] >> 6)


def entry_of(activity: Activity) -> tuple[int, bytes]:
    """The bucket of an activity, and its entry."""
    raw_id, about = activity.raw_id, _hash(activity.object_id)
    bucket = _bucket(about[0] >> 4, raw_id[ACTOR_SLICE])
    if raw_id[0] != ERA:
        return bucket, about[1:] + _hash(activity.target_id)[1:] + raw_id
    target = b"" if activity.target_id is None else _hash(activity.target_id)[1:]
    return bucket, about[1:] + raw_id[1:] + target


def id_of(entry: bytes) -> bytes:
    """The id of the activity that *entry* is about."""
    return entry[2:] if len(entry) > ID_SIZE + 1 else bytes((ERA,)) + entry[1:ID_SIZE]


def _target_of(entry: bytes) -> int:
    """The byte of the target; -1 if there is none."""
    return entry[1] if len(entry) > ID_SIZE + 1 else entry[ID_SIZE] if len(entry) > ID_SIZE else -1


def added(manager: ManagerHooks, activities: Iterable[Activity]) -> list[Steps[None]]:
    """The operations that put *activities* into the index, one command for each bucket; none where there is no index."""
    if not manager.removal_index:
        return []
    entries: dict[int, list[bytes]] = {}
    for activity in activities:
        bucket, entry = entry_of(activity)
        entries.setdefault(bucket, []).append(entry)
    return [backend().auxiliary.removal_index.add(manager.name, entries)]


def about(manager: ManagerHooks, object_id: EntityId, as_target: bool) -> Iterator[Steps[set[bytes]]]:
    """The ids of what may be about an object, or *as_target* may have it as its target: some buckets after the other."""
    first, byte = _hash(object_id)
    part = first >> 4

    def is_object(entry: bytes) -> bool:
        return entry[0] == byte

    def is_either(entry: bytes) -> bool:
        return entry[0] == byte or _target_of(entry) == byte

    buckets = range(BUCKETS) if as_target else range(part * ACTORS, (part + 1) * ACTORS)
    return _found(manager, buckets, is_either if as_target else is_object)


def by_actor(manager: ManagerHooks, actor_id: EntityId) -> Iterator[Steps[set[bytes]]]:
    """The ids of what may be by an actor, a bucket after the other."""
    hashes = actor_hashes(actor_id)

    def is_by(entry: bytes) -> bool:
        return id_of(entry)[ACTOR_SLICE] in hashes

    return _found(manager, sorted({_bucket(part, actor) for part in range(OBJECTS) for actor in hashes}), is_by)


def _found(manager: ManagerHooks, buckets: Sequence[int], matches: Matches) -> Iterator[Steps[set[bytes]]]:
    return (_some(manager, some, matches) for some in batched(buckets, AT_ONCE))


def _some(manager: ManagerHooks, buckets: Sequence[int], matches: Matches) -> Steps[set[bytes]]:
    found = yield from backend().auxiliary.removal_index.entries(manager.name, buckets)
    return {id_of(entry) for entries in found for entry in entries if len(entry) >= ID_SIZE and matches(entry)}


def clean(manager: ManagerHooks) -> Steps[int]:
    """Look at the oldest entries of some bucket: those whose body is gone are dropped, the others go behind the newest. How many went."""
    index, bucket = backend().auxiliary.removal_index, random.randrange(BUCKETS)
    (oldest,) = yield from index.entries(manager.name, [bucket], CLEANED_AT_ONCE)
    if not oldest:
        return 0
    kept = yield from _kept(manager, [each for each in dict.fromkeys(oldest) if len(each) >= ID_SIZE])
    done = yield from index.turn(manager.name, bucket, oldest, kept)
    return len(oldest) - len(kept) if done else 0


def _kept(manager: ManagerHooks, entries: Sequence[bytes]) -> Steps[list[bytes]]:
    values = yield from activity_bodies.values(manager, [id_of(entry) for entry in entries])
    return [entry for entry, value in zip(entries, values) if value is not None]
