"""The kinds of fan-out that a manager can ask of workers. Each is defined here, and nowhere else."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType

from feedmill.errors import MessageError, UnknownName
from feedmill.storage import activity_state
from feedmill.storage.journal import REPLACING, Succession


class Subject(enum.Enum):
    """What a fan-out is about, which says how its body looks and whom it concerns."""

    #: One activity: the body is its id. It concerns followers, recipients, and who was notified of it by name.
    ACTIVITY = enum.auto()
    #: Many activities of one user: the body is a packed list of their ids. They concern the user's followers.
    ACTIVITIES = enum.auto()
    #: One activity and the users whom the caller named: the body is a packed list of its id and the packed list of them.
    NAMED_USERS = enum.auto()
    #: Activities that are found by what they are about, each of which has a fan-out of its own: the body is a packed list of that.
    FOUND = enum.auto()
    #: The feeds of one user: the body is a packed list of that user and further arguments.
    FEEDS = enum.auto()


@dataclasses.dataclass(frozen=True, eq=False)
class FanoutOperation:
    """One kind of fan-out."""

    #: As records and messages spell it.
    name: str
    #: What it is about.
    subject: Subject
    #: What one message of it asks for, in words: ``{0}`` is how many people a chunk has, ``{1}`` the names of the feeds, and ``{2}`` whose
    #: the activities are and which chunk it is; of one about the feeds of one user they are the values of its body. Empty if no message is sent for it.
    description: str = ""
    #: Whether it puts activities into feeds, takes them out, or brings up to date what is there.
    adds: bool = False
    removes: bool = False
    updates: bool = False
    #: What becomes of a stored activity, of ``feedmill.storage.activity_state``; empty if nothing does.
    change: str = ""
    #: What it does to feeds in which the activity is to be, if that is another thing; and when it is tried again.
    effect: FanoutOperation | None = None
    effect_again: FanoutOperation | None = None
    #: What it makes of an open fan-out about the same.
    succession: Succession = REPLACING
    #: The task that does it, or a chunk of it.
    task: str = "feedmill.deliver"
    #: What the values of its body are, if it is about the feeds of one user, and how many of them are always there.
    arguments: tuple[str, ...] = ()
    fewest: int = 0

    @property
    def only_updates(self) -> bool:
        """Whether it brings up to date what is there, and adds nothing."""
        return self.updates and not self.adds

    def __repr__(self) -> str:
        return self.name


#: Deliver an activity anew, and bring it up to date where it is: it may have been changed on its way.
REDELIVER = FanoutOperation(
    "redeliver",
    Subject.ACTIVITY,
    "deliver 1 activity{2} to {1} feeds of {0}",
    adds=True,
    updates=True,
)
#: Bring an activity up to date where a timeline holds all of it. A later attempt may find that an earlier one took it out.
UPDATE = FanoutOperation(
    "update",
    Subject.ACTIVITY,
    "update 1 activity{2} in {1} feeds of {0}",
    updates=True,
    change=activity_state.UPDATED,
    effect_again=REDELIVER,
)
#: In place of an update that is not finished it has to do that as well.
ADD = FanoutOperation(
    "add",
    Subject.ACTIVITY,
    "deliver 1 activity{2} to {1} feeds of {0}",
    adds=True,
    change=activity_state.ADDED,
    succession=Succession(absorbs=(UPDATE.name, REDELIVER.name), becomes=REDELIVER.name),
)
#: The same where there are filters: they may say another thing than when what is not finished asked them, and what that wrote
#: must go.
FILTERED_ADD = dataclasses.replace(
    ADD,
    succession=Succession(absorbs=(ADD.name, "remove", UPDATE.name, REDELIVER.name), becomes=REDELIVER.name),
)
#: What messages call the addition of several activities to the same people, in place of the kind; fan-outs are never of it. A
#: release that does not know it leaves such a message to others.
TOGETHER, TOGETHER_DESCRIPTION = "add_together", "deliver {3} activities{2} to {1} feeds of {0}"
#: Where the activity is to be it has been overtaken.
REMOVE = FanoutOperation(
    "remove",
    Subject.ACTIVITY,
    "take 1 activity{2} from {1} feeds of {0}",
    removes=True,
    change=activity_state.REMOVE,
    effect=REDELIVER,
)
IMPORT = FanoutOperation(
    "import",
    Subject.ACTIVITIES,
    "deliver many activities{2} to {1} feeds of {0}",
    adds=True,
    change=activity_state.IMPORT,
)
#: Deliver an import anew where there are filters: what it was may have been written where it may not be now.
REIMPORT = FanoutOperation(
    "reimport", Subject.ACTIVITIES, "deliver many activities{2} to {1} feeds of {0}", adds=True, updates=True
)
#: An import where there are filters; as an addition there.
FILTERED_IMPORT = dataclasses.replace(
    IMPORT, succession=Succession(absorbs=(IMPORT.name, REIMPORT.name), becomes=REIMPORT.name)
)
NOTIFY = FanoutOperation("notify", Subject.NAMED_USERS, adds=True, change=activity_state.NOTIFY, effect=ADD)
UNNOTIFY = FanoutOperation("unnotify", Subject.NAMED_USERS, removes=True, change=activity_state.UNNOTIFY, effect=ADD)
#: All activities of a target out of the feeds of a user, and then the newest in: what was removed before the user followed
#: again was not taken from their feeds.
REFOLLOW = FanoutOperation(
    "refollow",
    Subject.FEEDS,
    "{0} follows {1} again",
    adds=True,
    removes=True,
    task="feedmill.refollow",
    arguments=("user", "target", "limit"),
    fewest=2,
)
#: The newest activities of a target into the feeds of a user, at most so many. In place of an unfollow that is not finished it
#: has to do that as well.
FOLLOW = FanoutOperation(
    "follow",
    Subject.FEEDS,
    "{0} follows {1}",
    adds=True,
    succession=Succession(absorbs=("unfollow", REFOLLOW.name), becomes=REFOLLOW.name),
    task="feedmill.follow",
    arguments=("user", "target", "limit"),
    fewest=2,
)
#: All activities of a target out of the feeds of a user.
UNFOLLOW = FanoutOperation(
    "unfollow",
    Subject.FEEDS,
    "{0} unfollows {1}",
    removes=True,
    task="feedmill.unfollow",
    arguments=("user", "target", "limit"),
    fewest=2,
)
#: Activities of an actor out of all feeds of a user, those that were there when it was asked for, notifications included.
REMOVE_ACTOR = FanoutOperation(
    "remove_actor",
    Subject.FEEDS,
    "take what {1} did from the feeds of {0}",
    removes=True,
    task="feedmill.remove_actor",
    arguments=("user", "actor", "ids"),
    fewest=2,
)
#: Wait until all activities about an object, which are removed, are out of all feeds.
REMOVE_OBJECT = FanoutOperation("remove_object", Subject.FOUND, removes=True)
#: Wait until all that a user did, which is removed, is out of all feeds, and all that was asked for before is done; then let nothing
#: be left that names them.
DELETE_USER = FanoutOperation("delete_user", Subject.FOUND, removes=True)
#: All feeds of a user anew.
REBUILD = FanoutOperation(
    "rebuild", Subject.FEEDS, "rebuild the feeds of {0}", task="feedmill.rebuild", arguments=("user",), fewest=1
)

_ALL = (
    ADD,
    REMOVE,
    UPDATE,
    REDELIVER,
    IMPORT,
    REIMPORT,
    NOTIFY,
    UNNOTIFY,
    FOLLOW,
    REFOLLOW,
    UNFOLLOW,
    REBUILD,
    REMOVE_ACTOR,
    REMOVE_OBJECT,
    DELETE_USER,
)

#: All of them, by name.
OPERATIONS: Mapping[str, FanoutOperation] = MappingProxyType({each.name: each for each in _ALL})
#: Those that whoever wakes up for what is due plans, and does at once where few people are concerned; the others are sent as
#: one task each when they are opened.
PLANNED = {name: each for name, each in OPERATIONS.items() if each.subject is not Subject.FEEDS}
#: Those of which chunks of people are sent.
CHUNKED = {name: each for name, each in PLANNED.items() if each.subject in (Subject.ACTIVITY, Subject.ACTIVITIES)}


def operation_called(name: str, among: Mapping[str, FanoutOperation] = OPERATIONS) -> FanoutOperation:
    """The operation of that name.

    Raises :class:`~feedmill.errors.UnknownName` for a name that this release does not know (a newer one may: it is left to
    other workers), :class:`~feedmill.errors.MessageError` for one that is known and none of *among*.
    """
    if (found := among.get(name)) is not None:
        return found
    if name in OPERATIONS:
        raise MessageError(f"{name!r} is none of {', '.join(among)}")
    raise UnknownName(
        f"this release of Feedmill knows no fan-out of kind {name[:80]!r}; it knows {', '.join(OPERATIONS)}"
    )
