"""Malformed inputs, made from well-formed ones: the same for the same seed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

#: Bytes that mean something to msgpack, to records or to text: lengths, headers, ends.
TELLING = bytes((0, 1, 2, 4, 8, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xC0, 0xC1, 0xC4, 0xC6, 0xC7, 0xC9, 0xCB, 0xCF))
TELLING += bytes((0xD3, 0xD6, 0xD8, 0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFF, 0x0A, 0x0D, 0x22, 0x2C, 0x7B, 0x7D))


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of *samples* with bits flipped, bytes changed, cut, repeated, moved in from another, or nothing but noise."""
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        kind = rng.randrange(8)
        at = rng.randrange(len(data) + 1)
        if kind == 0 and data:
            data[at - 1] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at - 1] = rng.choice(TELLING)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            data[at:at] = bytes(rng.choice(TELLING) for _ in range(rng.randrange(1, 9)))
        elif kind == 5:
            other = rng.choice(samples)
            start = rng.randrange(len(other) + 1)
            data[at:] = other[start:]
        elif kind == 6:
            data[at:at] = bytes((rng.choice((0x91, 0x81, 0xDD, 0xDC)),)) * rng.choice((3, 40, 2000))
        else:
            data = bytearray(rng.randbytes(rng.randrange(40)))
    return bytes(data)


def confused(rng: random.Random, value: Any, samples: Sequence[bytes]) -> Any:
    """A value of another kind, or another value of the same."""
    kinds: list[Any] = [
        *(
            None,
            True,
            0,
            -1,
            2**63,
            2**64 - 1,
            1.5,
            float("nan"),
            "",
            "x" * 300,
            "\0",
            "{}",
            b"",
            b"\xc1",
            [],
            {},
            [[]],
        ),
        *(
            [value],
            {"a": value},
            uuid.UUID(int=5),
            mutated(rng, samples),
            str(value)[:50],
            "followers",
            "add",
            "remove",
        ),
    ]
    return rng.choice(kinds)
