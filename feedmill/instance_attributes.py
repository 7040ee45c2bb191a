"""Attributes of instances: which may be set, and where an error says what to do instead."""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from feedmill.errors import DeclarationError
from feedmill.overrides import is_own, owner_of, parameters_of

if TYPE_CHECKING:
    cached = cached_property
else:

    class cached(cached_property):
        """The same without the lock that it takes before Python 3.12: who comes at the same time gets an equal value."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value


#: In the dict of an instance while its ``__init__`` runs.
_BEING_MADE = "_being_made"


class _Guarded:
    """Asks before an attribute of an instance is set or deleted."""

    @abstractmethod
    def _check_setting(self, name: str) -> None:
        """Raise AttributeError, with what to do instead, unless *name* may be set."""

    if not TYPE_CHECKING:  # else type checkers would let everything be set

        def __setattr__(self, name: str, value: Any) -> None:
            self._check_setting(name)
            super().__setattr__(name, value)

        def __delattr__(self, name: str) -> None:
            self._check_setting(name)
            super().__delattr__(name)


class FixedAttributes(_Guarded):
    """Attributes that Feedmill's classes declare cannot be set on an instance. Names of an app's own can.

    What Feedmill itself sets goes into ``__dict__``.
    """

    @classmethod
    @abstractmethod
    def _instead_of_setting(cls, name: str) -> str:
        """What to do instead of setting *name*."""

    def _check_setting(self, name: str) -> None:
        cls = type(self)
        if any(name in vars(each) or name in inspect.get_annotations(each) for each in cls.__mro__ if is_own(each)):
            raise AttributeError(f"{cls.__name__}.{name} cannot be set; {cls._instead_of_setting(name)}")


class Stateless(_Guarded):
    """Instances are made wherever one is needed, in other processes too, and never travel: only ``__init__`` sets attributes."""

    #: Positional arguments that ``__init__`` is called with, and how that is written.
    _init_arguments = 0
    _init_signature = "__init__(self)"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not is_own(cls):
            _check_init(cls)
            _watch_init(cls)

    @classmethod
    @abstractmethod
    def _where_state_belongs(cls) -> str:
        """What to do instead of keeping state in an instance."""

    def _check_setting(self, name: str) -> None:
        cls = type(self)
        if _BEING_MADE not in self.__dict__:
            raise AttributeError(
                f"{cls.__name__}.{name} cannot be set on an instance: others are made where they are needed, without it;"
                f" {cls._where_state_belongs()}"
            )


def _check_init(cls: Any) -> None:
    """Refuse a constructor that could be given more than it is called with, and so make instances that differ."""
    if cls.__new__ is not object.__new__:
        raise DeclarationError(
            f"{cls.__name__}.__new__ could make instances that differ, and others are made where they are needed;"
            f" {cls._where_state_belongs()}"
        )
    if not _is_of_the_app(cls):
        return
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    positional = all(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)
    if len(parameters) != cls._init_arguments or not positional:
        raise DeclarationError(
            f"{cls.__name__}.__init__{parameters_of(cls.__init__)} would make instances with a state of their own, and others are"
            f" made where they are needed, without it; write {cls._init_signature}, and {cls._where_state_belongs()}"
        )


def _watch_init(cls: Any) -> None:
    """Let attributes be set while the ``__init__`` of *cls* runs, and no longer."""
    init = cls.__init__
    if not _is_of_the_app(cls) or hasattr(init, "__watched__"):
        return

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        outermost = _BEING_MADE not in self.__dict__
        self.__dict__[_BEING_MADE] = True
        try:
            init(self, *args, **kwargs)
        finally:
            if outermost:
                del self.__dict__[_BEING_MADE]

    __init__.__watched__ = True  # type: ignore[attr-defined]
    cls.__init__ = __init__


def _is_of_the_app(cls: type) -> bool:
    """Whether the ``__init__`` of *cls* is an app's own."""
    owner = owner_of(cls, "__init__")
    return owner is not object and not is_own(owner)
