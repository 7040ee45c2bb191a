"""What the simulator leaves out because it is known to fail, each with the reason. Empty when all is well.

``python -m tests.simulation --everything`` leaves nothing out.
"""

from __future__ import annotations

#: Names of managers and operations; "context", "spelling", "old release", "doctor"; "remove: <how>"; and faults as
#: "fault: <kind>", "fault: <where> <kind>" or "fault: <kind> <amount>".
OFF: dict[str, str] = {
    "ranked": "the doctor takes scores for times",
    "context": "an activity that is added again with another context stands in two groups, or keeps the old one",
    "remove: equal": "what is removed by an equal activity without its context stays in the group of that context",
    "remove: id": "a removal that failed half way and is tried again by id leaves the author's own feed as it was",
    "import": "what is imported after its removal does not stay; what is imported and updated is notified of",
    "notify": "a removal forgets who was notified before the journal knows who must lose it",
    "old release": "imports, follows and rebuilds done by an older worker leave out what it cannot read",
    "spelling": "an unfollow of 5 and a follow of '5' have no order",
    "fault: clock": "an unfollow after the server's clock went back is not seen by who delivers",
}
