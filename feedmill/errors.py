"""Every error Feedmill raises. Each names the thing that is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FeedmillError(Exception):
    """Base of every error that Feedmill raises itself."""


class ActivityError(FeedmillError, ValueError):
    """An activity cannot be accepted as it is; nothing was written."""


class BatchError(ActivityError):
    """Some activities of a batch were refused; all others were accepted."""

    def __init__(
        self, refused: Sequence[tuple[int, Any, str]], total: int, fanouts: Any, done: str = "accepted"
    ) -> None:
        #: (place in the batch, the item, the reason) of each that was refused.
        self.refused = list(refused)
        #: Watches those that were accepted: :class:`~feedmill.fanout.Fanouts`.
        self.fanouts = fanouts
        first = "; ".join(f"number {place}: {reason}" for place, _, reason in self.refused[:3])
        more = f"; and {len(self.refused) - 3} more, see its `refused`" if len(self.refused) > 3 else ""
        what = f"{len(self.refused)} of {total} activities were refused, the others were {done}"
        if len(self.refused) == total:
            what = "the only activity was refused" if total == 1 else f"all {total} activities were refused"
        super().__init__(f"{what}: {first}{more}")


class UnknownActivity(FeedmillError, LookupError):
    """An activity was asked for that was never added, or was removed."""


class ArgumentError(FeedmillError, ValueError):
    """A method was called with an argument that makes no sense; nothing was written."""


class UnknownVerb(ActivityError):
    """A verb was used that was never registered."""


class VerbError(FeedmillError, ValueError):
    """A verb cannot be registered as it is."""


class DeclarationError(FeedmillError, TypeError):
    """A feed, aggregator or manager class is declared wrongly."""


class MissingMethod(DeclarationError, NotImplementedError):
    """A class lacks a method that its user must write."""


class UnknownName(FeedmillError, LookupError):
    """A manager or feed was asked for by a name that nobody registered."""


class FeedIndexError(FeedmillError, IndexError):
    """A feed was asked for a slice or an item that cannot exist."""


class FilterError(FeedmillError, ValueError):
    """A feed was filtered or ordered by something that it does not know, or by a value that makes no sense."""


class CursorError(FeedmillError, ValueError):
    """A page was asked for with a cursor that this kind of feed did not make."""


class RevisionError(FeedmillError, ValueError):
    """Something was to be marked up to a revision that no group and no page has; nothing was marked."""


class SettingsError(FeedmillError, ValueError):
    """A setting does not exist or makes no sense."""


class StorageError(FeedmillError):
    """The storage could not be reached or refused a command."""


class WrongType(StorageError):
    """A key holds something else than what belongs there; what is kept elsewhere can be used."""


class CorruptRecord(FeedmillError, ValueError):
    """Stored bytes cannot be decoded."""


class NewerRecord(CorruptRecord):
    """Stored bytes are written in a way that only a newer release knows; they stay as they are."""


class MessageError(FeedmillError, ValueError):
    """A task message is malformed; the worker did nothing with it."""


class FeedBusy(FeedmillError):
    """A feed stayed locked by another writer for longer than the caller wanted to wait."""


#: What another worker may be able to do, because releases roll: it is left to others, and no fault of what was asked for.
RETRY_ELSEWHERE = (UnknownName, UnknownVerb, NewerRecord)
