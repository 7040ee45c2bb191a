"""The pages for maintainers say what is so: each module is on the map, each key and each field is described."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity, Manager
from feedmill.feeds import RedisFeed, RedisNotificationFeed
from feedmill.keys import hook_bucket
from feedmill.storage.journal import NUMBERS, STATUS_FIELDS, FanoutRecord
from feedmill.storage.maintenance import FANOUT_RECORD
from feedmill.storage.redis import scripts
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters
from tests.fake_broker import FakeBroker, arrive, replaced
from tests.test_imports_go_down import LAYERS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "development"
PACKAGE = Path(feedmill.__file__).parent


def rows_of(text: str) -> list[list[str]]:
    """The rows of the tables in *text*, heads aside, cell by cell."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    heads = {n - 1 for n, row in enumerate(rows) if set("".join(row)) <= set("-:")}
    return [row for n, row in enumerate(rows) if n not in heads and n - 1 not in heads]


def modules() -> set[str]:
    """Modules and scripts of the package; a package itself stands for its ``__init__.py``."""
    found = {
        path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.suffix in (".py", ".lua")
    }
    return {name.removesuffix("__init__.py") for name in found}


def mapped() -> list[str]:
    """What the map lists: headings are packages, rows are modules of the package above them."""
    found: list[str] = []
    for part in re.split(r"^## ", (PAGES / "map.md").read_text(), flags=re.MULTILINE)[1:]:
        if heading := re.match(r"`(feedmill/[\w/]*)`\n", part):
            found += [heading[1], *(heading[1] + row[0].strip("`") for row in rows_of(part))]
    return found


def suggestion(name: str) -> str:
    """The row that the map lacks for module *name*, with the first line of its docstring to begin with."""
    folder, _, file = name.rpartition("/")
    text = (ROOT / name / "__init__.py" if name.endswith("/") else ROOT / name).read_text()
    says = text.partition("\n")[0].lstrip("- ") if name.endswith(".lua") else ast.get_docstring(ast.parse(text)) or ""
    return f"under ## `{folder}/`: | `{file}` | {says.partition(chr(10))[0]} |"


def test_each_module_is_on_the_map_and_nothing_else() -> None:
    """A module that comes, goes or moves is a change of one row of docs/development/map.md."""
    there, listed = modules(), mapped()
    assert [suggestion(name) for name in sorted(there - set(listed))] == [], "missing on the map"
    assert sorted(set(listed) - there) == [], "on the map, and gone"
    assert len(listed) == len(set(listed)), "listed twice"
    assert len(listed) > 100


