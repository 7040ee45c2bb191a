"""Somebody who types in what a page says: runs its code blocks, one after the other."""

from __future__ import annotations

import ast
import asyncio
import configparser
import contextlib
import doctest
import importlib
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import pytest
import yaml
from celery import _state
from click.testing import CliRunner
from opentelemetry import trace

from feedmill import registry, settings, verbs
from feedmill.cli.main import main
from feedmill.storage.procedures import aclose
from tests.documents import GUIDES, ROOT, TUTORIAL, Block, commands_of, files_of, prints

#: A command of ours, behind what a shell, a unit file or a Procfile puts in front of it.
_COMMAND = re.compile(r"\s*(?:\w+=|[\w-]+: +)?(?:[A-Z_]+=\S* +|exec +|\$ )*(?:\S*/)?(feedmill|make) +(.*)")
TARGETS = frozenset(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Reader:
    """Runs the blocks of one page in *folder*; what they define stays until the page is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = types.ModuleType("page")
        self.names = self.module.__dict__
        self.printed: str | None = None
        self.loop = asyncio.new_event_loop()

    def read(self, block: Block) -> None:
        """Run *block*; an AssertionError says where it is wrong."""
        for code in block.said("setup"):
            self._run(block, code)
        printed, self.printed = self.printed, None
        kind = {"bash": "sh", "yml": "yaml"}.get(block.language, block.language)
        method = getattr(self, f"_{kind}", None) if re.fullmatch(r"[a-z]+", kind) else None
        assert method is not None, (
            f"{block.where}: nobody knows how to run {block.language or 'a block without language'!r}"
        )
        if kind == "text":
            assert printed is None or prints(printed, block.text), f"{block.where}: what was printed is\n{printed}"
        else:
            method(block)

    # -- Python

    def _python(self, block: Block) -> None:
        if block.file:
            self._write(block)
            if "/" not in block.file and not block.continued:
                self.names.update(vars(importlib.import_module(block.file.removesuffix(".py"))))
        else:
            self.printed = self._run(block, block.text)

    def _write(self, block: Block) -> None:
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if block.continued else "w", encoding="utf-8") as file:
            file.write(f"\n\n{block.text}" if block.continued else block.text)

    def _run(self, block: Block, text: str) -> str:
        code = compile("\n" * block.line + text, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if code.co_flags & inspect.CO_COROUTINE:
                self.loop.run_until_complete(eval(code, self.names))
            else:
                exec(code, self.names)
        return out.getvalue()

    def _pycon(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(
            block.text.replace("…", "..."), self.names, block.where, str(block.page), block.line
        )
        assert test.examples, f"{block.where}: there is no >>> in it"
        report = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=report.write, clear_globs=False)
        self.names.update(test.globs)
        assert not runner.failures, report.getvalue()

    def _text(self, block: Block) -> None:
        """A picture, or what the block before printed."""

    # -- the command line

    def _console(self, block: Block) -> None:
        for command, lines in commands_of(block.text):
            words = shlex.split(command, comments=True)
            assert words[:1] == ["feedmill"], f"{block.where}: only `$ feedmill …` is run here; see tests/documents.py"
            done = CliRunner().invoke(main, words[1:], prog_name="feedmill")
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            assert prints(done.output, "\n".join(lines)), f"{block.where}: `{command}` prints\n{done.output}"
            assert lines or done.exit_code == 0, f"{block.where}: `{command}` ends with {done.exit_code}"

    def _sh(self, block: Block) -> None:
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.where}: {done.stderr}"
        check_words(block)

    # -- files for other tools

    def _ini(self, block: Block) -> None:
        configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
        check_words(block)

    def _yaml(self, block: Block) -> None:
        assert list(yaml.safe_load_all(block.text))
        check_words(block)

    def _dockerfile(self, block: Block) -> None:
        for line in re.sub(r"\\\n", "", block.text).splitlines():
            assert re.match(r"(FROM|USER|COPY|RUN|ENV|CMD) \S|#|$", line), f"{block.where}: {line!r}"
        check_words(block)

    def _html(self, block: Block) -> None:
        opened = re.findall(r"<(/?)(\w+)[^<>]*?(?<!/)>", block.text)
        assert sum(not end for end, _ in opened) == sum(bool(end) for end, _ in opened), f"{block.where}: a tag is open"

    def _json(self, block: Block) -> None:
        json.loads(block.text)


def read_all(reader: Reader, blocks: Iterable[Block], skips: Callable[[Block], bool] = lambda block: False) -> None:
    """Run all *blocks* but those that *skips* says."""
    for block in blocks:
        if skips(block):
            reader.printed = None
        else:
            reader.read(block)


def check_words(block: Block) -> None:
    """Refuse commands, options and settings of Feedmill's, and targets of make, that do not exist."""
    for name in re.findall(r"\bFEEDMILL_(\w+)", block.text):
        assert name.lower() in settings._FIELDS, f"{block.where}: there is no setting FEEDMILL_{name}"
    for line in re.split(r"\n|&&|\|\||;", block.text.replace("\\\n", " ")):
        if found := _COMMAND.match(line):
            program, rest = found.groups()
            if program == "make":
                word = rest.split()[0]
                assert "=" in word or word in TARGETS, f"{block.where}: the Makefile has no target {word!r}"
            else:
                check_command(block, re.split("[#>]", rest)[0].split())


def check_command(block: Block, words: list[str]) -> None:
    """Refuse a command of ``feedmill``, or an option, that does not exist."""
    command: click.Command = main
    if words[:1] in (["-A"], ["--app"]):
        words = words[2:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        known = command.commands
        assert words[0] in known, f"{block.where}: there is no command `feedmill … {words[0]}`"
        command, words = known[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    for word in words:
        option = word.split("=")[0].strip("\"'")
        assert not option.startswith("--") or option in options, f"{block.where}: `{command.name}` has no {option}"


@contextlib.contextmanager
def reading(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in *folder*, who has the files of the tutorial and of the guides; nothing that is declared outlives it."""
    before = set(sys.modules)
    patch.setattr(registry, "_managers", {})
    shipped = {id: verb for id, verb in verbs._verbs.items() if verb.__module__ == verbs.__name__}
    patch.setattr(verbs, "_verbs", shipped)
    patch.setattr(_state._tls, "current_app", getattr(_state._tls, "current_app", None), raising=False)
    patch.setattr(_state, "default_app", _state.default_app)
    patch.syspath_prepend(str(folder))
    patch.chdir(folder)
    for name, text in {**files_of(TUTORIAL), **files_of(GUIDES)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    settings.configure(modules="pins")
    reader = Reader(folder)
    sys.modules["page"] = reader.module
    try:
        yield reader
    finally:
        reader.loop.run_until_complete(aclose())
        reader.loop.close()
        # A page that sets one for the whole process has it send spans in a thread.
        getattr(trace.get_tracer_provider(), "shutdown", lambda: None)()
        for name in set(sys.modules) - before:
            places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", [])]
            if name == "page" or any(place and folder in Path(place).parents for place in places):
                del sys.modules[name]
