"""Chunks in the journal: whatever ids they are of come back, in few bytes; what is damaged is refused in words."""

from __future__ import annotations

import random
import uuid
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill.errors import MessageError
from feedmill.manager import Priority
from feedmill.msgpack_codec import pack
from feedmill.worker.planned_chunks import COMPRESSED, DIFFERENCES, PLAIN, planned_chunk, read_chunk

INTS = st.integers(-(2**63), 2**64 - 1)
IDS = st.one_of(INTS, st.text(min_size=1, max_size=20), st.uuids())


@given(st.one_of(st.lists(INTS, min_size=1), st.lists(IDS, min_size=1)), st.sampled_from(list(Priority)))
def test_what_is_written_is_read(ids: list[Any], priority: Priority) -> None:
    """All people, whatever their ids are, in whatever order; numbers may come sorted."""
    chunk = read_chunk(pack(planned_chunk("followers", priority, ids)))
    assert (chunk.audience, chunk.queue, chunk.people) == ("followers", priority.queue, len(ids))
    assert sorted(map(repr, chunk.user_ids)) == sorted(map(repr, ids))


@pytest.mark.parametrize(
    ("ids", "encoding", "most"),
    [
        (range(10**6, 10**6 + 500), DIFFERENCES, 0.25),
        (random.Random(1).sample(range(10**6), 500), DIFFERENCES, 0.65),
        ([f"user-{number}" for number in range(500)], COMPRESSED, 0.3),
        ([uuid.UUID(int=random.Random(number).getrandbits(128)) for number in range(500)], PLAIN, 1.01),
    ],
    ids=["in a row", "at random", "texts", "UUIDs"],
)
def test_bytes(ids: Any, encoding: str, most: float) -> None:
    """How many bytes the ids of a chunk are, beside those of a packed list."""
    chunk = planned_chunk("followers", Priority.HIGH, list(ids))
    assert chunk.encoding == encoding and len(chunk.ids) <= most * len(pack(list(ids)))


@pytest.mark.parametrize(
    ("encoding", "ids", "why"),
    [
        (DIFFERENCES, pack([1, "2"]), "are no numbers"),
        (DIFFERENCES, pack([1, True]), "are no numbers"),
        (DIFFERENCES, pack([2**63, 2**63]), "come to no ids"),
        (DIFFERENCES, b"\xc1", "user ids cannot be read"),
        (COMPRESSED, b"no", "user ids in the journal cannot be read"),
        (COMPRESSED, zlib.compress(pack([1] * 99))[:-5], "cut short, or too many"),
        (COMPRESSED, zlib.compress(bytes(2**27)), "cut short, or too many"),
        (PLAIN, pack([None]), "which is no id"),
        ("else", pack([1]), "kept as 'else'"),
    ],
)
def test_damage(encoding: str, ids: bytes, why: str) -> None:
    """What cannot be read, or would be huge, is refused, and says what it is."""
    with pytest.raises(MessageError, match=why):
        _ = read_chunk(pack(["followers", "fanout.high", 1, encoding, ids])).user_ids


@pytest.mark.parametrize("data", [b"", b"\xc1", pack(5), pack(["followers", "fanout.high", 1, b""])])
def test_no_chunk(data: bytes) -> None:
    """What is no chunk at all is refused."""
    with pytest.raises(MessageError, match="chunk"):
        read_chunk(data)
