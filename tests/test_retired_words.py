"""Words that were retired from code, documents and tests, and the terms that took their place."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".lua", ".md", ".toml", ".cfg", ".html", ".in"}

#: Words that mean nothing else here: what they match, as whole words in any text, and what to write.
WORDS = {
    r"spill(s|ed|ing)?|unspill|refill(s|ed)?": "overflow, drop_overflow, restore",
    r"receipts?": "fan-out record; status in documents for users",
    r"bells?|rung": "wake-up message",
    r"mend(s|ed|ing|able)?": "fix, repair",
    r"inbox(es)?": "pending writes",
    r"keepers?": "activity storage",
    r"needle": "match bytes",
    r"deafness": "content type problem",
    r"capped|CAPPED|LOOSE": "truncated, TRUNCATED, MIXED",
    r"parted|rejoined": "unfollowed, followed again",
    r"GivenUp|NoLetter": "AttemptsExhausted, UnknownDeadLetter",
    r"put_off|let_expire|open_sent|start_sent|send_alone|bury|bury_message": "postpone, expire_record, open_dispatched, enqueue_and_publish, publish_single, dead_letter",
    r"own_merge|(merges|scores|ranks)_itself|fold_in|fold_in_one": "custom_merge, has_custom_merge/score/rank, recover_pending_writes, apply_pending_writes",
    r"left_out|people_of|lock_patience|group_called|(app|manager)_called": "log_skipped, count_recipients, lock_timeout, find_group, app_named",
    r"await_finished": "afinished",
    r"[Pp]ostbox|[Cc]linic": "fake broker, fixtures",
}
#: Where a retired word may stand, and why.
ALLOWED = {
    "tests/test_retired_words.py": "it holds the list",
}
#: Ordinary English that names of functions, methods, classes, attributes and fields may not be: they said several things.
NAMES = {
    "left": "pending, remaining",
    "part": "overflow of an actor, kind, slice",
    "fold": "merge, apply",
    "letter": "dead_letter",
    "letters": "dead_letters",
    "note": "record_error, schedule",
    "look": "wake_if_overdue, diagnose",
    "park": "await_chunks",
    "ring": "wake_workers",
    "room": "queue_capacity",
    "pace": "rate_limit",
    "sentence": "description",
    "patience": "timeout",
    "again": "rerun_at",
    "was": "previous_progress",
    "listed": "audience_read_at",
    "complete": "fully_planned",
    "told": "notified",
    "gone": "removed, missing",
    "meant": "resolve",
    "alike": "by_audience",
    "thin": "underfull",
    "touch": "revision",
    "whole": "embeds_activities, require_int",
    "want": "GroupRead",
    "wants": "reads",
    "strange": "unknown_keys",
    "Fold": "GroupMerge",
    "Task": "WriteRequest",
    "Want": "GroupRead",
    "Rules": "FeedLimits",
    "Letter": "DeadLetter",
    "Pace": "RateLimit",
    "Shown": "RecordView",
    "Stored": "GroupView",
}
#: (file, name) that stays, and why.
STAYS = {
    ("feedmill/verbs.py", "sentence"): "it holds one, in plain English",
    ("feedmill/feeds/query.py", "wants"): "what a query wants is plain English",
}


def texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [path for name in listed if (path := ROOT / name).suffix in SUFFIXES and path.is_file()]


def retired(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, word, what to write) of each retired word in *text*."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, better in WORDS.items():
            for found in re.finditer(rf"(?<![\w])({pattern})(?![\w])", line):
                yield number, found[1], better


def defined(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of each function, class, attribute and field that *source* defines; of local variables none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    yield each.lineno, each.target.id
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


@pytest.mark.parametrize("path", [pytest.param(each, id=str(each.relative_to(ROOT))) for each in texts()])
def test_no_retired_word(path: Path) -> None:
    """No text holds a word that was replaced by the field's term."""
    name = str(path.relative_to(ROOT))
    if name in ALLOWED:
        return
    found = [f"{name}:{line}: {word}: write {better}" for line, word, better in retired(path.read_text())]
    assert found == [], "\n".join(found)


def test_no_ambiguous_name() -> None:
    """Nothing in the package is called by a word that used to mean several things."""
    found = []
    for path in (path for path in texts() if path.suffix == ".py" and path.is_relative_to(ROOT / "feedmill")):
        name = str(path.relative_to(ROOT))
        for line, word in defined(path.read_text()):
            if word in NAMES and (name, word) not in STAYS:
                found.append(f"{name}:{line}: {word}: write {NAMES[word]}")
    assert found == [], "\n".join(found)


def test_what_is_allowed_is_there() -> None:
    """An exception for a file or a name that is gone would hide the next one."""
    assert [name for name in ALLOWED if not (ROOT / name).is_file()] == []
    for name, word in STAYS:
        assert word in [each for _, each in defined((ROOT / name).read_text())], (name, word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the receipt of a fan-out", ["receipt"]),
        ("FEEDMILL_RECEIPT_TTL and receipt_ttl", []),
        ("what is left of a part of the whole", []),
        ("local spill = 1 -- spilled", ["spill", "spilled"]),
        ("amended, doorbell_, inboxed", []),
    ],
)
def test_words_are_seen(text: str, words: list[str]) -> None:
    """A retired word is found wherever it stands as a whole word, and plain English is not."""
    assert [word for _, word, _ in retired(text)] == words


def test_names_are_seen() -> None:
    """A function, class, field or attribute is found; a local variable, an argument and a call are not."""
    source = "class Fold:\n    left: int\n    def note(self, part):\n        self.told = left = part.look()\n"
    assert sorted(defined(source)) == [(1, "Fold"), (2, "left"), (3, "note"), (4, "told")]
