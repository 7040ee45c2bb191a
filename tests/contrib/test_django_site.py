"""What ``feedmill.contrib.django`` gives to a site: the project in ``tests/contrib/site``, whose own tests are run by Django.

Each module of them runs in a process of its own: Django is set up once in a process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needed

SITE = Path(__file__).parent / "site"
ROOT = SITE.parent.parent.parent
MODULES = sorted(
    path.stem for path in (SITE / "gallery" / "tests").glob("*.py") if path.stem not in ("__init__", "base")
)


def manage(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` of the site."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:feedmill", "manage.py", *words],
        cwd=SITE,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("module", MODULES)
def test_the_site(module: str) -> None:
    """The tests of this part of the site pass."""
    needed(importlib.util.find_spec("django") and "django", "no Django; pip install 'feedmill[django]'")
    done = manage("test", f"gallery.tests.{module}")
    assert done.returncode == 0 and "Ran 0" not in done.stderr, done.stderr
