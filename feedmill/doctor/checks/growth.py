"""What grows, and what bounds it: activities and feeds, which are nearly all that is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from feedmill import settings
from feedmill.doctor.report import Finding
from feedmill.lifetimes import spelled
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend


def growing(bodies: int, feeds: Mapping[Any, int]) -> Iterator[str]:
    """A line about *bodies*, so many activities, and one about each class of *feeds*, of which there are so many."""
    if kept := settings.current().activity_lifetime:
        yield f"bounded: activities: {bodies:,}, kept for {spelled(kept)}"
    else:
        yield f"grows: activities: {bodies:,}, kept until they are removed; FEEDMILL_ACTIVITY_TTL sets an end"
    for feed_class, number in sorted(feeds.items(), key=lambda item: item[0].__name__):
        items = "groups" if feed_class.grouped else "entries"
        text = f"feeds of {feed_class.__name__}: {number:,}, each of {feed_class.max_length:,} {items} at most"
        bounds = [f", none older than {spelled(kept)}" for kept in [feed_class.lifetime()] if kept]
        bounds += [
            f", gone after {spelled(idle * 1_000_000)} without use" for idle in [feed_class.expires_idle()] if idle
        ]
        if bounds:
            yield f"bounded: {text}{''.join(bounds)}"
        else:
            yield f"grows: {text}, of any age, though nobody reads or writes it; max_age or expire_idle sets an end"


def endless(keys: Sequence[bytes]) -> Steps[list[tuple[bytes, Finding]]]:
    """Those of *keys*, of bodies, that would be kept for ever though ``FEEDMILL_ACTIVITY_TTL`` is set: they were written before."""
    ends = yield from backend().maintenance.expires(keys)
    text = "it was written before FEEDMILL_ACTIVITY_TTL was set and is kept for ever; --fix sets its end"
    found = [key for key, has_end in zip(keys, ends) if not has_end]
    return [(key, Finding("body without end", f"activity {key[-16:].hex()}", text)) for key in found]
