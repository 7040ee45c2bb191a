"""Activities and groups as sentences in the reader's language: as text, and as HTML with links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import npgettext, pgettext

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import ArgumentError, DeclarationError
from feedmill.ids import ID_TYPES, split
from feedmill.validation import require_int

#: How many actors, and how many objects, are named; of one more than these that one is named as well, instead of "1 other".
NAMED = 2

Item = Activity | AggregatedActivity


def as_text(item: Item, names: int = NAMED) -> str:
    """*item* as a sentence of plain text, for e-mail and push; nothing is escaped.

    It is ``sentence`` of the verb, ``"%(actors)s loved %(objects)s"`` for example, filled in with: ``actors`` and ``objects``, of whom
    at most *names* are named and the others counted; ``actor``, ``object`` and ``target`` of the newest activity; ``actor_count``,
    ``object_count`` and ``activity_count``, which choose the plural of ``ngettext_lazy(…, …, "actor_count")``. Objects are counted
    among those that a group holds. Empty for a group that shows nothing. Hydrate the page first, else ids stand for names.
    """
    return str(_filled(item, names, name_of, "".join))


def as_html(item: Item, names: int = NAMED) -> SafeString:
    """The same as HTML: names are escaped, and links where an instance has ``get_absolute_url``.

    The sentence of the verb is HTML, as what stands in a template is.
    """
    return mark_safe(_filled(item, names, link_to, _joined))  # noqa: S308  # names are escaped; the sentence is the app's


def name_of(value: Any) -> str:
    """What an instance calls itself, and of an id the key."""
    return str(split(value).key if isinstance(value, ID_TYPES) else value)


def link_to(value: Any) -> SafeString:
    """:func:`name_of` *value*, escaped, as a link to its page if it has one."""
    address = None if isinstance(value, ID_TYPES) else getattr(value, "get_absolute_url", None)
    if address is None:
        return conditional_escape(name_of(value))
    return format_html('<a href="{}">{}</a>', address(), name_of(value))


def _joined(parts: Sequence[str]) -> SafeString:
    return mark_safe("".join(conditional_escape(part) for part in parts))  # noqa: S308  # each is escaped


def _filled(item: Item, names: int, name: Callable[[Any], str], join: Callable[[Sequence[str]], str]) -> Any:
    if isinstance(item, Activity):
        newest, actors, objects, number, activities = item, [item.actor], [item.object], 1, 1
    elif isinstance(item, AggregatedActivity):
        if not item.activities:
            return ""
        newest, actors, objects = item.last_activity, item.actors, item.objects
        number, activities = item.actor_count, item.activity_count
    else:
        raise ArgumentError(
            f"{str(item)[:80]!r} is a {type(item).__name__}; a sentence is made of an activity or a group"
        )
    verb, names = newest.verb, require_int("names", names, 1)
    values = {
        "actors": _listed(actors, number, names, name, join),
        "objects": _listed(objects, len(objects), names, name, join),
        "actor": name(newest.actor),
        "object": name(newest.object),
        "target": "" if newest.target is None else name(newest.target),
        "actor_count": number,
        "object_count": len(objects),
        "activity_count": activities,
    }
    if verb.sentence is None:
        return f"{values['actors']} {verb.past_tense} {values['objects']}"
    try:
        return verb.sentence % values
    except (KeyError, TypeError, ValueError) as error:
        raise DeclarationError(
            f"the sentence of {verb.__name__} cannot be filled in: {type(error).__name__}: {error}; it may name"
            f" {', '.join(f'%({each})s' for each in values)}, and a percent sign is %%"
        ) from error


def _listed(
    values: Sequence[Any], number: int, names: int, name: Callable[[Any], str], join: Callable[[Sequence[str]], str]
) -> str:
    """*values*, of which there are *number*, some perhaps not among them, in words."""
    number = max(number, len(values))
    named = [name(each) for each in values[: names if number > names + 1 else number]]
    others = number - len(named)
    if not others and len(named) == 1:
        return named[0]
    last = join(named[-1:])
    first = named if others else named[:-1]
    commas = join([part for each in first for part in (pgettext("between names", ", "), each)][1:])
    if not others:
        return pgettext("names", "%(names)s and %(last)s") % {"names": commas, "last": last}
    words = npgettext("names", "%(names)s and %(count)d other", "%(names)s and %(count)d others", others)
    return words % {"names": commas, "count": others}


__all__ = ["as_html", "as_text", "link_to", "name_of"]
