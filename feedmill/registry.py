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
    """The feeds that the manager registered as *manager* writes to: what a newer release may have more of."""
    found = get_manager(manager)
    return [*found.feed_classes, *(["notification_feed_class"] if found.notification_feed_class else [])]


def manager_names() -> list[str]:
    """The names of all registered managers."""
    return sorted(_managers)
