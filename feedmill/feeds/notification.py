"""The notification feed: an aggregated feed with seen and read state and counts that are always right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators import BaseAggregator, NotificationAggregator
from feedmill.errors import DeclarationError
from feedmill.feeds.aggregated import AggregatedFeed
from feedmill.feeds.flat import _after_of, _only, _pair
from feedmill.feeds.query import NOTIFICATION_FILTERS
from feedmill.feeds.reading import View
from feedmill.feeds.shown import Groups, Until, require_mark, shown_groups, shown_until
from feedmill.feeds.subscription import ASubscription, Subscription
from feedmill.feeds.watch import CountsTopic, Topic
from feedmill.grouping import aging
from feedmill.grouping.feed_state import MOST, Counts, count_message, event_prefix
from feedmill.grouping.operations import MarkOp, RecountOp, plan_groups
from feedmill.ids import Entity, EntityId, to_microseconds
from feedmill.keys import check_format, feed_key, feed_keys
from feedmill.records import NotificationSerializer
from feedmill.storage.operations import Steps
from feedmill.storage.sync_async import sync_and_async
from feedmill.validation import require_int


class NotificationFeed(AggregatedFeed):
    """Groups that tell a user what others did. The timeline holds everything; there is no activity storage.

    The unseen and unread counts are kept under ``count_key``, read in one command, and published on the feed's channel
    (:meth:`channel_of`) with a sequence number whenever they change.
    """

    key_format: ClassVar[str] = "notification_feed:1:user:%(user_id)s"
    #: The key of the denormalised counts: the text ``<unseen> <unread> <sequence number>``.
    count_format: ClassVar[str] = "notification_feed:1:user:%(user_id)s:count"
    #: What the lock is called; it lives in the feed's own hash, where taking it costs no extra command.
    lock_format: ClassVar[str] = "notification_feed:1:user:%s:lock"
    publish_changes: ClassVar[bool] = True
    max_length: ClassVar[int] = 99
    aggregator_class: ClassVar[type[BaseAggregator]] = NotificationAggregator
    activity_storage_class: ClassVar[Any] = None
    activity_serializer: ClassVar[Any] = None
    timeline_serializer: ClassVar[Any] = NotificationSerializer
    counted: ClassVar[bool] = True
    known_filters: ClassVar[tuple[str, ...]] = NOTIFICATION_FILTERS

    #: The key of the denormalised counts.
    count_key: str
    #: What the feed's lock is called in errors and logs.
    lock_key: str

    def __init__(self, user_id: Entity) -> None:
        super().__init__(user_id)
        self.__dict__.update(count_key=self.count_key_of(self.user_id), lock_key=self.lock_name(self.user_id))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.expires_idle():
            raise DeclarationError(
                f"{cls.__name__}.expire_idle is set, and notifications cannot be rebuilt: nobody knows who was notified; use"
                " max_age, after which they go"
            )
        check_format(cls, "count_format")
        check_format(cls, "lock_format", is_key=False)
        if not cls.publish_changes:
            raise DeclarationError(
                f"{cls.__name__}.publish_changes is False, but changes of counts are always published; drop it"
            )
        if cls.count_format == cls.key_format:
            raise DeclarationError(
                f"{cls.__name__}.count_format is its key_format, {cls.key_format!r}; give the count a key of its own, e.g."
                f" {cls.key_format + ':count'!r}"
            )

    @classmethod
    def count_key_of(cls, user_id: EntityId) -> str:
        """The key of *user_id*'s denormalised count."""
        return feed_key(cls.count_format, user_id)

    @classmethod
    def count_keys_of(cls, user_ids: Sequence[EntityId]) -> list[str]:
        """The keys of many users' denormalised counts."""
        return feed_keys(cls.count_format, user_ids)

    @classmethod
    def key_attributes(cls) -> dict[str, bool]:
        """The attributes that spell the feed's keys: the count has one of its own."""
        return {**super().key_attributes(), "count_format": False}

    # -- unseen and unread

    def unseen(self) -> View:
        """A view of the groups that were not seen since they last changed."""
        return self.filter(seen=False)

    def unread(self) -> View:
        """A view of the groups that were not read since they last changed."""
        return self.filter(read=False)

    # -- counts

    def _get_denormalized_count(self) -> Steps[int]:
        """The unseen count as it is kept, in one command."""
        return (yield from self._get_denormalized_counts()).unseen

    get_denormalized_count, aget_denormalized_count = sync_and_async(_get_denormalized_count)

    def _get_denormalized_counts(self) -> Steps[Counts]:
        """Unseen count, unread count, and the number of the latest publication, in one command."""
        if horizon := self.horizon():
            return (yield from aging.counts(type(self), self.key, self.count_key, horizon))
        return Counts(*(yield from self.timeline().count_get(self.key, self.count_key)))

    get_denormalized_counts, aget_denormalized_counts = sync_and_async(_get_denormalized_counts)

    def _given_or_all(self, groups: Iterable[AggregatedActivity] | None) -> Steps[Iterable[AggregatedActivity]]:
        return (yield from self._select(0, self.max_length)) if groups is None else groups

    def _count_unseen(self, aggregated_activities: Iterable[AggregatedActivity] | None = None) -> Steps[int]:
        """The unseen groups, counted: of *aggregated_activities*, or of the whole feed."""
        groups = yield from self._given_or_all(aggregated_activities)
        return sum(not group.is_seen for group in groups)

    count_unseen, acount_unseen = sync_and_async(_count_unseen)

    def _count_unread(self, aggregated_activities: Iterable[AggregatedActivity] | None = None) -> Steps[int]:
        """The unread groups, counted: of *aggregated_activities*, or of the whole feed."""
        groups = yield from self._given_or_all(aggregated_activities)
        return sum(not group.is_read for group in groups)

    count_unread, acount_unread = sync_and_async(_count_unread)

    def _denormalize_count(self) -> Steps[int]:
        """Recount, keep and publish (if it differs) the unseen and unread counts; the unseen one."""
        yield from self._apply([self.user_id], plan_groups(RecountOp()))
        return (yield from self._get_denormalized_count())

    denormalize_count, adenormalize_count = sync_and_async(_denormalize_count)

    def _set_denormalized_count(self, count: int) -> Steps[None]:
        """Set the kept unseen count to *count*, until the next change or recount; published if it differs."""
        op = RecountOp(unseen=require_int("count", count, 0, MOST))
        yield from self._apply([self.user_id], plan_groups(op))

    set_denormalized_count, aset_denormalized_count = sync_and_async(_set_denormalized_count)

    def _publish_count(self, count: int) -> Steps[None]:
        """Publish *count* as the unseen count, with the sequence number of the latest change."""
        _, unread, sequence = yield from self._get_denormalized_counts()
        message = count_message(
            event_prefix(self.key, self.user_id), require_int("count", count, 0, MOST), unread, sequence
        )
        yield from self._backend().pubsub.publish(self.channel_of(self.user_id), message.encode())

    publish_count, apublish_count = sync_and_async(_publish_count)

    def subscribe(self) -> Subscription[Counts]:  # type: ignore[override]  # counts say what is new, whatever is shown
        """The counts as they are now, then each change, as it is published: iterate it, and close it.

        A missed message is noticed by its number, a lost connection is made again, and then the kept count is told.
        """
        return Subscription(self._watch({self.user_id: None}, _only), self._backend())

    def asubscribe(self) -> ASubscription[Counts]:  # type: ignore[override]
        """:meth:`subscribe` for coroutines: ``async with feed.asubscribe() as counts: async for count in counts``."""
        return ASubscription(self._watch({self.user_id: None}, _only), self._backend())

    @classmethod
    def subscribe_many(cls, user_ids: Iterable[Entity]) -> Subscription[tuple[EntityId, Counts]]:  # type: ignore[override]
        """:meth:`subscribe` for the feeds of many users at once: pairs of a user id and their counts."""
        return Subscription(cls._watch(_after_of(cls, user_ids, None), _pair), cls._backend())

    @classmethod
    def asubscribe_many(cls, user_ids: Iterable[Entity]) -> ASubscription[tuple[EntityId, Counts]]:  # type: ignore[override]
        """:meth:`subscribe_many` for coroutines."""
        return ASubscription(cls._watch(_after_of(cls, user_ids, None), _pair), cls._backend())

    @classmethod
    def _topic(cls, user_id: EntityId, after: Any) -> Topic[Any]:
        return CountsTopic(cls(user_id))

    def _delete(self) -> Steps[None]:
        """Delete the feed; counts that were not 0 are published as 0, and those of a feed that begins anew follow on."""
        prefix = event_prefix(self.key, self.user_id)
        yield from self.timeline().groups_delete(self.key, self.count_key, self.channel(), prefix)

    @classmethod
    def erase(cls, user_id: EntityId) -> Steps[None]:
        """Delete a user's feed, and all that would tell of it: counts that were not 0 are published as 0, and begin anew."""
        key = cls.key_of(user_id)
        prefix = event_prefix(key, user_id)
        yield from cls.timeline().groups_delete(key, cls.count_key_of(user_id), cls.channel(), prefix, 0)

    # -- seen and read

    def _mark_all(self, seen: bool | None = True, read: bool | None = None, until: Until | None = None) -> Steps[None]:
        """Mark all groups as seen and/or read: True sets, False clears, None leaves as it is. The counts follow.

        *until*: a page or a group as it was read, or the ``revision`` of one: then groups in which something arrived later
        are left as they are. With a page that is what arrived in the feed since reading it began, wherever it stands, and
        whatever the page left out; of several pages pass the first. With a group it is what arrived after the newest arrival
        in that group; with a list of groups, after the newest of all, and with an empty one, anything. Without *until* all is
        marked that has arrived when the call is carried out.

        :class:`~feedmill.errors.RevisionError` for a text that is no revision, :class:`~feedmill.errors.ArgumentError` for
        what was not read from a notification feed.
        """
        op = MarkOp(None, require_mark("seen", seen), require_mark("read", read), _now(), shown_until(until))
        yield from self._marked(op)

    mark_all, amark_all = sync_and_async(_mark_all)

    def _mark(
        self, groups: Groups, seen: bool | None = True, read: bool | None = None, until: Until | None = None
    ) -> Steps[None]:
        """Mark single groups as seen and/or read: True sets, False clears, None leaves as it is. The counts follow.

        *groups*: a page, a group, or a list of groups, as they were read, or as their ``to_dict()`` came back. A group in
        which something arrived since is left as it is: what was not shown is not marked. A name, which says nothing of what
        was shown, stands for the group as it is by now, unless *until* says more: see :meth:`mark_all`. Groups that are no
        longer there are passed over. Errors as there.
        """
        chosen = shown_groups(groups)
        op = MarkOp(chosen, require_mark("seen", seen), require_mark("read", read), _now(), shown_until(until))
        if chosen:
            yield from self._marked(op)

    mark, amark = sync_and_async(_mark)

    def _marked(self, op: MarkOp) -> Steps[None]:
        if op.seen is not None or op.read is not None:
            yield from self._apply([self.user_id], plan_groups(op))


def _now() -> int:
    return to_microseconds(dt.datetime.now(dt.timezone.utc))
