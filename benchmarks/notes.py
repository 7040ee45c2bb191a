"""Texts of ``docs/performance.md``: how each table is measured, and why a target is missed. No figures here."""

from __future__ import annotations

from benchmarks.feeds import CHUNK, FLAT, GROUPS, MEMBERS
from benchmarks.hot import WRITERS
from benchmarks.latency import FOLLOWERS
from benchmarks.reads import PAGE

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
reads from a coroutine.""",
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
    "scale": (
        "Scale",
        """Activities are added with `add_activity`, and delivered through a separate broker by one real Celery worker. Afterwards all keys are counted, and a sample
of feeds is read.

| row | what is done |
|---|---|
| `scale_page` | the example on the page of the older framework, into aggregated feeds that are full before; compared with the script floor for as many single deliveries |
| `ten_posts_…` | ten activities that one author adds in quick succession, into feeds that exist; compared with ten times the time of one |
| `scale_…` | one activity of one author is delivered to the home feeds and aggregated feeds of that many new followers |

*Seconds* is the time until all is delivered. *Worker MB* and *manager MB* are the largest memory of a worker process and of the calling process. *Broker bytes* are the
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
        """So many badges open in one process, each with a subscription of its own, in a thread and in an event loop; another process
delivers a notification to as many others, and then to each of them. *Seconds* until all are open and have told their first count; memory
that this added; CPU of the listening process for each change of others, of which nothing may arrive, and for each of its own (*µs*), beside
redis-py's own `get_message` on the same channels (*bare*).""",
        "",
    ),
}

#: What the profile says about a missed target, and what was tried; by the name of the row.
MISSED: dict[str, str] = {
    "two_workers": """One worker computes little itself, and sends the next commands while Redis works on the last ones. So Redis is busy most of the time with
one worker already. On two cores the second worker shares the remaining time with Redis and the first worker. Where *server busy* is low in both cases, other
processes used the cores.""",
    "size_aggregated": """Most of the bytes are the record, and most of the record are the ids of its members. The rest is overhead of Redis: the entries of the
hash table and of the sorted set, and the rounding of its allocator. The record cannot be made smaller: for the next smaller size class of the allocator, ids
would lose half of their second hash. A higher listpack limit removes the hash table, at the price shown in the table of bytes.""",
    "read_notification": """Redis answers at once and in one piece, so the bare commands take almost no time. The rest is Python. In the profile, unpacking the rows
of the records comes first, and then unpacking their heads. Members become objects only when the caller uses them.""",
    "aread_notification": """As `read_notification`. A round trip of a coroutine costs more on both sides.""",
}


def note(name: str) -> str:
    """What is known about the row *name*, by the longest name that it begins with."""
    found = [key for key in MISSED if name.startswith(key)]
    return MISSED[max(found, key=len)] if found else ""
