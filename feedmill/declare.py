"""Checks of classes that are configured by class attributes: a misspelt attribute is an error at import."""

from __future__ import annotations

import difflib
import inspect

from feedmill.errors import DeclarationError


def check_attributes(cls: type, base: type) -> None:
    """Refuse an attribute of *cls* that is not in *base* but almost spells one that is.

    Raises :class:`~feedmill.errors.DeclarationError` with the near miss.
    """
    if cls.__module__.startswith("feedmill."):
        return  # here new attributes are made
    # Nobody overrides a coroutine twin, and "account" is not a slip of "acount".
    known = [n for n in dir(base) if not n.startswith("_") and not inspect.iscoroutinefunction(getattr(base, n))]
    for name in vars(cls):
        if name.startswith("_") or any(name in vars(parent) for parent in cls.__mro__[1:]):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if near:
            raise DeclarationError(f"{cls.__name__}.{name} does not exist; did you mean {near[0]!r}?")


def check_positive(cls: type, *names: str) -> None:
    """Refuse a class attribute of *names* that is not a positive int."""
    for name in names:
        value = getattr(cls, name)
        if type(value) is not int or value < 1:
            raise DeclarationError(f"{cls.__name__}.{name} is {value!r}; use a positive int")
