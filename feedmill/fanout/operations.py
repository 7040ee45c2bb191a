"""What can be asked of workers: the op of a fan-out, as the journal and messages spell it."""

from __future__ import annotations

#: About one activity, for everyone it concerns.
ADD, REMOVE = "add", "remove"
#: Bring an activity up to date where a timeline holds all of it; or, if it has not arrived everywhere, deliver it anew.
UPDATE, REDELIVER = "update", "redeliver"
#: About many activities of one user, for the followers alone.
IMPORT = "import"
#: About one activity and the users whom the caller named. The last is asked for by older releases alone: a removal covers
#: these users itself.
NOTIFY, UNNOTIFY, RETRACT = NOTICES = "notify", "unnotify", "retract"
#: About the feeds of one user; each has a task of its own.
FOLLOW, UNFOLLOW, REBUILD = "follow", "unfollow", "rebuild"

#: What puts activities into feeds.
ADDING = (ADD, REDELIVER, IMPORT)
#: What chunks of people may be sent for, and all that is planned by who answers a bell.
FANNED_OUT = (ADD, REMOVE, UPDATE, REDELIVER, IMPORT)
PLANNED = (*FANNED_OUT, *NOTICES)
#: What is sent as one task, at once.
ALONE = (FOLLOW, UNFOLLOW, REBUILD)
