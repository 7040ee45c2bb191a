"""What the short form leaves out because it is known to fail, each with the reason. Empty when all is well."""

from __future__ import annotations

#: Names of operations, of "context" and "spelling", "old release" and "doctor", and of faults as "fault: <kind>".
OFF: dict[str, str] = {}
