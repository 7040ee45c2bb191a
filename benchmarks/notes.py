"""What the tables of ``docs/performance.md`` mean, and what is known about targets that are missed. No figures here."""

from __future__ import annotations

from benchmarks.feeds import CHUNK, FLAT, GROUPS, MEMBERS
from benchmarks.hot import WRITERS
from benchmarks.latency import FOLLOWERS
from benchmarks.reads import PAGE

#: Title, how it is measured, and the picture, of each section.
SECTIONS: dict[str, tuple[str, str, str]] = {
    "writes": (
        "Deliveries",
        f"""One activity into thousands of full timelines (flat: {FLAT:,} shown; groups: {GROUPS} of {MEMBERS}), in tasks of
{CHUNK}, by one process: lock, fencing token, merge, trim, counts and publication are in it. *Pipeline floor*: the fewest
bare commands for the same result (`ZADD`; or read a record, write a record, `ZADD`; for notifications also `SET` and
`PUBLISH`) by redis-py with hiredis in pipelines of 100, without merging, locks or looking up what to trim. *Script floor*:
the same commands inside one script for 100 feeds. A floor's record has as many bytes as ours.

The three take turns in every round, and ratios are taken within a round; in brackets are the quartiles. Each round has a
group of its own, so groups stay as large as they are said to be. All groups are seen before, so every delivery to
`notification` changes the badge; in `notification_same_badge` none does, and the floors neither set nor publish.
`…_new_group` starts a group in a full feed, and the oldest one goes; `aggregated_late` is older than what its group holds.
`…_growing` adds to one group for ever: each delivery names its actor in the overflow, and every sixteenth moves members there.
Flat feeds are of all the lengths they have in the long run, so some of them are cut back in each round.""",
        "deliveries",
    ),
    "two": (
        "Two workers",
        """Two processes that deliver beside one, with Redis on the same machine. *Server busy* is the part of the time in
which the server's one thread computes: near one, Redis is the limit, and on two cores three processes share them.""",
        "",
    ),
    "reads": (
        "Reads",
        f"""`feed[:{PAGE}]` of full timelines beside the very commands that it sends, sent by redis-py alone, without looking
at the answers. `aread_…` are the same from a coroutine.""",
        "reads",
    ),
    "sizes": (
        "Bytes",
        f"""`MEMORY USAGE key SAMPLES 0` on Redis' default settings over all keys of a feed, divided by its {FLAT:,} ids or
{GROUPS} groups of {MEMBERS}. `size_flat_long_run` is the mean while a feed grows and is cut back; `size_notification_uuid`
has UUIDs as actors and objects. `…_listpack`: what remains when Redis keeps the whole hash as one listpack
(`hash-max-listpack-value` raised), and how fast deliveries then are beside the default, in turn.""",
        "",
    ),
    "doctor": (
        "Examination",
        """`feedmill doctor` over feeds of every kind, all healthy, beside a bare `SCAN` that reads the same values: `TYPE`, and
`GET`, `HGETALL` or `ZRANGE`, by redis-py with hiredis in pipelines of 100. The ratio is that of the CPU time of this process,
taken in turn; CPU and round trips are those of the doctor, for each key and in all.""",
        "",
    ),
    "lengths": (
        "Timelines of different lengths",
        "Deliveries into short and full timelines, in turn: ids of a flat feed, groups of an aggregated one.",
        "",
    ),
    "scale": (
        "Scale",
        """Through `add_activity`, a broker of its own and one real Celery worker. `scale_page`: the example of the older
framework's page, into aggregated feeds that are full before. `scale_…`: one activity of one author to the home and news
feeds of that many new followers; seconds until all is done, the most memory that a worker process and the calling one held,
and bytes over the broker's sockets in both directions. All keys are counted afterwards and a sample is read.""",
        "scale",
    ),
    "everyday": (
        "The everyday case",
        """Thousands of authors with a handful of followers each (bounded Pareto), home and news: add to all feeds done, by one
worker, beside empty Celery tasks on the same broker and pool in the same run. `…_backlog`: all messages wait before the
worker may begin. `…_stream`: they are sent while it works, from one process.""",
        "",
    ),
    "hot": (
        "A hot feed",
        f"""Likes by {WRITERS} processes at once, each delivered by itself, all on one post, beside the same likes on as many posts
of as many people. The owner's group must hold all of them and the badge be one.""",
        "",
    ),
    "latency": (
        "Latency",
        f"""From the call of `add_activity` until the first and the last of {FOLLOWERS:,} followers see the activity in their home
feeds, one worker for each queue. *Busy*: so many other deliveries are ahead in the same queue. *Over backlog*: so many of
low priority wait in theirs.""",
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
    "two_workers": """One worker computes little itself and sends the next commands while the server works on the last, so with one
the server is busy for most of the time it is given. On two cores the second worker has to share what is left with the
server and the first. Where *server busy* is low for both, other processes had the cores.""",
    "size_aggregated": """Most of it is the record, and most of the record are the ids of its members; the rest is Redis' own: the
entries of the hash table and of the sorted set, and what its allocator rounds up. Of the record nothing is left that could
go: the next smaller class of the allocator would need ids that lose half of their second hash. A raised listpack limit takes the hash
table away, at the price in the table below.""",
    "read_notification": """The server answers at once and in one piece, so the bare commands are nearly nothing. The rest is Python; the profile
has the unpacking of the records' rows at its top, then their heads. Members become objects only when someone looks at them.""",
    "aread_notification": """As `read_notification`; a coroutine's round trip costs more on both sides.""",
}


def note(name: str) -> str:
    """What is known about the row *name*, by the longest name that it begins with."""
    found = [key for key in MISSED if name.startswith(key)]
    return MISSED[max(found, key=len)] if found else ""
