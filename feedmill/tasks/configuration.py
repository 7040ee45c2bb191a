"""Which configuration Feedmill's own app has: a ``celeryconfig`` of the operator's, if it is meant for it, else ours.

Many projects have a ``celeryconfig.py`` for an app of their own. One is for ours if it says so, by beginning with
``from feedmill.tasks.celeryconfig import *``: then it has :data:`~feedmill.tasks.celeryconfig.FOR_FEEDMILL`.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from feedmill.errors import SettingsError
from feedmill.tasks import celeryconfig as ours

#: What an operator's own file is called.
NAME = "celeryconfig"
#: What makes it ours, in words.
BEGINNING = "from feedmill.tasks.celeryconfig import *"


def _path() -> str:
    """Where the operator's file is; empty if there is none."""
    try:
        spec = find_spec(NAME)
    except ValueError:  # it was put together by hand
        return NAME
    return "" if spec is None else spec.origin or NAME


def _mentions_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "feedmill" in file.read()
    except OSError:
        return True


def chosen() -> tuple[ModuleType, str]:
    """The configuration, and the path of a ``celeryconfig`` that was passed over because it is for another app."""
    path = _path()
    if not path:
        return ours, ""
    try:
        found = importlib.import_module(NAME)
    except Exception as error:
        if _mentions_ours(path):
            raise SettingsError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
        return ours, path
    return (found, "") if getattr(found, "FOR_FEEDMILL", False) else (ours, path)


#: The configuration in force, and the file that was passed over.
CHOSEN, PASSED_OVER = chosen()
