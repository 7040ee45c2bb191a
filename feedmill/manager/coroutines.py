"""What the coroutines of a manager do where an app overrides the method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from feedmill.errors import DeclarationError
from feedmill.fanout import publisher
from feedmill.overrides import owner_of


def follow_overrides(cls: type, base: type) -> None:
    """Give *cls* a coroutine for each method of *base* that it overrides without its coroutine: that runs the override in a thread.

    Raises :class:`~feedmill.errors.DeclarationError` for an override that is a coroutine itself.
    """
    for name in dir(base):
        if not inspect.iscoroutinefunction(getattr(base, f"a{name}", None)):
            continue
        owner, awaited = owner_of(cls, name), owner_of(cls, f"a{name}")
        if inspect.iscoroutinefunction(getattr(cls, name)):
            raise DeclarationError(
                f"{cls.__name__}.{name} is an async def, and who calls it does not wait for it; override a{name} so, and"
                f" {name} with a plain def, which a{name} calls in a thread where it is not overridden"
            )
        if cls.__mro__.index(owner) < cls.__mro__.index(awaited):
            setattr(cls, f"a{name}", _coroutine(cls, name, vars(owner)[name]))


def _coroutine(cls: type, name: str, override: Any) -> Callable[..., Any]:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = override.__get__(self, type(self)) if hasattr(override, "__get__") else override
        return await publisher.in_thread(bound, *args, **kwargs)

    shown = getattr(override, "__func__", override)
    acall.__name__, acall.__qualname__ = f"a{name}", f"{cls.__qualname__}.a{name}"
    acall.__module__, acall.__doc__ = cls.__module__, shown.__doc__
    if callable(shown):
        acall.__signature__ = inspect.signature(shown)  # type: ignore[attr-defined]
    return acall
