"""The audit of dependencies: a hole fails, and not having been able to look is never told as having found nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit.py"
SOUND = {"name": "redis", "version": "6.4.0", "vulns": []}
HOLED = {"name": "celery", "version": "5.7.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.7.1"]}]}
OURS = {"name": "feedmill", "skip_reason": "distribution marked as editable"}
UNKNOWN = {"name": "vine", "skip_reason": "Dependency not found on PyPI and could not be audited: vine (5.1.0)"}


def audit(tmp_path: Path, answers: dict[str, list[dict[str, Any]] | None], *options: str) -> tuple[int, str]:
    """Exit status and output where each database gives these *answers*; None: it cannot be reached."""
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\nanswers = json.loads({json.dumps(json.dumps(answers))})\n"
        "answer = answers[sys.argv[sys.argv.index('--vulnerability-service') + 1]]\n"
        "sys.exit('no such host') if answer is None else print(json.dumps({'dependencies': answer}))\n"
    )
    stand_in.chmod(0o755)
    command = [sys.executable, str(SCRIPT), str(stand_in), str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_all_known_and_sound(tmp_path: Path) -> None:
    """Every package was looked up and none has a hole: said with their number, exit 0; we ourselves do not count."""
    assert audit(tmp_path, {"pypi": [SOUND, OURS]}) == (0, "audit: 1 packages, no known hole (pypi)\n")


@pytest.mark.parametrize("options", [(), ("--may-be-away",)])
@pytest.mark.parametrize("others", [[SOUND], [SOUND, UNKNOWN]])
def test_a_hole_fails(tmp_path: Path, others: list[dict[str, Any]], options: tuple[str, ...]) -> None:
    """A known hole is named with the version that fixes it, exit 1, whatever else is unknown."""
    status, said = audit(tmp_path, {"pypi": [HOLED, *others]}, *options)
    assert status == 1
    assert "celery 5.7.0: PYSEC-1, fixed in 5.7.1" in said


@pytest.mark.parametrize("first", [None, [UNKNOWN, OURS]], ids=["away", "knows nothing"])
def test_the_next_database_is_asked(tmp_path: Path, first: Any) -> None:
    """Where the first cannot be reached, or knows nothing at all, the second is asked."""
    status, said = audit(tmp_path, {"pypi": first, "osv": [SOUND]})
    assert (status, said.splitlines()[-1]) == (0, "audit: 1 packages, no known hole (osv)")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"pypi": None, "osv": None}, "no such host"),
        ({"pypi": [UNKNOWN], "osv": None}, "NOT DONE at all"),
        ({"pypi": [SOUND, UNKNOWN]}, "NOT DONE for 1 of 2 packages: vine"),
    ],
    ids=["away", "knows nothing", "knows some"],
)
def test_not_having_looked_is_said(tmp_path: Path, answers: Any, said: str) -> None:
    """What could not be looked up is said and fails; where it may be away, it is said and does not."""
    for options, expected in (((), 2), (("--may-be-away",), 0)):
        status, output = audit(tmp_path, answers, *options)
        assert (status, "NOT DONE" in output, said in output) == (expected, True, True), output
