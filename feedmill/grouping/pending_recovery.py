"""What was left in the inbox of a feed whose holder died: it is noted when it is left, and folded in when it is still there.

A holder that lives empties the inbox before it lets go. One that does its work for a receipt and dies is followed by another.
But a web process that dies, or a worker whose fan-out was called off meanwhile, is followed by nobody. And what a holder cannot
do, because its release is older or an aggregator fails, stays there for a process that can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from feedmill import settings
from feedmill.errors import CorruptRecord, StorageError
from feedmill.ids import EntityId, is_id
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

#: Seconds after the end of a dead holder's lock until its feed is looked at.
MARGIN = 1.0
#: Feeds of a kind that are looked at in one go.
AT_ONCE = 500


def note(feed_class: Any, user_ids: Sequence[EntityId], *, sooner: bool = False) -> Steps[None]:
    """Work was left to the holders of these users' feeds; look whether they did it when their locks are over.

    With *sooner* nothing is put off that is to be looked at already: nobody holds them.
    """
    seconds = settings.current().lock_ttl + MARGIN
    yield from backend().auxiliary.pending_index.schedule(
        feed_class.key_format, [pack(user_id) for user_id in user_ids], seconds, sooner=sooner
    )


def fold_in(feed_class: Any, fold: Callable[[EntityId], Steps[Sequence[Any]]]) -> Steps[int]:
    """*fold* each feed of this kind whose inbox was left behind; how many inboxes that emptied.

    One that fails is looked at again later, and so is one in which *fold* left something.
    """
    noted, folded = backend().auxiliary.pending_index, 0
    while due := (yield from noted.due(feed_class.key_format, AT_ONCE)):
        owners = [(each, user_id) for each in due if (user_id := _owner(each[0])) is not None]
        full = yield from noted.has_pending(feed_class.keys_of([user_id for _, user_id in owners]))
        later = []
        for (each, user_id), holds in zip(owners, full):
            if holds:
                try:
                    if (yield from fold(user_id)):
                        later.append(each)
                    else:
                        folded += 1
                except StorageError:
                    raise
                except Exception as error:  # an app's own aggregator may raise anything: that is about this feed alone
                    logger.warning("what was left to the holder of a feed of %s waits: %s", user_id, error)
                    later.append(each)
        yield from noted.settle(feed_class.key_format, later, settings.current().lock_ttl)
        yield from noted.settle(feed_class.key_format, [each for each in due if each not in later], None)
        if len(due) < AT_ONCE:
            break
    return folded


def _owner(noted: bytes) -> EntityId | None:
    """Whose feed it is; None for bytes that say nothing, which are forgotten."""
    try:
        user_id: EntityId = unpack(noted)
    except CorruptRecord:
        return None
    return user_id if is_id(user_id) else None
