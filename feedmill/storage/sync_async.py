"""Every method that does I/O is written once, as steps, and offered twice: ``count()`` and ``await acount()``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from feedmill.storage.operations import Steps

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")

Call = Callable[Concatenate[S, P], T]
ACall = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]


def sync_and_async(operation: Callable[Concatenate[S, P], Steps[T]]) -> tuple[Call[S, P, T], ACall[S, P, T]]:
    """The method and the coroutine method that run *operation*, a generator method called ``_name``.

    They look it up by name, so a subclass that overrides the operation changes both. Their class needs ``_run`` and
    ``_arun``.
    """
    name = operation.__name__

    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        done: T = self._run(getattr(self, name)(*args, **kwargs))
        return done

    async def acall(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        done: T = await self._arun(getattr(self, name)(*args, **kwargs))
        return done

    return dress(call, operation, ""), dress(acall, operation, "a")


def sync_and_async_classmethod(
    operation: Callable[Concatenate[type[S], P], Steps[T]],
) -> tuple[classmethod[S, P, T], classmethod[S, P, Coroutine[Any, Any, T]]]:
    """:func:`sync_and_async` for a class method."""
    call, acall = sync_and_async(operation.__func__)  # type: ignore[attr-defined]  # what a classmethod wraps
    return classmethod(call), classmethod(acall)


def dress(call: Any, operation: Any, prefix: str) -> Any:
    """Give *call* the name, the signature and the docstring that *operation* means it to have."""
    signature = inspect.signature(operation)
    returns = signature.return_annotation
    if isinstance(returns, str):  # "Steps[int]" is what the operation says, "int" is what its callers get
        returns = re.sub(r"^(?:Steps|Procedure)\[(.*)\]$", r"\1", returns)
    first, *others = signature.parameters.values()  # whatever the operation needs to know of self
    parameters = [first.replace(annotation=first.empty), *others]
    call.__signature__ = signature.replace(parameters=parameters, return_annotation=returns)
    call.__annotations__ = {**operation.__annotations__, "return": returns}
    call.__annotations__.pop(first.name, None)
    call.__name__ = prefix + operation.__name__.lstrip("_")
    call.__qualname__ = f"{operation.__qualname__.rpartition('.')[0]}.{call.__name__}"
    call.__module__, call.__doc__ = operation.__module__, operation.__doc__
    return call
