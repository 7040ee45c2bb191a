"""Nothing that is read can run: no pickle, no eval, no import of a name that data gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import feedmill

ROOT = Path(feedmill.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
#: Modules that turn bytes into objects or text into programs.
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
    "yaml",
    "code",
    "codeop",
    "runpy",
}
#: Functions that do so, by name or as an attribute.
CALLS = {"eval", "exec", "compile", "__import__", "load_module", "exec_module", "literal_eval"}
#: Functions that import by name, and where the name is a setting that only an operator can give.
IMPORTS = {
    "import_module": {"cli/loading.py", "tasks/configuration.py"},
    "symbol_by_name": {"fanout/publisher.py"},
    "find_spec": {"tasks/configuration.py"},
}
#: Where a shell or another program is started: the private servers of demo and replay, with fixed commands.
PROGRAMS = {"tools/local_servers.py"}


def name_of(call: ast.Call) -> str:
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def complaints(source: str, where: str) -> list[str]:
    """What is wrong with the module *where*."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call):
            name = name_of(node)
            compiles_regex = isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "re.compile"
            if (name in CALLS and not compiles_regex) or where not in IMPORTS.get(name, {where}):
                found.append(f"{where}:{node.lineno}: {name}()")
            if name in ("system", "popen") or any(
                keyword.arg == "shell" and getattr(keyword.value, "value", True) for keyword in node.keywords
            ):
                found.append(f"{where}:{node.lineno}: a shell")
        for name in names:
            if name.partition(".")[0] in MODULES:
                found.append(f"{where}:{node.lineno}: {name}")
            if name.partition(".")[0] == "subprocess" and where not in PROGRAMS:
                found.append(f"{where}:{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_this_module_runs_no_data(path: Path) -> None:
    """This module neither unpickles nor evaluates, and imports by name only what an operator names."""
    assert complaints(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal",
        "eval(text)",
        "exec(text)",
        "builtins.eval(text)",
        "__import__(name)",
        "importlib.import_module(name)",
        "symbol_by_name(name)",
        "import subprocess",
        "os.system(text)",
        "run(text, shell=True)",
        "import yaml.loader",
    ],
)
def test_the_search_finds_it(source: str) -> None:
    """Each way of running data is found."""
    assert complaints(source, "feeds/base.py")
