"""How the documentation is built: ``make docs``. Why so: decisions/0040-documentation.md."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from sphinx.application import Sphinx
from sphinx.util.inspect import TypeAliasForwardRef

from feedmill import __version__

project = "Feedmill"
author = "the Feedmill authors"
project_copyright = "the Feedmill authors, BSD-3-Clause"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "generated",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    "Entity": "feedmill.ids.Entity",
    "EntityId": "feedmill.ids.EntityId",
    "Followers": "feedmill.manager.Followers",
}
python_use_unqualified_type_names = True
add_module_names = False
# What signatures mention and this documentation does not describe: what is not ours (no other project's inventory is
# fetched: the build needs no network and gives the same pages everywhere), type variables, and inner parts.
nitpick_ignore_regex = [
    ("py:.*", r"(?!feedmill\b).*"),
    ("py:class", r"feedmill\..*\.[A-Z]"),
    ("py:class", r"feedmill\.(ids\.Entity(Id)?|manager\.Followers)"),  # aliases, which older releases do not look for
    ("py:class", r"feedmill\.(feeds\.(watch|query)|records|settings|cursor)\b.*"),
    ("py:class", r"feedmill\.storage\.memory\..*"),
    ("py:class", r"feedmill\.cli\.shapes\..*"),  # described without an index: other classes have the same names
]

html_theme = "furo"
html_title = f"Feedmill {version}"
html_show_sphinx = False
html_copy_source = False


# Inside other types, as in list[EntityId], Sphinx shows this object itself.
TypeAliasForwardRef.__repr__ = lambda self: f"~{self.name}"  # type: ignore[method-assign]


def skip(app: Sphinx, what: str, name: str, obj: object, skips: bool, options: object) -> bool | None:
    """Leave out a feed's operations: steps for those who write to many feeds at once, not for callers."""
    function = getattr(obj, "__func__", obj)
    returns = getattr(function, "__annotations__", {}).get("return", "")
    inner = str(getattr(function, "__module__", "")).startswith(("feedmill.feeds.", "feedmill.grouping.")) and str(
        returns
    ).startswith("Steps[")
    return True if inner else None


def shorten(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Of a coroutine twin only say what it is the twin of."""
    twin = name.rpartition(".")[2].removeprefix("a")
    if inspect.iscoroutinefunction(obj) and what == "method" and name.endswith(f".a{twin}"):
        function = getattr(obj, "__func__", obj)
        if function.__module__.startswith(("feedmill.feeds.", "feedmill.grouping.")) and hasattr(
            function, "__signature__"
        ):
            lines[:] = [f":meth:`{twin}` from a coroutine.", ""]


def setup(app: Sphinx) -> None:
    """Connect what the extensions' options cannot say."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", shorten)
