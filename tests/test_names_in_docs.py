"""What the documentation names is there: classes, methods, modules, tasks, settings, commands."""

from __future__ import annotations

import dataclasses
import pydoc
import re
from pathlib import Path
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, Manager, feeds
from feedmill.aggregators import RecentVerbAggregator
from feedmill.cli.main import main
from feedmill.settings import Settings
from feedmill.tasks import app
from feedmill.verbs import Love

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "porting.md", *sorted((ROOT / "docs" / "explanation").glob("*.md"))]
SETTINGS = {f"FEEDMILL_{field.name.upper()}" for field in dataclasses.fields(Settings)}
COMMANDS = set(main.commands)


def exists(name: str) -> bool:
    """Whether *name*, which begins with ``feedmill``, is a task, or can be imported or looked up."""
    return name in app.tasks or (ROOT / name).exists() or pydoc.locate(name) is not None


def broken(text: str) -> list[str]:
    """What *text* names and is not there."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    names = {name for span in spans for name in re.findall(r"^feedmill[./][\w./]+\w|^feedmill\.\w+$", span)}
    commands = {name for span in spans for name in re.findall(r"^feedmill ([a-z]+)", span)}
    settings = set(re.findall(r"\bFEEDMILL_[A-Z_]+\b", text))
    return sorted([*(name for name in names if not exists(name)), *(commands - COMMANDS), *(settings - SETTINGS)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_exists(page: Path) -> None:
    """Who copies a name out of a page finds it: none is left over from an older layout."""
    assert broken(page.read_text()) == []


PORTED: dict[str, list[Any]] = {
    "Manager": [Manager],
    "Feeds": [feeds.RedisFeed(1)],
    "Aggregated and notification feeds": [feeds.RedisNotificationFeed(1)],
    "Activities and groups": [Activity(1, Love, 2), AggregatedActivity("group", [Activity(1, Love, 2)])],
    "Verbs and aggregators": [Love, RecentVerbAggregator()],
}


def called_the_same(section: str) -> list[str]:
    """The names that the porting guide's table in *section* says are the same here."""
    text = (
        (ROOT / "docs" / "porting.md").read_text().split(f"\n### {section}\n")[1].split("\n## ")[0].split("\n### ")[0]
    )
    rows = re.findall(r"^\| (.*?) \| the same(?! two)", text, re.MULTILINE)
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    names = [re.match(r"(?:\w+\.)?(\w+)", span) for span in spans if not span.startswith(("__", "feed[", "len("))]
    return [found[1] for found in names if found and not found[1][0].isupper()]


@pytest.mark.parametrize("section", PORTED)
def test_what_is_called_the_same_is(section: str) -> None:
    """A name of Stream-Framework's that the porting guide calls the same is the same here."""
    names = called_the_same(section)
    assert len(names) > 2
    assert [name for name in names if not any(hasattr(thing, name) for thing in PORTED[section])] == []


def test_what_is_broken_is_found() -> None:
    """The test above can fail: on a module, a method, a file, a command and a setting that are not there."""
    text = "`feedmill.feeds.RedisFed` `feedmill.Manager.ad` `feedmill/deliver.py` `feedmill fly` FEEDMILL_SPEED `feedmill.feeds`"
    assert broken(text) == [
        "FEEDMILL_SPEED",
        "feedmill.Manager.ad",
        "feedmill.feeds.RedisFed",
        "feedmill/deliver.py",
        "fly",
    ]
    assert (
        broken(f"`{feeds.__name__}.RedisFeed.add` `feedmill.sweep` `feedmill/grouping/writer.py` `feedmill doctor`")
        == []
    )


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.stem)
def test_links_to_files(page: Path) -> None:
    """Links between pages, and to pictures, lead somewhere."""
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
