"""The header of a feed of groups: what is known of the feed as a whole."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from feedmill.errors import CorruptRecord
from feedmill.storage.base import StoredCounts

#: Score and length of the name of a group, which follows.
_RANK = struct.Struct(">dH")
#: Order and name of a group: by score, then by name.
Rank = tuple[float, bytes]


class Header(NamedTuple):
    """As one commit left it."""

    #: Another after each commit; None for a feed that is not there.
    version: bytes | None = None
    state: bytes = b""
    #: All groups, the lowest score first.
    ranks: tuple[Rank, ...] = ()
    #: None where there never was a count.
    counts: StoredCounts | None = None

    @classmethod
    def read(cls, key: str, columns: Sequence[Any]) -> Header:
        """From the columns of its row."""
        version, state, ranks, unseen, unread, seq = columns
        counts = None if seq is None else StoredCounts(unseen or 0, unread or 0, seq)
        return cls(version, state or b"", _unpacked(key, ranks or b""), counts)

    def columns(self) -> tuple[Any, ...]:
        """As they are written, behind the version."""
        return (self.state, _packed(self.ranks), *(self.counts or (None, None, None)))

    def lowest(self, number: int) -> tuple[Rank, ...]:
        """The *number* groups of the lowest score."""
        return self.ranks[: max(0, number)]

    def below(self, score: float) -> int:
        """How many groups have a lower score."""
        return bisect.bisect_left(self.ranks, (score, b""))

    def changed(self, put: Iterable[tuple[bytes, bytes, float]], delete: Iterable[bytes]) -> tuple[Rank, ...]:
        """The ranks after a commit."""
        scores = {name: score for score, name in self.ranks}
        scores.update((name, float(score)) for name, _, score in put)
        for name in delete:
            scores.pop(name, None)
        return tuple(sorted((score, name) for name, score in scores.items()))


def _packed(ranks: Iterable[Rank]) -> bytes:
    return b"".join(_RANK.pack(score, len(name)) + name for score, name in ranks)


def _unpacked(key: str, data: bytes) -> tuple[Rank, ...]:
    found, place = [], 0
    while place < len(data):
        if len(data) < place + _RANK.size:
            raise CorruptRecord(f"the ranks of {key} on Cassandra end in the middle of one")
        score, length = _RANK.unpack_from(data, place)
        place += _RANK.size
        found.append((score, data[place : place + length]))
        place += length
    return tuple(found)
