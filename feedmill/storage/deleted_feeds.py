"""What stays for a while of a feed with counts that was deleted: so whoever writes to it goes on from its numbers."""

from __future__ import annotations

#: Bytes of the state of a feed with counts; ``feedmill.grouping.feed_state`` says what they are.
STATE_SIZE = 56


def state_of_deleted(state: bytes, sequence: int) -> bytes:
    """The state that stays of a feed with *state*: the number of its latest touch, and *sequence*, that of its last count."""
    return bytes(24) + _latest_touch(state) + bytes(16) + sequence.to_bytes(8, "big")


def _latest_touch(state: bytes) -> bytes:
    """The number of the latest touch in a feed's state, also in that of a feed that was deleted."""
    if len(state) != STATE_SIZE:
        return bytes(8)
    return state[:8] if any(state[:8]) else state[24:32]
