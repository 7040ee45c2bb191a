"""Chunks as the journal keeps them: whom each is for. A message names its chunk, and whoever does it reads that."""

from __future__ import annotations

import itertools
import operator
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from feedmill.errors import MessageError
from feedmill.fanout.operations import ADD, CHUNKED, TOGETHER, FanoutOperation, operation_called
from feedmill.ids import MAX_INT, MIN_INT, EntityId, are_ints
from feedmill.manager import Priority
from feedmill.msgpack_codec import pack
from feedmill.worker.delivery import AUDIENCES, ids_of, unpacked

#: How ids are kept: as a list; as the first one and then the differences; or as a compressed list.
PLAIN, DIFFERENCES, COMPRESSED = "plain", "differences", "compressed"
#: Bytes that the ids of one chunk have at most when they are decompressed.
MOST_BYTES = 64 * 2**20


class PlannedChunk(NamedTuple):
    """One chunk of a fan-out."""

    audience: str
    queue: str
    #: How many people.
    people: int
    #: How their ids are kept, and these.
    encoding: str
    ids: bytes

    @property
    def user_ids(self) -> list[EntityId]:
        """Its people; :class:`~feedmill.errors.MessageError` where they cannot be read."""
        if self.encoding == DIFFERENCES:
            steps = unpacked(self.ids, "user ids")
            if not are_ints(steps):
                raise MessageError("the differences of a chunk's user ids in the journal are no numbers")
            numbers = list(itertools.accumulate(steps))
            if numbers and not MIN_INT <= min(numbers) <= max(numbers) <= MAX_INT:
                raise MessageError("the differences of a chunk's user ids in the journal come to no ids")
            return numbers
        if self.encoding == COMPRESSED:
            try:
                reader = zlib.decompressobj()
                data = reader.decompress(self.ids, MOST_BYTES)
            except zlib.error as error:
                raise MessageError(f"a chunk's user ids in the journal cannot be read: {error}") from error
            if not reader.eof:
                raise MessageError("a chunk's user ids in the journal are cut short, or too many")
            return ids_of(data, "user ids")
        if self.encoding != PLAIN:
            raise MessageError(
                f"a chunk's user ids in the journal are kept as {self.encoding[:80]!r}, which this release does not know"
            )
        return ids_of(self.ids, "user ids")


def planned_chunk(audience: str, priority: Priority, ids: Sequence[EntityId]) -> PlannedChunk:
    """The chunk of *ids*, in as few bytes as are had in a few microseconds.

    Numbers are sorted and their differences kept, mostly a byte or two each; a list of texts or UUIDs is compressed, if that helps.
    """
    encoding, data = PLAIN, b""
    if are_ints(ids):
        ordered: list[Any] = sorted(ids)
        steps = [*ordered[:1], *map(operator.sub, ordered[1:], ordered)]
        if max(steps[1:], default=0) < 2**63:
            encoding, data = DIFFERENCES, pack(steps)
    if not data:
        data = pack(list(ids))
        shorter = zlib.compress(data, 1)
        if len(shorter) < 0.9 * len(data):
            encoding, data = COMPRESSED, shorter
    return PlannedChunk(audience, priority.queue, len(ids), encoding, data)


class NamedChunk(NamedTuple):
    """A chunk as messages name it."""

    #: What the fan-out is about.
    body: bytes
    #: The fan-out, and the number of its plan.
    fanout_id: str
    generation: int
    #: The chunk's number in that.
    chunk: int


def message_of(manager: str, op: FanoutOperation, named: Sequence[NamedChunk]) -> list[Any]:
    """The arguments of the message of *named* chunks: of one, or of several that are for the same people."""
    first, *others = named
    if not others:
        return [manager, op.name, *first]
    return [manager, TOGETHER, pack([first.body, *map(list, others)]), *first[1:]]


def read_message(op: str, named: NamedChunk) -> tuple[FanoutOperation, list[NamedChunk]]:
    """The kind of fan-out, and the chunks, that a message names, whose own arguments *op* and *named* are.

    :class:`~feedmill.errors.MessageError` if they are not what :func:`message_of` made, :class:`~feedmill.errors.UnknownName` for a
    kind that this release does not know.
    """
    if op != TOGETHER:
        return operation_called(op, CHUNKED), [named]
    body, *others = unpacked(named.body, "chunks") or [None]
    kinds = [bytes, str, int, int]
    if not isinstance(body, bytes) or any(
        not isinstance(each, list) or list(map(type, each)) != kinds for each in others
    ):
        raise MessageError(
            "the message's chunks are not an activity and lists of activity, fan-out, number of its plan and chunk"
        )
    return ADD, [named._replace(body=body), *(NamedChunk(*each) for each in others)]


def fanouts_of(arguments: Sequence[Any], place: int) -> list[tuple[str, int]]:
    """The fan-outs that the message with these *arguments* is about, each with the number of its plan; the first of them is at *place*."""
    if arguments[1] != TOGETHER:
        return [(arguments[place], arguments[place + 1])]
    _, named = read_message(TOGETHER, NamedChunk(*arguments[place - 1 :]))
    return [(each.fanout_id, each.generation) for each in named]


def read_chunk(data: bytes) -> PlannedChunk:
    """A chunk of which the journal holds *data*; :class:`~feedmill.errors.MessageError` if that is none."""
    values = unpacked(data, "chunk")
    if len(values) != 5 or list(map(type, values)) != [str, str, int, str, bytes]:
        raise MessageError("a chunk in the journal is not what was written")
    chunk = PlannedChunk(*values)
    if chunk.audience not in AUDIENCES or chunk.queue not in [each.queue for each in Priority]:
        raise MessageError(
            f"a chunk in the journal is for {chunk.audience[:80]} by {chunk.queue[:80]}: there are none such"
        )
    return chunk
