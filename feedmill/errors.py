"""All errors that Feedmill raises. Each message names the wrong value and says what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FeedmillError(Exception):
    """Base class of all errors that Feedmill raises."""


class ActivityError(FeedmillError, ValueError):
    """An activity is invalid. Nothing was written."""


class BatchError(ActivityError):
    """Some activities of a batch were refused. All others were accepted."""

    def __init__(
        self, refused: Sequence[tuple[int, Any, str]], total: int, fanouts: Any, done: str = "accepted"
    ) -> None:
        #: Refused activities: (position in the batch, beginning with 0; the item; the reason).
        self.refused = list(refused)
        #: The fan-outs of the accepted activities: :class:`~feedmill.fanout.Fanouts`.
        self.fanouts = fanouts
        #: How many activities the batch had.
        self.total = total
        self._done = done
        first = "; ".join(f"number {place}: {reason}" for place, _, reason in self.refused[:3])
        more = f"; and {len(self.refused) - 3} more, see its `refused`" if len(self.refused) > 3 else ""
        what = f"{len(self.refused)} of {total} activities were refused, the others were {done}"
        if len(self.refused) == total:
            what = "the only activity was refused" if total == 1 else f"all {total} activities were refused"
        super().__init__(f"{what}: {first}{more}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.refused, self.total, self.fanouts, self._done)


class UnknownActivity(FeedmillError, LookupError):
    """The activity was never added, or was removed."""


class ArgumentError(FeedmillError, ValueError):
    """An argument of a method is invalid. Nothing was written."""


class UnknownVerb(ActivityError):
    """The verb is not registered in this process."""


class VerbError(FeedmillError, ValueError):
    """The verb cannot be registered: an attribute is missing or invalid, or its id is in use."""


class DeclarationError(FeedmillError, TypeError):
    """A feed, aggregator or manager class has an invalid attribute or method, or a method returned an invalid value."""


class MissingMethod(DeclarationError, NotImplementedError):
    """A class lacks a method that the app must define."""


class UnknownName(FeedmillError, LookupError):
    """No manager or feed is registered under the name."""


class FeedIndexError(FeedmillError, IndexError):
    """The index or slice of a feed is invalid."""


class FilterError(FeedmillError, ValueError):
    """A filter or an order of a feed is unknown, or its value is invalid."""


class CursorError(FeedmillError, ValueError):
    """The cursor was not made by this kind of feed, or was changed."""


class RevisionError(FeedmillError, ValueError):
    """Something was to be marked up to a revision that no group and no page has; nothing was marked."""


class SettingsError(FeedmillError, ValueError):
    """A setting is unknown, or its value is invalid."""


class StorageError(FeedmillError):
    """The storage could not be reached, or refused a command."""


class StorageAway(StorageError):
    """The servers of feeds that are stored apart cannot be reached, or too few of them. What was accepted is done when they are back."""


class WrongType(StorageError):
    """A key holds another Redis type than expected. Other keys are not affected."""


class CorruptRecord(FeedmillError, ValueError):
    """Stored bytes cannot be decoded."""


class NewerRecord(CorruptRecord):
    """Stored bytes have a layout that only a newer release can read. They are not changed."""


class MessageError(FeedmillError, ValueError):
    """A task message is malformed. The worker did nothing with it."""


class FeedBusy(FeedmillError):
    """A feed stayed locked by another writer for longer than the caller waits."""


#: Errors of work that another worker may be able to do, because it runs another release: the work is left to others.
RETRY_ELSEWHERE = (UnknownName, UnknownVerb, NewerRecord)
