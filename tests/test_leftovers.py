"""A run of the tests leaves no process behind, or says which."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.documents import ROOT

CONFTEST = """
from tests import leftovers
leftovers.GRACE = 1.0

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(leftovers.Leftovers())
"""
#: A server that outlives who has started it, with nothing to tell it by but its environment; and one that was ended.
TEST = """
import subprocess, sys
from multiprocessing import resource_tracker
from tests.leftovers import kill_group

STARTED = "import subprocess as s, sys; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL, start_new_session=True).pid)"

def test_leaves():
    pid = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True).stdout
    open("left", "w").write(pid)

def test_ends():
    resource_tracker.ensure_running()  # it ends with the run
    children = "import subprocess, time; subprocess.Popen(['sleep', '600']); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", children], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    kill_group(process)
"""


@pytest.mark.parametrize(
    ("ci", "processes"), [("true", ("-p", "xdist", "-n", "2")), ("", ())], ids=["side by side on CI", "at home"]
)
def test_what_outlives_a_run(tmp_path: Path, ci: str, processes: tuple[str, ...]) -> None:
    """It is named with the test that started it, and ended; on CI the run has failed."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes]
    environ = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*tests: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *tests], cwd=tmp_path, env=environ, capture_output=True, text=True)

    done = run("test_some.py")
    pid = int((tmp_path / "left").read_text())
    assert done.returncode == (1 if ci else 0) and "2 passed" in done.stdout, done.stdout
    (line,) = (each for each in done.stdout.splitlines() if "started by" in each)
    assert line.startswith(f"{pid}: ") and "sleep 600, started by test_some.py::test_leaves" in line
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    done = run("test_some.py::test_ends")
    assert done.returncode == 0 and "outlived" not in done.stdout, done.stdout
