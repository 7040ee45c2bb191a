"""Texts of ``docs/performance.md``: how each table is measured, and why a target is missed. No figures here."""

from __future__ import annotations

from benchmarks.feeds import CHUNK, FLAT, GROUPS, MEMBERS
from benchmarks.hot import WRITERS
from benchmarks.latency import FOLLOWERS
from benchmarks.listening import OWN, SITE
from benchmarks.reads import BRIEF, PAGE
from benchmarks.watched import CROWD, PAGES, POSTS
from benchmarks.year import DAY, LATE, LENGTHS, MARKING, MOST, NEW, SOME_DAYS_AGO, TODAY

#: Title, how it is measured, and the picture, of each section.
SECTIONS: dict[str, tuple[str, str, str]] = {
    "writes": (
        "Deliveries",
        f"""One process delivers one activity into thousands of full timelines, in tasks of {CHUNK} feeds. A full flat feed shows {FLAT:,}
activities, a full feed of groups {GROUPS} groups of {MEMBERS}. The time includes lock, fencing token, merge, trim, counts and publication.

| compared with | what it is |
|---|---|
| *Pipeline floor* | the fewest bare commands for the same result, sent by redis-py with hiredis in pipelines of 100. Flat: `ZADD`. Groups: read a record, write a record, `ZADD`. Notifications: also `SET` and `PUBLISH`. There is no merge, no lock, and no look-up of what to trim |
| *Script floor* | the same commands inside one script for 100 feeds |

The records of the floors have as many bytes as those of Feedmill. Feedmill and the two floors take turns in every round, and ratios are computed within a
round. Quartiles are in brackets. Each round has a group of its own, so groups keep their stated size. Flat feeds have all the lengths that they have in the
long run, so some of them are trimmed in each round.

| row | what is different |
|---|---|
| `notification` | all groups are seen before, so every delivery changes the badge |
| `notification_same_badge` | no delivery changes the badge, and the floors neither set nor publish it |
| `…_new_group` | each delivery starts a group in a full feed, and the oldest group is trimmed |
| `aggregated_late` | the activity is older than those in its group |
| `…_growing` | one group grows all the time: each delivery adds its actor to the overflow, and every sixteenth moves members there |""",
        "deliveries",
    ),
    "folded": (
        "Batches",
        f"""So many activities of one group are delivered at once into thousands of full timelines, in tasks of {CHUNK} feeds. What that costs the server for each
activity is compared with what one activity alone costs it, in turn. A script reads and writes each group once for a batch.""",
        "",
    ),
    "two": (
        "Two workers",
        """Two delivering processes are compared with one. Redis runs on the same machine. *Server busy* is the share of the time in which the one thread of
Redis computes. If it is close to one, Redis is the limit. On two cores, Redis and two workers share the cores.""",
        "",
    ),
    "reads": (
        "Reads",
        f"""`feed[:{PAGE}]` of full timelines is compared with the same commands, sent by redis-py alone, which ignores the answers. Rows `aread_…` are the same
reads from a coroutine. In rows `…_{BRIEF}` groups show {BRIEF} activities (`limit_activities`), and no other bodies are fetched.""",
        "reads",
    ),
    "sizes": (
        "Bytes",
        f"""The number of bytes is `MEMORY USAGE key SAMPLES 0`, on Redis with default settings, over all keys of a feed. It is divided by the {FLAT:,} ids or the {GROUPS}
groups of {MEMBERS} in the feed.

| row | what is different |
|---|---|
| `size_flat_long_run` | the mean size while a feed grows and is trimmed |
| `size_notification_uuid` | actors and objects are UUIDs |
| `…_listpack` | `hash-max-listpack-value` is raised, so Redis stores the whole hash as one listpack. The speed of deliveries is compared with the default setting, in turn |""",
        "",
    ),
    "doctor": (
        "Examination",
        """`feedmill doctor` checks healthy feeds of every kind. It is compared with a bare `SCAN` that reads the same values (`TYPE`, and `GET`, `HGETALL` or
`ZRANGE`) by redis-py with hiredis in pipelines of 100. The ratio compares the CPU time of the process; the two take turns. CPU time per key and
round trips are those of the doctor.""",
        "",
    ),
    "lengths": (
        "Timelines of different lengths",
        "Deliveries into short timelines are compared with deliveries into full ones, in turn. The number is the length: ids of a flat feed, groups of an aggregated feed.",
        "",
    ),
    "year": (
        "A year-old user's feed",
        f"""Feeds as they are after a year: {LENGTHS} lengths, up to the full one; groups of all sizes (bounded Pareto distribution, up to {MOST} members, so that some
have more members than a record holds); the older half of the notifications seen. They are written as on any day: of {DAY} deliveries {TODAY} go to the newest group,
{NEW} start one, {SOME_DAYS_AGO} go to the group of some days before, and {LATE} are older than what their group holds. Between two deliveries one user in {MARKING} marks all. The
script floor writes as many records, of the mean size, and never trims. Rows `year_read_…`: the first page of these feeds, after that day.""",
        "",
    ),
    "scale": (
        "Scale",
        """Activities are added with `add_activity`, and delivered through a separate broker by one real Celery worker. Afterwards all keys are counted, and a sample
of feeds is read.

| row | what is done |
|---|---|
| `scale_page` | the example on the page of the older framework, into aggregated feeds that are full before; compared with the script floor for as many single deliveries |
| `ten_posts_…` | ten activities that one author adds in quick succession, into feeds that exist; compared with ten times the time of one |
| `scale_…` | one activity of one author is delivered to the home feeds and aggregated feeds of that many new followers; compared with the script floor for as many new feeds |

*CPU* is that of all that takes part: the calling process, the worker, the broker and the server of the feeds; it is compared with that of the row of the fewest
followers. *Seconds* is the time until all is delivered. *Worker MB* and *manager MB* are the largest memory of a worker process and of the calling process. *Broker bytes* are the
bytes over the sockets of the broker, in both directions.""",
        "scale",
    ),
    "everyday": (
        "The everyday case",
        """Thousands of authors have a handful of followers each (bounded Pareto distribution), with home feeds and aggregated feeds. One worker delivers all activities,
from `add_activity` until all feeds are written. It is compared with empty Celery tasks on the same broker and pool in the same run.

| row | when messages are sent |
|---|---|
| `…_backlog` | all messages are in the queue before the worker starts |
| `…_stream` | one process sends messages while the worker works |""",
        "",
    ),
    "hot": (
        "A hot feed",
        f"""{WRITERS} processes deliver likes at the same time, one by one, all to one post. This is compared with the same likes on as many posts of as many users. At the end the
group of the owner must contain all likes, and the badge must show one.""",
        "",
    ),
    "latency": (
        "Latency",
        f"""The time from the call of `add_activity` until the first and the last of {FOLLOWERS:,} followers see the activity in their home feeds, with one worker for each
queue.

| row | load |
|---|---|
| `latency_idle` | none |
| `latency_busy` | that many other deliveries are ahead in the same queue |
| `latency_over_backlog` | that many deliveries of low priority wait in the other queue |""",
        "",
    ),
    "listening": (
        "Listening",
        f"""So many badges open in one process, each with a subscription of its own, in a thread and in an event loop; another process
delivers a notification to as many others, and then to each of them. *Seconds* until all are open and have told their first count; memory
that this added; CPU of the listening process for each change of others, of which nothing may arrive, and for each of its own (*µs*), beside
redis-py's own `get_message` on the same channels (*bare*). *CPU × own changes alone*: what the process computes while the whole site changes
{SITE:,} times a second, {OWN} of these changes being its own, over what it computes while those change alone, as evenly, in turn.""",
        "",
    ),
    "watched": (
        "Metrics",
        f"""The same work with `feedmill.contrib.prometheus`, whose counters are in files as in worker processes, and without metrics, in turn, in one process. *CPU*
is that of this process and the server. Without metrics nothing is called: one comparison for each round trip and each task.

| row | what is done |
|---|---|
| `watched_everyday` | {POSTS} authors with a handful of followers each post, and a worker's rounds deliver |
| `watched_crowd` | one author posts to {CROWD:,} followers |
| `watched_read` | the first page of {PAGES} flat feeds is read |""",
        "",
    ),
    "cassandra": (
        "Feeds on Cassandra",
        f"""The same deliveries, single additions and pages to feeds [on Cassandra](how-to/keep-feeds-on-cassandra.md) and on Redis, in turn, into feeds as full as
above; afterwards both hold the same. The servers of a feed on Cassandra are Cassandra and Redis, which has its locks and bodies; *round trips* are waits for either,
and *CQL statements* those of one task, addition or page. What Cassandra does later (compaction) counts only where it falls into a round.

| row | what is done |
|---|---|
| `cassandra_…` | one activity is delivered to many feeds, in tasks of {CHUNK} |
| `cassandra_add_…` | `feed.add(activity)` |
| `cassandra_read_…` | `feed[:{PAGE}]` |""",
        "",
    ),
}

