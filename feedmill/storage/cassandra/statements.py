# ruff: noqa: S608 -- statements are made of constants alone
"""The tables, and every CQL statement that is used of them, by name.

``feed_ids``: the ids of a flat feed, newest first. The id of one zero byte, which sorts last, is the header: about how many there are.

``feed_groups``: a feed of groups in one partition. Kind 0 is its header, one row; kind 1 are the records, a row for each group; kind 2
are the overflow members, a row for each actor of a group. The header holds the *version*, which is another after each commit, and all
that a commit changes of the feed as a whole: state, ranks (score and name of every group) and counts. A header is a row, and no static
columns, so that one query reads it together with the rows that are wanted, at one moment.

Each write to ``feed_groups`` is conditional on the header: a write without a condition would be ordered by a clock, and the others are not.
"""

from __future__ import annotations

from typing import Final

#: Kinds of rows in ``feed_groups``.
HEADER, RECORD, OVERFLOW = 0, 1, 2
#: Seconds that a deletion is remembered for replicas that missed it: repair the tables at least as often.
GC_GRACE = 3 * 86_400

#: The tables by name. 2.1 and all that is newer know every option.
TABLES: Final = {
    "feed_ids": f"""CREATE TABLE IF NOT EXISTS feed_ids (
        feed text, id blob, size int, PRIMARY KEY (feed, id)
    ) WITH CLUSTERING ORDER BY (id DESC)
      AND gc_grace_seconds = {GC_GRACE}
      AND compaction = {{'class': 'LeveledCompactionStrategy'}}""",
    "feed_groups": f"""CREATE TABLE IF NOT EXISTS feed_groups (
        feed text, kind int, grp blob, actor blob,
        version blob, state blob, ranks blob, unseen bigint, unread bigint, seq bigint, data blob,
        PRIMARY KEY (feed, kind, grp, actor)
    ) WITH gc_grace_seconds = {GC_GRACE}
      AND compaction = {{'class': 'LeveledCompactionStrategy'}}""",
}
#: The columns that each table must have.
COLUMNS: Final = {
    "feed_ids": {"feed", "id", "size"},
    "feed_groups": {
        *("feed", "kind", "grp", "actor", "version", "state", "ranks", "unseen", "unread", "seq", "data"),
    },
}

_HEADER_COLUMNS = "version, state, ranks, unseen, unread, seq"
_HEADER_ROW = "feed = ? AND kind = 0 AND grp = 0x AND actor = 0x"

#: Statements by name; their parameters are theirs in order.
STATEMENTS: Final = {
    # -- flat; 0x00, the header, is lower than any id. (An empty one is not, in the descending order of 2.1.)
    "ids_known": "SELECT id, size FROM feed_ids WHERE feed = ? AND id IN ?",
    "ids_newest": "SELECT id FROM feed_ids WHERE feed = ? AND id > 0x00 LIMIT ?",
    "ids_below": "SELECT id FROM feed_ids WHERE feed = ? AND id > 0x00 AND id < ? LIMIT ?",
    "ids_count": "SELECT count(*) FROM feed_ids WHERE feed = ? AND id > 0x00",
    "ids_put": "INSERT INTO feed_ids (feed, id) VALUES (?, ?) USING TIMESTAMP ?",
    "ids_size": "INSERT INTO feed_ids (feed, id, size) VALUES (?, 0x00, ?) USING TIMESTAMP ?",
    "ids_remove": "DELETE FROM feed_ids USING TIMESTAMP ? WHERE feed = ? AND id = ?",
    "ids_delete": "DELETE FROM feed_ids USING TIMESTAMP ? WHERE feed = ?",
    # -- groups: reads
    "header": f"SELECT {_HEADER_COLUMNS} FROM feed_groups WHERE feed = ? AND kind = 0",
    "rows": f"SELECT kind, grp, actor, data, {_HEADER_COLUMNS} FROM feed_groups WHERE feed = ? AND (kind, grp, actor) IN ?",
    "records": f"SELECT kind, grp, actor, data, {_HEADER_COLUMNS} FROM feed_groups WHERE feed = ? AND kind >= 0 AND kind <= 1",
    "overflow": "SELECT actor, data FROM feed_groups WHERE feed = ? AND kind = 2 AND grp = ?",
    "overflow_from": "SELECT actor, data FROM feed_groups WHERE feed = ? AND kind = 2 AND grp = ? AND actor > ? LIMIT ?",
    "first_rows": f"SELECT kind, grp, actor, data, {_HEADER_COLUMNS} FROM feed_groups WHERE feed = ? LIMIT ?",
    # -- what the doctor reads: feeds by their tokens; the names of overflow
    "partitioner": "SELECT partitioner FROM system.local",
    **{
        f"{table}_between": f"SELECT DISTINCT feed FROM {table} WHERE token(feed) > ? AND token(feed) <= ?"
        for table in TABLES
    },
    "ids_there": "SELECT feed FROM feed_ids WHERE feed = ? LIMIT 1",
    "groups_there": "SELECT feed FROM feed_groups WHERE feed = ? LIMIT 1",
    "names_from": "SELECT kind, grp, actor FROM feed_groups WHERE feed = ? AND (kind, grp, actor) > (?, ?, ?) LIMIT ?",
    "overflow_count": "SELECT count(*) FROM feed_groups WHERE feed = ? AND kind = 2 AND grp = ?",
    # -- groups: parts of conditional batches
    "begin": f"INSERT INTO feed_groups (feed, kind, grp, actor, {_HEADER_COLUMNS})"
    " VALUES (?, 0, 0x, 0x, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
    "update": "UPDATE feed_groups SET version = ?, state = ?, ranks = ?, unseen = ?, unread = ?, seq = ?"
    f" WHERE {_HEADER_ROW} IF version = ?",
    "reset": "UPDATE feed_groups USING TTL ? SET version = ?, state = ?, ranks = ?, unseen = ?, unread = ?, seq = ?"
    f" WHERE {_HEADER_ROW} IF version = ?",
    "reset_row": "INSERT INTO feed_groups (feed, kind, grp, actor) VALUES (?, 0, 0x, 0x) USING TTL ?",
    "end": f"DELETE FROM feed_groups WHERE {_HEADER_ROW} IF version = ?",
    "put": "INSERT INTO feed_groups (feed, kind, grp, actor, data) VALUES (?, ?, ?, ?, ?)",
    "remove": "DELETE FROM feed_groups WHERE feed = ? AND kind = ? AND grp = ? AND actor = ?",
    "remove_overflow": "DELETE FROM feed_groups WHERE feed = ? AND kind = 2 AND grp = ?",
    "remove_kind": "DELETE FROM feed_groups WHERE feed = ? AND kind = ?",
    # -- of several feeds, the same of each
    "ids_known_of_feeds": "SELECT feed, id, size FROM feed_ids WHERE feed IN ? AND id IN ?",
    "rows_of_feeds": f"SELECT feed, kind, grp, actor, data, {_HEADER_COLUMNS} FROM feed_groups"
    " WHERE feed IN ? AND (kind, grp, actor) IN ?",
    # -- groups: all of a feed to which nobody writes any more
    "groups_forget": "DELETE FROM feed_groups USING TIMESTAMP ? WHERE feed = ?",
}
#: Statements of which the same is asked of many feeds, and what asks it of several at once: its rows begin with the feed.
OF_FEEDS: Final = {"ids_known": "ids_known_of_feeds", "rows": "rows_of_feeds"}
