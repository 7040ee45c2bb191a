"""Everything that users of Feedmill may rely on, as text: names, signatures, defaults, commands, settings.

``python -m tests.public_api`` writes it to ``tests/public_api.txt``: do so when you mean to change it.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from feedmill.cli.main import main
from feedmill.feeds import Feed
from feedmill.tasks import app

LISTING = Path(__file__).with_suffix(".txt")
#: The modules whose names are for users. A class is listed in the first that has it.
MODULES = (
    "feedmill",
    "feedmill.manager",
    "feedmill.fanout",
    "feedmill.feeds",
    "feedmill.feeds.subscription",
    "feedmill.feeds.aggregated_feed",
    "feedmill.aggregators",
    "feedmill.contrib.asgi",
    "feedmill.contrib.django",
    "feedmill.contrib.django.middleware",
    "feedmill.contrib.django.phrases",
    "feedmill.contrib.flask",
    "feedmill.contrib.live_streams",
    "feedmill.contrib.opentelemetry",
    "feedmill.contrib.problems",
    "feedmill.contrib.server_sent_events",
    "feedmill.testing",
    "feedmill.verbs",
    "feedmill.errors",
    "feedmill.settings",
    "feedmill.doctor",
    "feedmill.cli.shapes",
    "feedmill.storage.operations",
    "feedmill.storage.base",
    "feedmill.storage.journal",
    "feedmill.storage.pubsub",
    "feedmill.contrib.sqlalchemy",
)
#: Special methods that are promises; the others come with what a class is.
SPECIAL = (
    *("__getitem__", "__len__", "__iter__", "__next__", "__aiter__", "__anext__"),
    *("__bool__", "__contains__", "__lt__", "__enter__", "__aenter__"),
)


class _As:
    """Shown as it is written."""

    def __init__(self, text: Any) -> None:
        self.text = text if isinstance(text, str) else inspect.formatannotation(text)

    def __repr__(self) -> str:
        return self.text


def signature(function: Any) -> str:
    """The signature of *function*, with annotations as they are written."""
    found = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=each.empty if each.annotation is each.empty else _As(each.annotation),
            default=each.empty if each.default is each.empty else _As(shown(each.default)),
        )
        for each in found.parameters.values()
    ]
    returns = found.empty if found.return_annotation is found.empty else _As(found.return_annotation)
    return str(found.replace(parameters=parameters, return_annotation=returns))


def names_of(module: ModuleType) -> list[str]:
    """The public names of *module*: what it exports, or else what it defines."""
    exported = getattr(module, "__all__", None)
    if exported is not None:
        names = list(exported)
    else:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and (getattr(value, "__module__", None) == module.__name__ or name.isupper())
        ]
    return sorted(name for name in names if not isinstance(getattr(module, name), TypeVar))


def shown(value: Any) -> str:
    """A default."""
    return value.__name__ if isinstance(value, type) or inspect.isfunction(value) else repr(value)


def member(name: str, kind: str, value: Any) -> str:
    """The line of one member of a class."""
    if isinstance(value, (classmethod, staticmethod)):
        word = "async " if inspect.iscoroutinefunction(value.__func__) else ""
        return f"{word}{name}{signature(value.__func__)}  [{kind}]"
    if isinstance(value, property) or hasattr(value, "attrname"):
        function = value.fget if isinstance(value, property) else value.func
        returns = signature(function).rpartition(" -> ")[2]
        return f"{name}: {returns}  [property]"
    if inspect.iscoroutinefunction(value):
        return f"async {name}{signature(value)}"
    if inspect.isfunction(value):
        return f"{name}{signature(value)}"
    return f"{name} = {shown(value)}"


def is_operation(cls: type, value: Any) -> bool:
    """Whether *value* is an operation of a feed: steps for the inner parts, which the documentation leaves out too."""
    returns = getattr(getattr(value, "__func__", value), "__annotations__", {}).get("return", "")
    return issubclass(cls, Feed) and str(returns).startswith("Steps[")


def attributes_of(cls: type) -> Iterator[str]:
    """The public attributes that ``__init__`` gives an instance."""
    if not inspect.isfunction(vars(cls).get("__init__")) or vars(cls)["__init__"].__module__ != cls.__module__:
        return
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__)))  # type: ignore[misc]
    except OSError:  # made by dataclass
        return
    for node in ast.walk(tree):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and not node.attr.startswith("_") and not hasattr(cls, node.attr):
            yield node.attr


def members_of(cls: type, public: set[type]) -> Iterator[str]:
    """The lines of the members of *cls* that no base of it in *public* has just so."""
    if "__init__" in vars(cls) and vars(cls)["__init__"].__module__ == cls.__module__:
        yield f"__init__{signature(vars(cls)['__init__'])}"
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    if hasattr(cls, "_fields"):
        kinds = inspect.get_annotations(cls)
        yield (
            "("
            + ", ".join(f"{name}: {getattr(kinds[name], '__forward_arg__', kinds[name])}" for name in cls._fields)
            + ")"
        )
        fields |= set(cls._fields)
    if issubclass(cls, enum.Enum):
        fields |= set(cls.__members__)
    for name, kind in inspect.get_annotations(cls).items():
        if not name.startswith("_") and name not in vars(cls) and name not in fields:
            yield f"{name}: {kind}"
    yield from sorted(set(attributes_of(cls)))
    bases = [base for base in cls.__mro__[1:] if base in public]
    for each in sorted(inspect.classify_class_attrs(cls)):
        if (each.name.startswith("_") and each.name not in SPECIAL) or each.name in fields:
            continue
        if not each.defining_class.__module__.startswith("feedmill"):
            continue
        if any(inspect.getattr_static(base, each.name, None) is each.object for base in bases):
            continue
        if is_operation(cls, each.object):
            continue
        if isinstance(each.object, property) or not inspect.isdatadescriptor(each.object):
            yield member(each.name, each.kind, each.object)


def described(module: ModuleType, name: str, names: dict[type, str]) -> Iterator[str]:
    """The lines of one public name. *names*: what public classes are listed as."""
    full, value = f"{module.__name__}.{name}", getattr(module, name)
    if not isinstance(value, type):
        text = f"{full}{signature(value)}" if inspect.isfunction(value) else f"{full} = {value!r}"
        yield f"async {text}" if inspect.iscoroutinefunction(value) else text
    elif names[value] != full:
        yield f"{full} is {names[value]}"
    else:
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {full}({bases})" if bases else f"class {full}"
        if issubclass(value, enum.Enum):
            yield from (f"    {each} = {found.value!r}" for each, found in value.__members__.items())
        yield from (f"    {line}" for line in members_of(value, set(names)))


def commands_of(command: click.Command, path: str) -> Iterator[str]:
    """The lines of a command, and of those below it."""
    words = [
        parameter.human_readable_name if isinstance(parameter, click.Argument) else "|".join(parameter.opts)
        for parameter in command.params
    ]
    yield " ".join([path, *(word if word.startswith("-") else word.upper() for word in words)])
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands_of(command.commands[name], f"{path} {name}")


def public_classes() -> dict[type, str]:
    """Every public class, and the name it is listed under."""
    names: dict[type, str] = {}
    for module in map(importlib.import_module, MODULES):
        for name in names_of(module):
            found = getattr(module, name)
            if isinstance(found, type) and name == found.__name__:
                names.setdefault(found, f"{module.__name__}.{name}")
    return names


def listing() -> str:
    """All of it."""
    names = public_classes()
    lines: list[str] = []
    for module in map(importlib.import_module, MODULES):
        for name in names_of(module):
            lines += described(module, name, names)
        lines.append("")
    lines += [f"$ {line}" for line in commands_of(main, "feedmill")]
    lines += ["", *sorted(f"task {name}" for name in app.tasks if name.startswith("feedmill."))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LISTING.write_text(listing(), encoding="utf-8")
