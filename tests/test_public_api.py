"""What users may rely on changes only on purpose."""

from __future__ import annotations

import difflib
import enum
import inspect

import pytest
from sphinx import pycode

from tests.public_api import LISTING, attributes_of, listing, public_classes


def test_the_public_api_is_what_is_listed() -> None:
    """Every public name, signature, default, command and task is as ``tests/public_api.txt`` says."""
    wanted, found = LISTING.read_text(encoding="utf-8"), listing()
    if found != wanted:
        diff = difflib.unified_diff(wanted.splitlines(), found.splitlines(), "listed", "found", n=1, lineterm="")
        pytest.fail(
            "the public API changed:\n\n" + "\n".join(diff) + "\n\nIf that is meant: run `python -m tests.public_api`,"
            " say it in CHANGELOG.md, and commit the listing.",
            pytrace=False,
        )


@pytest.mark.parametrize(
    "line",
    [
        "    add_activity(self, activity: Activity) -> Fanout",
        "    user_id: EntityId",
        "    op",
        "    async apage(self, limit: int, after: str | None = None) -> Page",
        "    max_length = 99",
        "    extra_context: Mapping[str, Any]  [property]",
        "feedmill.configure(**changes: object) -> Settings",
        "class feedmill.errors.CursorError(FeedmillError, ValueError)",
        "feedmill.FanoutPriority is feedmill.Priority",
        "$ feedmill dead show ID --json",
        "task feedmill.deliver",
    ],
)
def test_the_listing_holds_all_kinds_of_promises(line: str) -> None:
    """Methods, attributes, coroutines, defaults, properties, functions, bases, aliases, commands and tasks."""
    assert line in listing().splitlines()


def commented(cls: type) -> set[str]:
    """The attributes of *cls* and its bases that have a comment in the source which the reference shows."""
    found: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("feedmill"):
            comments = pycode.ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
            found |= {name for owner, name in comments if owner == base.__qualname__}
    return found


def undocumented(cls: type) -> list[str]:
    """The public members of *cls* of which the reference would say nothing."""
    names = {*inspect.get_annotations(cls), *attributes_of(cls)}
    missing = {name for name in names if not name.startswith("_")} - commented(cls)
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isroutine(function) and not function.__doc__:
            missing.add(name)
    return sorted([*missing, *([] if cls.__doc__ else [cls.__name__])])


def test_everything_public_is_documented() -> None:
    """Each public class, method and attribute has a docstring, or the comment with a colon that stands for one."""
    found = {cls: names for cls in public_classes() if (names := undocumented(cls)) and not issubclass(cls, enum.Enum)}
    assert found == {}


def test_the_listing_is_the_same_on_every_machine() -> None:
    """No address and no path is in it."""
    assert " at 0x" not in listing()
    assert str(LISTING.parent.parent) not in listing()
