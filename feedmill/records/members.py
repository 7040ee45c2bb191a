"""What a group holds: its members."""

from __future__ import annotations

from feedmill.ids import id_microseconds


class Member:
    """One activity inside a group."""

    __slots__ = ("actor", "body", "raw_id")

    raw_id: bytes
    #: Tells actors apart; a field of the spill.
    actor: bytes
    #: The activity itself where the timeline holds everything, else empty.
    body: bytes

    def __init__(self, raw_id: bytes, actor: bytes, body: bytes = b"") -> None:
        self.raw_id, self.actor, self.body = raw_id, actor, body

    @property
    def microseconds(self) -> int:
        """When it happened."""
        return id_microseconds(self.raw_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and self.raw_id == other.raw_id

    def __lt__(self, other: Member) -> bool:
        return self.raw_id < other.raw_id

    def __hash__(self) -> int:
        return hash(self.raw_id)
