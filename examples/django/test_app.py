"""The example site on Django: its own tests, in a process of their own, since Django is set up once in a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent
ROOT = PROJECT.parent.parent

if importlib.util.find_spec("django") is None and not os.environ.get("CI"):
    pytest.skip("no Django; pip install 'feedmill[django]'", allow_module_level=True)


def manage(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=PROJECT,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_site() -> None:
    """The tests of the project pass."""
    done = manage("test", "orchard")
    assert done.returncode == 0 and "Ran 0" not in done.stderr, done.stderr


def test_the_project() -> None:
    """It has a migration for each model, and the system checks find nothing."""
    for words in (["makemigrations", "--check", "--dry-run"], ["check", "--fail-level", "WARNING"]):
        done = manage(*words)
        assert done.returncode == 0, done.stdout + done.stderr
