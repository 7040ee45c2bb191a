"""Imports go down: a module imports from its own layer or one below, never from above, and never in a cycle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import feedmill

ROOT = Path(feedmill.__file__).parent
LAYERS = {
    9: "cli __main__ tools web contrib testing",
    8: "doctor",
    7: "tasks",
    6: "worker",
    5: "manager compat",
    4: "fanout",
    3: "feeds",
    2: "grouping",
    1: "storage",
    0: "aggregators records serializers cursor group_names revision registry settings redis_urls cassandra_urls signing keys declaration validation"
    " activity aggregated_activity verbs errors ids id_types instance_attributes overrides iteration json_values lifetimes metrics tracing msgpack_codec spelling urlsafe _version",
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def layer_of(package: str, where: str) -> int:
    assert package in LAYER_OF, (
        f"feedmill.{package} ({where}) has no layer; give it one in LAYERS of {Path(__file__).name}"
    )
    return LAYER_OF[package]


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, room) of each import of the package inside the module at *path*."""
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write the whole name instead of a relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "feedmill"
                else [node.module or ""]
            )
        for name in names:
            parts = name.split(".")
            if parts[0] == "feedmill" and len(parts) > 1:
                found.append((node.lineno, parts[1]))
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down(path: Path) -> None:
    """This module imports nothing from a floor above its own, not even inside a function."""
    layer = layer_of(path.parts[0].removesuffix(".py"), str(path))
    for line, package in imported(path):
        if not (ROOT / package).is_dir() and not (ROOT / f"{package}.py").is_file():
            assert layer == max(LAYERS), (
                f"{path}:{line} takes {package} from the package itself; import it where it is made"
            )
            continue
        above = layer_of(package, f"imported by {path}:{line}")
        assert above <= layer, f"{path}:{line} (floor {layer}) imports feedmill.{package} (floor {above})"


def import_graph(root: Path) -> dict[str, set[str]]:
    """By module of the package at *root*, the modules it imports: also in functions, and for type checkers alone."""
    paths = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                names.update(name if name in paths else str(node.module) for name in full.values())
        graph[module] = (names & paths.keys()) - {module}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of *graph* that have several modules, by Tarjan's algorithm."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in graph[module]:
            if other not in numbers:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == numbers[module]:
            component = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(component)

    for module in graph:
        if module not in numbers:
            visit(module)
    return found


def test_no_import_circles() -> None:
    """No modules import each other, however long the way round."""
    graph = import_graph(ROOT)
    found = {frozenset(module.removeprefix("feedmill.") for module in cycle) for cycle in cycles(graph)}
    for cycle in found:
        lines = [f"{one} imports {', '.join(sorted(_short(graph, one) & cycle))}" for one in sorted(cycle)]
        pytest.fail("an import cycle:\n  " + "\n  ".join(lines))


def _short(graph: dict[str, set[str]], module: str) -> set[str]:
    return {other.removeprefix("feedmill.") for other in graph[f"feedmill.{module}"]}


def test_circles_are_seen(tmp_path: Path) -> None:
    """A cycle of four modules, through a package, a function and TYPE_CHECKING, is found; its neighbours are not in it."""
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from pack.a import thing")
    (package / "a.py").write_text("import pack.inner")
    (package / "inner" / "__init__.py").write_text("def f():\n    from pack import b")
    (package / "b.py").write_text("if TYPE_CHECKING:\n    from pack.inner.c import thing")
    (package / "inner" / "c.py").write_text("from pack import a, d")
    (package / "d.py").write_text("import ast")
    assert cycles(import_graph(package)) == [{"pack.a", "pack.inner", "pack.b", "pack.inner.c"}]