def test_the_map_has_the_layers_that_are_held() -> None:
    """The order of packages on the map is the one that imports are tested for."""
    part = (PAGES / "map.md").read_text().split("\n## Layers\n")[1].split("\n## ")[0]
    found = {int(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in rows_of(part)}
    assert found == {number: set(names.split()) for number, names in LAYERS.items()}


class KeysHome(RedisFeed):
    key_format = "keys:home:%(user_id)s"
    max_age = 100 * 366 * 86_400


class KeysCached(RedisFeed):
    key_format = "keys:cached:%(user_id)s"
    expire_idle = 86_400


class KeysOwn(RedisFeed):
    key_format = "keys:own:%(user_id)s"


class KeysNotes(RedisNotificationFeed):
    key_format = "keys:notes:%(user_id)s"
    count_format = "keys:notes:%(user_id)s:count"


class KeysManager(Manager):
    feed_classes = {"home": KeysHome, "cached": KeysCached}
    user_feed_class = KeysOwn
    notification_feed_class = KeysNotes
    fanout_rate = 0.001
    fanout_chunk_size = 2

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Five for everybody."""
        return range(10, 15)

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """One for everybody."""
        return [1]

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Whoever the target names."""
        return [activity.target_id]

    def on_notification(self, notifications: Any) -> None:
        """Nothing."""

    def on_fanout_finished(self, fanouts: Any) -> None:
        """Nothing."""


class KeysAlone(Manager):
    """Has notifications only, so that it keeps activities itself."""

    notification_feed_class = KeysNotes


def section(heading: str) -> list[list[str]]:
    """The rows under *heading* of the page of keys and records."""
    return rows_of((PAGES / "keys-and-records.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0])


#: What stands for a placeholder of the table; for all others text without colons and braces.
PLACEHOLDERS = {
    "<format>": r"keys:\w+:\{[^}]+\}",
    "<count format>": r"keys:\w+:\{[^}]+\}:count",
    "<activity id>": r"[\s\S]{16}",
    **dict.fromkeys(("<group>", "<key>", "<key_format>"), r"[\s\S]+"),
}


def fits(pattern: str, key: str) -> bool:
    """Whether *key* is one of those that *pattern* of the table stands for."""
    parts = re.split(r"(<[\w ]+>)", pattern)
    return (
        re.fullmatch("".join(PLACEHOLDERS.get(p, r"[^:{}]+") if p[:1] == "<" else re.escape(p) for p in parts), key)
        is not None
    )


def best_row(key: str, rows: list[list[str]]) -> str:
    """The pattern of the table that says most of *key*; empty if none fits."""
    fitting = [pattern for row in rows if fits(pattern := re.findall(r"`([^`]+)`", row[0])[0], key)]
    return max(fitting, key=lambda pattern: len(re.sub(r"<[\w ]+>", "", pattern)), default="")


def busy_keys(redis_url: str, box: FakeBroker) -> dict[str, str]:
    """What a busy app leaves on a server: the type of each key."""
    manager, run = KeysManager(), backend().run
    client = redis.Redis.from_url(redis_url)
    for number in range(40):  # more than a record holds
        manager.add_activity(Activity(1000 + number, Love, 7, target=5))
    box.work()
    manager.notify([6], Activity(1, Love, 8))
    manager.follow(10, 1)
    box.work()
    manager.unfollow(10, 1)
    manager.rebuild(10)
    box.work()
    manager.follow(10, 1)
    manager.unfollow(11, 1)
    KeysAlone().notify([6], Activity(1, Love, 9))
    dead_letters.keep_message("feedmill.follow", [], "nonsense")
    run(backend().auxiliary.pending_index.schedule(KeysNotes.key_format, [b"5"], 60))
    client.lpush("fm:keys:home:{wrong}", "list")
    run(backend().maintenance.set_aside("fm:keys:home:{wrong}", "string"))
    manager.notify([7], Activity(9, Love, 7))
    for message in box.take("feedmill.fanout"):
        arrive(*message)
    queue = backend().auxiliary.hook_queue
    claims = run(queue.take(KeysManager.name, hook_bucket(7), b"token", 60_000, 10))
    assert run(queue.begin(KeysManager.name, hook_bucket(7), b"token", 60_000, claims))
    run(queue.dead_letters_told(KeysManager.name, "1-1"))
    manager.add_activity(Activity(2, Love, 7, target=5))  # nobody has answered the wake-up message
    name = manager.add_activity(Activity(3, Love, 7, target=5)).id
    (claim, *_), _ = run(backend().journal.claim(KeysManager.name, 10))
    run(backend().journal.renew(KeysManager.name, claim, {0: b"chunk"}))
    manager.add_activity(Activity(4, Love, 7, target=5))
    assert run(backend().journal.get(name))
    KeysCached(10).add(Activity(1, Love, 7))
    run(backend().journal.record_sweep())
    run(backend().auxiliary.request_log.take("caller", 60_000_000, 60_000_000))
    run(backend().auxiliary.request_log.begin("name", b"fingerprint", b"token", 60_000, 60))
    return {key.decode("latin-1"): client.type(key).decode() for key in client.scan_iter("fm:*")}


def test_each_key_is_described(redis_url: str, lasting_wakeups: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key that a busy app leaves on a server has a row that says its type, and every row has such a key."""
    rows = section("Keys")
    described = {(re.findall(r"`([^`]+)`", row[0])[0], row[1]) for row in rows}
    with replaced(monkeypatch) as box:
        found = busy_keys(redis_url, box)
    used = set()
    for key, kind in found.items():
        pattern = best_row(key, rows)
        assert pattern, f"no row of the table is about {key!r}"
        used.add((pattern, "any" if (pattern, "any") in described else kind))
    assert used - described == set(), "keys of another type than their row says"
    assert described - used == set(), "rows without a key"


#: Names in quotes in the scripts of the journal that are no fields: types, and kinds of fan-out.
NO_FIELDS = {"string", "table", "add", "update", "redeliver", "replaced"}


def scripts_of_the_journal() -> dict[str, str]:
    """Text of the journal's scripts by file name."""
    folder = Path(scripts.__file__).parent
    return {path.name: path.read_text() for path in folder.glob("journal*.lua")}


def test_each_field_of_the_fanout_record_is_described() -> None:
    """The table and the schema have the fields that scripts, status and doctor name, and no others."""
    described = [row[0].strip("`") for row in section("The fan-out record")]
    named = set(re.findall(r"'([a-z_]+)'", "".join(scripts_of_the_journal().values()))) - NO_FIELDS
    assert sorted(described) == sorted(FanoutRecord.__annotations__)
    assert sorted(named | {*STATUS_FIELDS, *FANOUT_RECORD}) == sorted(FanoutRecord.__annotations__)


def test_fields_that_must_be_numbers() -> None:
    """What a claim refuses unless it is a whole number is what the doctor examines, and is one in the schema."""
    text = scripts_of_the_journal()["journal_claim.lua"]
    fields = re.findall(r"'(\w+)'", re.findall(r"local FIELDS = \{(.*?)\}", text)[0])
    checked = fields[: int(re.findall(r"local NUMBERS = (\d+)", text)[0])]
    assert set(checked) <= set(NUMBERS) and checked
    assert {name for name in NUMBERS if typing.get_type_hints(FanoutRecord)[name] is not int} == set()


def test_scripts_set_and_read_the_fields_that_the_table_says() -> None:
    """A script that is named in the row of a field names that field; one that does is in the row."""
    texts, wrong = scripts_of_the_journal(), list[str]()
    for field, _, _, *who in section("The fan-out record"):
        said = set(re.findall(r"`(journal\w*\.lua)`", " ".join(who)))
        does = {name for name, text in texts.items() if f"'{field.strip('`')}'" in text}
        if "every script" not in who[1] and said != does:
            wrong.append(f"{field}: not in the row {sorted(does - said)}, only in the row {sorted(said - does)}")
    assert wrong == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_each_file_that_is_named_exists(page: Path) -> None:
    """A path in the pages for maintainers leads to a file of the repository."""
    paths = re.findall(r"`((?:feedmill|tests|docs|benchmarks|examples)/[\w./-]+)`", page.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_table_of_decisions_has_each_page() -> None:
    """Number, title and file in the table are those of the pages, and each has a status."""
    folder = ROOT / "docs" / "decisions"
    rows = rows_of((folder / "index.md").read_text())
    listed = [f"{row[0]} {row[1]}" for row in rows]
    pages = sorted(folder.glob("[0-9]*.md"))
    titles = [re.match(r"# (\d{4}): (.+)\n", page.read_text()) for page in pages]
    assert listed == [f"[{title[1]}]({page.name}) {title[2]}" for page, title in zip(pages, titles) if title]
    assert all(re.fullmatch(r"in force|replaced by \[\d{4}\]\(.+\)", row[2]) for row in rows)
