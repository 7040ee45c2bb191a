"""What the simulator leaves out because it is known to fail, each with the reason. Empty when all is well.

``python -m tests.simulation --everything`` leaves nothing out.
"""

from __future__ import annotations

#: Names of managers and operations; "listeners", "ahead", "rush", "outlasting", "context", "spelling", "old release", "doctor"; "remove: <how>"; and faults as
#: "fault: <kind>", "fault: <where> <kind>" or "fault: <kind> <amount>".
OFF: dict[str, str] = {}
