"""The server's settings: what it holds survives a restart, and it never throws a feed away to make room."""

from __future__ import annotations

from collections.abc import Callable

from feedmill.doctor.findings import Finding
from feedmill.errors import StorageError
from feedmill.storage.registry import backend


def unsafe_server(fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Look at the server that holds the feeds."""
    run, facts = backend().run, backend().maintenance.facts
    said = run(facts())
    if not said:
        return
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"it is {policy}: a full server throws away feeds or receipts instead of refusing writes; set noeviction"
        _settle(Finding("unsafe Redis setting", "maxmemory-policy", text), "maxmemory-policy", "noeviction", fix, tell)
    if said.get("aof_enabled") == "0" and not _saves():
        text = "neither appendonly nor save is on: a restart loses everything; set appendonly yes"
        _settle(Finding("unsafe Redis setting", "appendonly", text), "appendonly", "yes", fix, tell)


def _saves() -> bool:
    """Whether snapshots are written; what a server does not tell is not complained about."""
    try:
        return bool(backend().run(backend().maintenance.option("save")))
    except StorageError:
        return True


def _settle(finding: Finding, option: str, value: str, fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    if fix:
        try:
            backend().run(backend().maintenance.option(option, value))
        except StorageError as error:
            text = f"{finding.text}. It could not be set from here: {error}"
            tell(Finding(finding.kind, finding.where, text, mendable=False), False)
            return
    tell(finding, fix)
