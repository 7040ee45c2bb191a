"""Whoever checks the types of an app strictly hears of mistakes, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parent.parent
#: One cache of what mypy has found out, for all of them.
pytestmark = pytest.mark.xdist_group("mypy")
APP = Path(__file__).with_name("typed_app.py")


def checked(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a strict check of *file* says."""
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    cache = ROOT / ".mypy_cache" / "apps"
    options = ["--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={cache}", "--no-error-summary"]
    said, complaint, _ = api.run([*options, str(file)])
    assert not complaint
    return said


def test_a_typed_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that uses all of it, with int ids, passes as it is."""
    assert checked(APP, monkeypatch) == ""


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("Home(1).add('x')", 'has incompatible type "str"; expected "Activity"'),
        ("Home(1.5)", 'has incompatible type "float"'),
        ("PinManager().get_feeds(dt.date.today())", 'has incompatible type "date"'),
        ("Home(1).page()", "Too few arguments"),
        ("PinManager().follow_many(1, 5)", 'has incompatible type "int"; expected "Iterable'),
        ("PinManager().afollow_many(1, 5)", 'has incompatible type "int"; expected "Iterable'),
        ("write(PinManager()).reach", '"FanoutStatus" has no attribute "reach"'),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, said: str) -> None:
    """What is wrong with a call is said: the types are no Any."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(f"{APP.read_text(encoding='utf-8')}\n\n{mistake}\n", encoding="utf-8")
    assert said in checked(wrong, monkeypatch)
