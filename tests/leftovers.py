"""What tests have started must end with them: a check behind a whole run, and how a process is ended with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import pytest

#: In the environment of whatever a run starts: the run, and those in which it runs itself, separated by slashes.
RUNS = "TESTS_STARTED_BY"
#: Seconds that processes have which are just ending.
GRACE = 30.0


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill *process*, which was started with ``start_new_session``, and what it has started that is in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Leftovers:
    """A plugin of pytest that looks for processes that outlive the run, names them, and ends them.

    They are known by their environment, or because they come of the process of the run. With ``CI=true`` the run has failed then.
    """

    def __init__(self) -> None:
        self._run = f"{os.environ.get(RUNS, '')}/{uuid.uuid4().hex}"
        os.environ[RUNS] = self._run
        self._found: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        left = self._left()
        until = time.monotonic() + GRACE
        while left and time.monotonic() < until:
            time.sleep(0.1)
            left = self._left()
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._found.append(_described(each))
                each.kill()
        if left and os.environ.get("CI") == "true" and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section("processes that outlived the tests", red=True, bold=True)
            for line in self._found:
                terminalreporter.write_line(line)

    def _left(self) -> Sequence[psutil.Process]:
        found = {each for each in psutil.process_iter() if self._started(each)}
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {*psutil.Process().children(recursive=True)}
        return [each for each in found if _runs(each)]

    def _started(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.pid != os.getpid() and f"{process.environ().get(RUNS, '')}/".startswith(f"{self._run}/")
        return False


def _runs(process: psutil.Process) -> bool:
    """Whether *process* goes on. What Python itself starts for processes that share memory ends when their parent does."""
    with contextlib.suppress(psutil.Error):
        helper = any("multiprocessing.resource_tracker" in word for word in process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and not helper
    return False


def _described(process: psutil.Process) -> str:
    command, test = process.name(), ""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline()) or command
        test = process.environ().get("PYTEST_CURRENT_TEST", "")
    return f"{process.pid}: {command}, started by {test or 'the run'}"
