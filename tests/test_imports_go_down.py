"""Imports go down: a module may import what lives on its own floor or below, never above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import feedmill

ROOT = Path(feedmill.__file__).parent
FLOORS = {
    9: "cli __main__ tools web contrib testing",
    8: "doctor",
    7: "tasks",
    6: "worker",
    5: "manager",
    4: "fanout",
    3: "feeds",
    2: "grouping",
    1: "storage",
    0: "aggregators records serializers cursor registry settings redis_urls signing keys declaration validation"
    " activity aggregated_activity verbs errors ids msgpack_codec _version",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def floor_of(room: str, where: str) -> int:
    assert room in FLOOR_OF, f"feedmill.{room} ({where}) has no floor; give it one in FLOORS of {Path(__file__).name}"
    return FLOOR_OF[room]


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
    floor = floor_of(path.parts[0].removesuffix(".py"), str(path))
    for line, room in imported(path):
        if not (ROOT / room).is_dir() and not (ROOT / f"{room}.py").is_file():
            assert floor == max(FLOORS), (
                f"{path}:{line} takes {room} from the package itself; import it where it is made"
            )
            continue
        above = floor_of(room, f"imported by {path}:{line}")
        assert above <= floor, f"{path}:{line} (floor {floor}) imports feedmill.{room} (floor {above})"
