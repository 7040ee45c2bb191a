"""Every command and option is described in one style, examples can be typed in, and the shell completes them."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from feedmill.cli import shapes
from feedmill.cli.command import Command
from feedmill.cli.main import main
from tests.cli.samples import invoke, run


def commands(group: click.Group = main, path: str = "feedmill") -> Iterator[tuple[str, click.Command]]:
    """All commands and groups, by what is typed."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands())
#: Words with which a help text would not begin if it said what the command does in the imperative.
NO_IMPERATIVES = ("The", "This", "A", "An", "Shows", "Lists", "How", "For", "Whether")


def test_all_commands_are_there() -> None:
    """None is lost, and each but groups takes --json."""
    assert set(main.commands) == {
        *("demo", "replay", "status", "ping", "metrics", "settings", "fanouts", "cancel", "sweep", "dead", "outbox"),
        *("feeds", "explain", "rebuild", "delete-user", "doctor", "cassandra", "serve", "token"),
    }
    for path, command in ALL.items():
        if not isinstance(command, click.Group):
            assert isinstance(command, Command), path
            assert "--json" in {option for parameter in command.params for option in parameter.opts}, path


@pytest.mark.parametrize("path", ALL)
def test_help_texts(path: str) -> None:
    """A sentence in the imperative, help for each option, a word on each argument, and examples."""
    command = ALL[path]
    text = " ".join((command.help or "").split())
    first = text.split()[0]
    assert first[0].isupper() and first not in NO_IMPERATIVES and text.endswith("."), path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            words = parameter.help or ""
            assert words[:1].isupper() and words.endswith((".", "configure()")), (path, parameter.opts)
            assert parameter.is_flag or parameter.metavar or not isinstance(parameter.type, click.types.StringParamType)
        else:
            name = re.sub(r"\W", "", parameter.make_metavar(click.Context(command)))
            assert name in text or name in ("ID", "FEED"), (path, name)
    printed = run(*path.split()[1:], "--help")
    assert "Examples:" in printed and all(len(line) <= 80 or "$ " in line for line in printed.splitlines()), printed


@pytest.mark.parametrize("path", ALL)
def test_examples_can_be_typed_in(path: str) -> None:
    """Each begins with the command that it is about, and is taken by the parser; groups show some of their commands."""
    lines = re.findall(r"^  \$ (.*)$", ALL[path].epilog or "", re.MULTILINE)
    assert lines
    for line in lines:
        line = line.split(" | xargs ")[-1] if line.endswith("feedmill cancel") else line
        words = shlex.split(line.split(" | ")[0])
        while "=" in words[0]:
            words.pop(0)
        assert words.pop(0) == "feedmill"
        if words[:1] == ["-A"]:
            words = words[2:]
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        assert command is ALL[path] or isinstance(ALL[path], click.Group), line
        if "--follows" not in words and line != "feedmill cancel":  # whose files are not there
            command.make_context("feedmill", list(words))


def test_the_reference_describes_every_shape() -> None:
    """Each key of the JSON is a field with a description, of it or of its class, and the page lists the classes."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    assert ".. automodule:: feedmill.cli.shapes" in page and ".. click:: feedmill.cli.main:main" in page
    described = set()
    for name, shape in vars(shapes).items():
        if dataclasses.is_dataclass(shape):
            assert (shape.__doc__ or "").strip().endswith((".", "`")), name
            described |= set(re.findall(r"``feedmill ([\w -]+)``", shape.__doc__ or ""))
    assert described == {
        path.removeprefix("feedmill ") for path, command in ALL.items() if not isinstance(command, click.Group)
    }


def test_a_near_miss() -> None:
    """A command that does not exist is refused with the usage, and ends with status 2."""
    result = invoke("fanout")
    assert result.exit_code == 2 and "No such command 'fanout'" in result.stderr


FEEDMILL = str(Path(sys.executable).with_name("feedmill"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell(shell: str) -> None:
    """The line of the guide prints a script, without a server and without settings."""
    env = {**os.environ, "_FEEDMILL_COMPLETE": f"{shell}_source", "FEEDMILL_LOCK_TTL": "nonsense"}
    done = subprocess.run([FEEDMILL], env=env, capture_output=True, text=True)
    if done.returncode and "bash" in done.stderr.lower():
        pytest.skip(done.stderr)
    assert done.returncode == 0 and "_FEEDMILL_COMPLETE" in done.stdout
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "complete-commands.md").read_text()
    assert f"_FEEDMILL_COMPLETE={shell}_source feedmill" in guide


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("feedmill st", {"status"}),
        ("feedmill dead ", {"list", "show", "retry", "delete"}),
        ("feedmill status --max-f", {"--max-fanout-age"}),
        ("feedmill replay --recipients ", {"co-actors", "none"}),
        ("feedmill -A proj delete-user --y", {"--yes"}),
    ],
)
def test_what_is_completed(typed: str, offered: set[str]) -> None:
    """Commands, options and choices."""
    env = {**os.environ, "_FEEDMILL_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    env["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    done = subprocess.run([FEEDMILL], env=env, capture_output=True, text=True)
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered, done.stderr
