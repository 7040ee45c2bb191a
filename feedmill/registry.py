"""Things that messages name: managers, and the feeds they declare."""

from __future__ import annotations

from typing import Any

from feedmill.errors import DeclarationError, UnknownName

_managers: dict[str, Any] = {}


def register_manager(name: str, manager: type) -> None:
    """Make a manager class known under *name*; two classes under one name are refused."""
    known = _managers.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (manager.__module__, manager.__qualname__):
        raise DeclarationError(
            f"manager name {name!r} is {known.__module__}.{known.__qualname__}'s already; set another `name` on"
            f" {manager.__module__}.{manager.__qualname__}"
        )
    _managers[name] = manager


def get_manager(name: str) -> Any:
    """The manager class registered as *name*; :class:`~feedmill.errors.UnknownName` when there is none."""
    try:
        return _managers[name]
    except (KeyError, TypeError):
        raise UnknownName(
            f"no manager {name!r}; known: {', '.join(sorted(_managers)) or 'none'}."
            " Name the module that declares it in FEEDMILL_MODULES"
        ) from None


def feed_names(manager: str) -> list[str]:
    """The feeds that the manager registered as *manager* writes to, and the hooks that are told of it: what a newer release
    may have more of.
    """
    found = get_manager(manager)
    told = [name for name in ("on_notification", "on_fanout_finished") if name in found.told_hooks]
    return [*found.feed_classes, *(["notification_feed_class"] if found.notification_feed_class else []), *told]


def told_of_arrivals(feed_class: Any) -> str:
    """The name of the manager whose hook is told what comes into the notification feeds of *feed_class*; empty for none."""
    for name, manager in _managers.items():
        if "on_notification" in manager.told_hooks:
            feeds = manager.notification_feed_class
            if feeds is feed_class or feeds.key_format == feed_class.key_format:
                return name
    return ""


def manager_names() -> list[str]:
    """The names of all registered managers."""
    return sorted(_managers)
