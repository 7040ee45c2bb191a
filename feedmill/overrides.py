"""What a subclass may override: methods that are marked as hooks. Any other override is refused when the class is declared.

A method that Feedmill calls on some paths only, or on none, would be overridden without effect. So everything public that is
not marked is refused, with what to do instead: what is added to a class is safe without a list that names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from feedmill.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])

#: Special methods that any class may have of its own.
FREE = frozenset({"__repr__", "__str__", "__format__", "__init_subclass__"})
#: Special methods that have checks of their own.
CONSTRUCTORS = frozenset({"__init__", "__new__"})


def hook(method: F) -> F:
    """Mark *method* as one that a subclass may override: every path that does what it does calls it."""
    method.__feedmill_hook__ = True  # type: ignore[attr-defined]
    return method


def is_hook(method: object) -> bool:
    """Whether *method* is marked by :func:`hook`."""
    return getattr(method, "__feedmill_hook__", False) is True


def is_own(cls: type) -> bool:
    """Whether *cls* is one of Feedmill's."""
    return cls.__module__.partition(".")[0] == "feedmill"


def owner_of(cls: type, name: str) -> type:
    """The class whose attribute *cls.name* is."""
    return next(each for each in cls.__mro__ if name in vars(each))


def parameters_of(function: Callable[..., Any]) -> str:
    """The parameters of *function* as errors show them: ``(self, name=None)``."""
    found = inspect.signature(function).parameters.values()
    return str(inspect.Signature([each.replace(annotation=each.empty) for each in found]))


def check_overrides(cls: type, instead: Mapping[str, str], default: str) -> None:
    """Refuse what *cls*, or a mixin of it, overrides of Feedmill's public methods, unless it is a hook.

    A class attribute may be set, to a value. *instead*: what to do instead of overriding the methods of these names;
    *default*: of any other. Raises :class:`~feedmill.errors.DeclarationError`.
    """
    for name, owner, base in overridden(cls):
        if is_method(vars(base).get(name)) or name not in vars(base):
            if not any(is_hook(vars(each).get(name)) for each in cls.__mro__ if is_own(each)):
                advice = instead.get(name) or instead.get(name.removeprefix("a")) or default
                raise DeclarationError(
                    f"{cls.__name__}.{name} overrides that of {base.__name__}, which not everything would ask; {advice}"
                )
        elif is_method(vars(owner)[name]):
            raise DeclarationError(
                f"{cls.__name__}.{name} is asked of the class, not of an instance; set it to a value"
            )


def overridden(cls: type) -> Iterator[tuple[str, type, type]]:
    """What *cls* overrides of what is public in Feedmill's classes: its name, the class that does, and whose it is."""
    if is_own(cls):
        return
    first: dict[str, type] = {}  # by name, the class that has it before all others
    known: set[str] = set()  # the names of those of Feedmill's classes that were looked at
    for each in cls.__mro__:
        names = {*vars(each), *_instance_attributes(each)} if is_own(each) else {*vars(each)}
        for name in sorted(names - known):
            owner = first.setdefault(name, each)
            if is_own(each) and not is_own(owner) and is_public(name, each):
                yield name, owner, each
        known |= names if is_own(each) else set()


def is_public(name: str, cls: type) -> bool:
    """Whether *name*, which *cls* has, is what users may call: no private name, and no special one but for methods."""
    if name.startswith("__") and name.endswith("__"):
        return name not in FREE | CONSTRUCTORS and inspect.isfunction(vars(cls).get(name))
    return not name.startswith("_")


def is_method(value: object) -> bool:
    """Whether *value*, of a class, is a method or a property rather than a setting."""
    return hasattr(type(value), "__get__")


def _instance_attributes(cls: type) -> set[str]:
    """The attributes that only instances of *cls* have: they are annotated there."""
    kinds = inspect.get_annotations(cls)
    return {name for name, kind in kinds.items() if not str(kind).startswith(("ClassVar", "typing.ClassVar"))}