#: What the profile says about a missed target, and what was tried; by the name of the row.
MISSED: dict[str, str] = {
    "flat": """Two commands of the server are left for each feed: one reads the newest id, one appends. Much of the time goes into waiting for
memory, since each feed is looked up in a table, and the front of its string is far from its end. The rest is what Redis takes to call a command from a
script, and what the worker takes for the first hundred keys, before the server has anything to do; on a machine whose cores are busy, for all of
them. Tried, and not kept: appending without a look (a quarter less of the server's time; order, counts and
how many activities were new would have to be worked out by every reader); looking all feeds of a call up at once before, so that they are in the caches
of the processor (slower); calls of 50 and of 250 feeds, and smaller pieces on the way to the server (no difference).""",
    "two_workers": """One worker computes little itself, and sends the next commands while Redis works on the last ones. So Redis is busy most of the time with
one worker already. On two cores the second worker shares the remaining time with Redis and the first worker. Where *server busy* is low in both cases, other
processes used the cores.""",
    "aggregated": """A delivery looks for a lock, for pending writes and for the activity itself before it writes, which the floors do not. How many of their commands that
is worth differs between processors: between two models the ratio changes by a quarter, with the same code.""",
    "notification": """As `aggregated`; the count, the note of what changed, and its publication are one more key.""",
    "doctor": """The doctor reads what the bare scan reads, and decodes and compares it. What it does not do twice is in decision 0066.""",
    "watched": """One counter for each round trip and each activity that is accepted, a microsecond each, as they are in a file that other processes read; and two histograms
for each round. A counter of this process alone, written to the file now and then, would be cheaper, and behind by that much.""",
    "aggregated_growing": """What is above the floor is the second key of a large group, which names its actors, the move of members there, and Lua. In the
profile of the server Lua takes two fifths of the time, a third of that for hashing every byte of each string that a script makes, at two nanoseconds a byte:
the record that was read, what of it stays, and the new one, where the floor makes the first alone. Another fifth is looking up keys and fields that are in no
cache of the processor; the floor does that, too. To see what each part costs, scripts without it took turns with the script as it is. Without naming the actor
of each delivery the server computes a twentieth less. If actors are named only when members move, and readers have to look up those of all others, it is an
eighth. Without the second key, moves and counts altogether it is a quarter: a large group that was nothing but rows would still miss the target. More than half
of what it then lacks is what any delivery lacks, which looks for a lock, for pending writes and for the activity itself; the rest is the bytes of the record.
Tried as well, and not kept: a Bloom filter of the actors in the record (a tenth less, for 32 bytes of each large group and a second way to count actors),
`HEXISTS` for each addition in place of writing the name of its actor (nothing), more members in a record, pending writes looked for only where the lock says
that there are some (a fiftieth), and a record whose front never changes, so that a script makes one long string less (a twenty-fifth). Twice the pipeline floor
would be nearly the script floor itself.""",
    "notification_growing": """As `aggregated_growing`. The state of the feed is one more field to read and to write, and the floor has none where no badge
changes: `notification_same_badge`, whose groups do not grow, is above this floor by as much as the target allows, or more.""",
    "size_aggregated": """Most of the bytes are the record, and most of the record are the ids of its members. The rest is overhead of Redis: an entry of 24
bytes and a slot of the hash table, the name in the hash and in the sorted set, a score, and what the allocator rounds up. For the target the record would have
to be of the size class of 192 bytes, which is twelve bytes a member. But fifteen ids of one day, in order and without the bytes that they share, hold more than
thirteen bytes each that nothing else tells, and bodies are found by whole ids. Shorter ids would have three bytes in place of five to tell apart what one actor
does in one moment: an import with times in seconds would lose activities. Times as differences save less than a byte a member, and no size class. A higher
listpack limit on the server removes the hash table, at the price shown in the table of bytes. What could go is gone: a day at the end of the name of a group
takes three bytes.""",
    "read_flat": """Driver and steps cost less than redis-py's own call. What is above the bare commands is one pattern and one object for each
activity, in one pass: it is told to be sound, and unpacked when somebody looks at it. Ids and bodies may be on different servers, so that no script reads both in
one round trip.""",
    "year_read": """As the reads of full feeds; these pages have fewer bodies, so that the round trips cost less and the rest counts for more.""",
    "read_aggregated": """In the profile, the ids of all members come first: taken out of the records, put in order, and made keys of bodies. Then come the
newest body of each group, which is told to be sound, and objects. Half of the ids would not be needed: `limit_activities` asks for fewer bodies, but by
default a group counts only activities whose bodies are there.""",
    "read_notification": """Redis answers at once and in one piece, so the bare commands take almost no time, and all that Python does counts. An empty
page costs what the bare commands do. The rest is one step for each record: a pattern tells that its front is sound, two slices that its rows are, and
a group and a view are made, which decode when somebody looks. It was tried to check all of a record by one pattern (slower), to remember records by
their bytes (fast only where users share them), and to leave out the check (a page would fail inside a template).""",
    "aread": """As the same read from a thread. What goes out at once is sent without a task and a time limit of its own, so that a round trip of a coroutine
costs less than redis-py's.""",
}


def note(name: str) -> str:
    """What is known about the row *name*, by the longest name that it begins with."""
    found = [key for key in MISSED if name.startswith(key)]
    return MISSED[max(found, key=len)] if found else ""
