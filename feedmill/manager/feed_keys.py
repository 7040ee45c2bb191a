"""Keys of feeds: those of two feeds must never be one, whoever their users are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from feedmill.errors import DeclarationError
from feedmill.keys import ARRIVALS, PRESENT, may_meet, split_format
from feedmill.manager.hooks import ManagerHooks
from feedmill.registry import get_manager, manager_names


class Format(NamedTuple):
    """How keys of one feed class are spelled."""

    #: What the feed is called in its manager, and that manager.
    name: str
    manager: str
    feed_class: Any
    #: "key_format" or "count_format".
    attribute: str
    #: Whether there are more keys that begin like it.
    is_prefix: bool

    @property
    def text(self) -> str:
        """The format."""
        found: str = getattr(self.feed_class, self.attribute)
        return found

    @property
    def beginning(self) -> str:
        """What stands before the user."""
        return split_format(self.text)[0]

    def meets(self, other: Format) -> bool:
        """Whether a key of either may be one of the other. Never if they have not the same :attr:`beginning`."""
        if self._marks(other) or other._marks(self):
            return True
        return may_meet(self.text, other.text, self.is_prefix, other.is_prefix)

    def _marks(self, other: Format) -> bool:
        """Whether a key of the other may be the mark of one of these feeds, if they go when nobody uses them, or hold what hooks are
        to be told of it, if it has counts.
        """
        if self.attribute != "key_format":
            return False
        ends = [PRESENT] * bool(self.feed_class.expires_idle()) + [ARRIVALS] * self.feed_class.counted
        before, after = split_format(self.text)
        return split_format(other.text) in [(before, after + end) for end in ends]

    def is_one_with(self, other: Format) -> bool:
        """Whether both are the same part of what is one feed: the same is stored in the same way."""
        return self.attribute == other.attribute and _shape(self.feed_class) == _shape(other.feed_class)


def check_keys(cls: type[ManagerHooks], named: Mapping[str, Any]) -> None:
    """Refuse a manager of whose feeds, by name, one has keys that another feed of the process has as well.

    Two managers may have one feed: the same class, or classes that store the same in the same way.
    """
    mine = list(formats(cls.__name__, named))
    managers = {name: feeds_of(get_manager(name)) for name in manager_names() if name != cls.name}
    others = by_beginning(each for name, feeds in managers.items() for each in formats(name, feeds))
    for number, one in enumerate(mine):
        for other in mine[:number]:
            if one.meets(other):
                raise DeclarationError(f"{cls.__name__}: {_clash(one, other, '', '')}")
        for other in others.get(one.beginning, ()):
            if one.meets(other) and not one.is_one_with(other):
                whose = (
                    f"{one.feed_class.__name__} of {cls.__name__}",
                    f"{other.feed_class.__name__} of {other.manager}",
                )
                raise DeclarationError(_clash(one, other, *whose))


def feeds_of(manager: Any) -> dict[str, Any]:
    """The feed classes of a manager by name; None for one that it has not."""
    more = {"user_feed_class": manager.user_feed_class, "notification_feed_class": manager.notification_feed_class}
    return {**manager.feed_classes, **more}


def formats(manager: str, named: Mapping[str, Any]) -> Iterator[Format]:
    """How the keys of a manager's feeds, by name, are spelled."""
    for name, feed_class in named.items():
        if feed_class is not None:
            for attribute, is_prefix in feed_class.key_attributes().items():
                yield Format(name, manager, feed_class, attribute, is_prefix)


def by_beginning(spelled: Iterable[Format]) -> dict[str, list[Format]]:
    """*spelled* by what stands before the user: only those that have it in common can have keys in common."""
    found: dict[str, list[Format]] = {}
    for each in spelled:
        found.setdefault(each.beginning, []).append(each)
    return found


def _shape(feed_class: Any) -> tuple[Any, ...]:
    """What must be the same of two classes for them to be one feed."""
    spelled = [getattr(feed_class, attribute) for attribute in feed_class.key_attributes()]
    return (
        feed_class.timeline_serializer,
        feed_class.activity_storage_class,
        getattr(feed_class, "aggregator_class", None),
        feed_class.expires_idle() > 0,
        *map(split_format, spelled),
    )


def _clash(one: Format, other: Format, mine: str, theirs: str) -> str:
    """What to say of two formats; *mine* and *theirs* name the feeds of two managers."""
    first, second = (mine, theirs) if mine else (repr(one.name), repr(other.name))
    advice = f"give {one.feed_class.__name__} one of its own" if mine else "give one of them another"
    if (one.attribute, one.text) == (other.attribute, other.text):
        what = "each other's counts" if one.attribute == "count_format" else "each other"
        return f"{first} and {second} share the {one.attribute} {one.text!r} and would overwrite {what}; {advice}"
    return (
        f"the {one.attribute} {one.text!r} of {first} and the {other.attribute} {other.text!r} of {second} can make the same"
        f" keys, and would overwrite each other; {advice}"
    )
