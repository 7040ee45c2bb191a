"""What users may rely on changes only on purpose."""

from __future__ import annotations

import difflib

import pytest

from tests.public_api import LISTING, listing


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
        "    actor_id",
        "    async apage(self, limit: int, after: str | None = None) -> Page",
        "    max_length = 99",
        "    extra_context: Mapping[str, Any]  [property]",
        "feedmill.configure(**changes: object) -> Settings",
        "class feedmill.errors.CursorError(FeedmillError, ValueError)",
        "feedmill.FanoutPriority is feedmill.Priority",
        "$ feedmill dead show LETTER",
        "task feedmill.deliver",
    ],
)
def test_the_listing_holds_all_kinds_of_promises(line: str) -> None:
    """Methods, attributes, coroutines, defaults, properties, functions, bases, aliases, commands and tasks."""
    assert line in listing().splitlines()


def test_the_listing_is_the_same_on_every_machine() -> None:
    """No address and no path is in it."""
    assert " at 0x" not in listing()
    assert str(LISTING.parent.parent) not in listing()
