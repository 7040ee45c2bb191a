"""Keys are spelled here and nowhere else."""

from __future__ import annotations

import functools
import re
import uuid
import zlib
from collections.abc import Iterable

from feedmill import settings
from feedmill.errors import ActivityError, DeclarationError
from feedmill.ids import Entity, EntityId, are_ints, owner_id

#: What is appended to a feed's key for the hash that holds its groups, state and lock.
GROUPS = ":groups"
#: And for the mark that a feed is there, of one that goes when nobody uses it; scripts spell both as well.
PRESENT = ":present"
#: And to the key of the users of an activity's direct notifications, for their numbers.
NUMBERS = ":numbers"
#: And for the list of what came into a feed that hooks were not told yet; scripts spell it as well.
ARRIVALS = ":arrivals"
#: What keys begin with, behind the prefix, that are no feed's: bodies and fan-outs,
_BODIES, _FANOUTS = "a:", "fanout:"
#: and what is due, notices, bodies that a manager keeps, feeds in which something was left, dead letters, what was set aside.
_DUE, _NOTIFIED, _KEPT, _PENDING, _DEAD, _ASIDE = "due:", "notified:", "kept:", "pending:", "dead", "set-aside:"
#: and feeds by when something in them is too old, or by when nobody has used them for too long; the index of activities; who
#: has what hooks are to be told; when a sweep was done; and what an HTTP service remembers of requests.
_AGING, _IDLE, _INDEX, _HOOKS, _SWEPT, _HTTP = "aging:", "idle:", "index:", "hooks:", "swept", "http:"
_OTHERS = _DUE, _NOTIFIED, _KEPT, _PENDING, _DEAD, _ASIDE, _AGING, _IDLE, _INDEX, _HOOKS, _SWEPT, _HTTP
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
#: What means more than itself in a pattern.
_GLOB = re.compile(r"[\[\]*?\\^]")
_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


def user_tag(user_id: Entity) -> str:
    """*user_id* as a Cluster hash tag: all keys of one user share a slot. Id 5 and id "5" are one user."""
    if type(user_id) is int:
        return f"{{{user_id}}}"
    if isinstance(user_id, (str, uuid.UUID)):
        return "{" + str(user_id).translate(_ESCAPES) + "}"
    if not isinstance(user_id, int):
        return user_tag(owner_id(user_id))
    raise ActivityError(f"user id is {user_id!r} of type {type(user_id).__name__}; use an int, str or UUID")


@functools.lru_cache(maxsize=256)
def split_format(key_format: str, prefix: str = "") -> tuple[str, str]:
    """What stands before and behind the user in the keys of *key_format*, which begin with *prefix*.

    Raises :class:`~feedmill.errors.DeclarationError` for a format that does not name the user once.
    """
    marker = "\0"
    try:
        text = key_format % {"user_id": marker} if "%(" in key_format else key_format % marker
    except (TypeError, ValueError, KeyError) as error:
        raise DeclarationError(
            f"key format {key_format!r} is wrong ({error}); use %(user_id)s once, e.g. 'feed:home:%(user_id)s'"
        ) from error
    if text.count(marker) != 1 or "{" in text or "}" in text:
        raise DeclarationError(f"key format {key_format!r} must name %(user_id)s once and hold no braces")
    before, after = text.split(marker)
    return prefix + before, after


def feed_key(key_format: str, user_id: Entity) -> str:
    """The key of *user_id*'s feed; *key_format* has one ``%(user_id)s`` (or ``%s``)."""
    return feed_keys(key_format, (user_id,))[0]


def feed_keys(key_format: str, user_ids: Iterable[Entity]) -> list[str]:
    """The keys of many users' feeds."""
    before, after = split_format(key_format, settings.current().key_prefix)
    users = user_ids if type(user_ids) in (list, tuple) else list(user_ids)
    if are_ints(users):  # as user_tag spells them
        front, back = before + "{", "}" + after
        return [f"{front}{text}{back}" for text in map(str, users)]
    return [before + user_tag(user_id) + after for user_id in users]


def check_format(cls: type, name: str, *, is_key: bool = True) -> None:
    """Raise :class:`~feedmill.errors.DeclarationError` for a format, *cls.name*, that cannot name a key, or not a feed's.

    *is_key*: whether keys are made of it, and not just a name in messages.
    """
    key_format = getattr(cls, name)
    if not isinstance(key_format, str):
        raise DeclarationError(f"{cls.__name__}.{name} is {key_format!r}; use a text such as 'feed:home:%(user_id)s'")
    try:
        before, _ = split_format(key_format)
    except DeclarationError as error:
        raise DeclarationError(f"{cls.__name__}.{name}: {error}") from error
    if not cls.__module__.startswith("feedmill."):  # the command line says in one line what is wrong with settings
        settings.check()
    reserved = _beginnings(_BODIES, _FANOUTS, *_OTHERS) if is_key else ()
    taken = next((each for each in reserved if before.startswith(each)), None)
    if taken is not None:
        raise DeclarationError(
            f"{cls.__name__}.{name} {key_format!r} begins like keys that Feedmill has for itself,"
            f" {taken!r}; begin it otherwise, e.g. {'feed:' + key_format!r}"
        )


def may_meet(first: str, second: str, first_grouped: bool, second_grouped: bool) -> bool:
    """Whether a key of one format may be one of the other, for whichever users; a feed of groups has several keys.

    A user's tag ends at the first brace that closes, so only what stands before and behind it matters.
    """
    (before, after), (other_before, other_after) = split_format(first), split_format(second)
    if before != other_before:
        return False
    if after == other_after:
        return True
    return (first_grouped and _is_beside(other_after, after)) or (second_grouped and _is_beside(after, other_after))


def _is_beside(after: str, groups: str) -> bool:
    """Whether *after* is how keys end that stand beside a feed of groups whose own ends like *groups*."""
    end = groups + GROUPS
    return after == end or after.startswith(end + ":")


def user_of_tag(text: str) -> str:
    """The user that :func:`user_tag` named, without its braces; an int comes back as text, which is the same user."""
    return text.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


def set_aside_key(key: str) -> str:
    """What *key* is called when a doctor has put it out of the way; it stays in its slot."""
    return f"{settings.current().key_prefix}{_ASIDE}{key}"


def activity_key(raw_id: bytes) -> bytes:
    """The key of an activity's body."""
    return settings.current().key_prefix.encode() + _BODIES.encode() + raw_id


def kept_key(manager: str, raw_id: bytes) -> bytes:
    """The key of an activity that *manager* keeps itself, since none of its feeds has an activity storage."""
    return f"{settings.current().key_prefix}{_KEPT}{manager.translate(_ESCAPES)}:".encode() + raw_id


#: In how many slots of a cluster the journal of one manager is. One server is one slot.
PARTITIONS = 1


def partition_of(fanout_id: str) -> int:
    """In which part of its manager's journal a fan-out is; all keys of a part share a slot."""
    return zlib.crc32(fanout_id.encode(errors="surrogateescape")) % PARTITIONS if PARTITIONS > 1 else 0


def named_fanout(manager: str, name: str) -> str:
    """The id of the fan-out that *manager* calls *name*: it says where its keys are."""
    return f"{manager}:{name}"


def is_fanout_name(name: str | bytes) -> bool:
    """Whether a manager may call a fan-out *name*; scripts ask it as well."""
    text = name if isinstance(name, str) else name.decode(errors="replace")
    return _NAME.fullmatch(text) is not None


def split_fanout(fanout_id: str) -> tuple[str, str]:
    """The manager of a fan-out, and what that calls it. An id of something else is of no manager: '' has no fan-outs."""
    manager, _, name = fanout_id.rpartition(":")
    return manager, name


def manager_of_tag(text: str) -> str:
    """The manager whose journal has the hash tag *text*, without its braces."""
    return user_of_tag(text.rpartition(":")[0])


@functools.lru_cache(maxsize=1024)
def _journal_keys(prefix: str, manager: str, partition: int) -> tuple[str, str]:
    """What is due, and what the keys of fan-out records begin with."""
    tag = f"{{{manager.translate(_ESCAPES)}:{partition}}}"
    return f"{prefix}{_DUE}{tag}", f"{prefix}{_FANOUTS}{tag}:"


def fanout_records_prefix(manager: str, partition: int = 0) -> str:
    """What the keys of fan-out records begin with; what follows is what their manager calls the fan-out."""
    return _journal_keys(settings.current().key_prefix, manager, partition)[1]


def fanout_record_key(fanout_id: str) -> str:
    """The key of a fan-out's record."""
    manager, name = split_fanout(fanout_id)
    return fanout_records_prefix(manager, partition_of(fanout_id)) + name


def chunks_key(fanout_id: str) -> str:
    """The key of the chunks of a fan-out that are not done; scripts spell it as well."""
    return fanout_record_key(fanout_id) + ":chunks"


def due_key(manager: str, partition: int = 0) -> str:
    """The sorted set of a manager's unfinished fan-outs, by when they must be looked at."""
    return _journal_keys(settings.current().key_prefix, manager, partition)[0]


def wakeup_key(manager: str, partition: int = 0) -> str:
    """The key that is there while a message is on its way that tells workers to look at what is due."""
    return due_key(manager, partition) + ":wakeup"


def clock_key(manager: str, partition: int = 0) -> str:
    """The key of the clock by which fan-outs are due; it never goes back."""
    return due_key(manager, partition) + ":clock"


def fanout_keys(fanout_id: str) -> list[str]:
    """Clock, fan-out record, chunks, and what is due: one slot."""
    manager, name = split_fanout(fanout_id)
    due, beginning = _journal_keys(settings.current().key_prefix, manager, partition_of(fanout_id))
    record = beginning + name
    return [due + ":clock", record, record + ":chunks", due]


def taken_key(manager: str, wakeup_id: str, partition: int = 0) -> str:
    """The key that knows which claims were taken in answer to the message *wakeup_id*."""
    return f"{due_key(manager, partition)}:taken:{wakeup_id}"


def bucket_key(manager: str, author: EntityId, partition: int = 0) -> str:
    """The key that knows how fast *author* starts fan-outs in *manager*."""
    return f"{due_key(manager, partition)}:author:{author}"


def unfollows_keys(manager: str) -> tuple[str, str, str, str]:
    """Who has unfollowed whom; who follows again; whose feeds are rebuilt (sorted sets); and the numbers of these (a hash)."""
    return _unfollows_keys(settings.current().key_prefix, manager)


@functools.lru_cache(maxsize=1024)
def _unfollows_keys(prefix: str, manager: str) -> tuple[str, str, str, str]:
    beginning = f"{prefix}{_DUE}{{{manager.translate(_ESCAPES)}}}:unfollows"
    return beginning, beginning + ":undone", beginning + ":rebuilt", beginning + ":numbers"


def pending_key(key_format: str) -> str:
    """The sorted set of those in whose feeds of *key_format* something was left, by when to look at them."""
    return f"{settings.current().key_prefix}{_PENDING}{key_format}"


def aging_key(key_format: str) -> str:
    """The sorted set of those in whose feeds of *key_format* something will be too old, by when to look at them."""
    return f"{settings.current().key_prefix}{_AGING}{key_format}"


def idle_key(key_format: str) -> str:
    """The sorted set of those whose feeds of *key_format* go when nobody uses them, by when to look at them."""
    return f"{settings.current().key_prefix}{_IDLE}{key_format}"


def index_key(manager: str, bucket: int) -> str:
    """The list of a bucket of a manager's index of activities."""
    return f"{settings.current().key_prefix}{_INDEX}{{{manager.translate(_ESCAPES)}:{bucket}}}"


#: In how many slots of a cluster it is known who has what hooks of one manager are to be told.
HOOK_BUCKETS = 64


def hook_bucket(user_id: Entity) -> int:
    """In which bucket it is known that hooks are to be told what came to *user_id*."""
    return zlib.crc32(user_tag(user_id).encode()) % HOOK_BUCKETS


def hook_keys(manager: str, bucket: int) -> tuple[str, str, str]:
    """Of a bucket: owners of lists that hooks are to be told (sorted set), how often that was tried (hash), and who is at it."""
    return _hook_keys(settings.current().key_prefix, manager, bucket)


@functools.lru_cache(maxsize=1024)
def _hook_keys(prefix: str, manager: str, bucket: int) -> tuple[str, str, str]:
    due = f"{prefix}{_HOOKS}{{{manager.translate(_ESCAPES)}:{bucket}}}"
    return due, due + ":attempts", due + ":holder"


def hooks_wakeup_key(manager: str) -> str:
    """The key that is there while a message is on its way that tells workers to call the hooks of *manager*."""
    return f"{settings.current().key_prefix}{_HOOKS}{{{manager.translate(_ESCAPES)}}}:wakeup"


def told_dead_letter_key(manager: str) -> str:
    """The key that holds the id of the last dead letter that the hook of *manager* was told."""
    return f"{settings.current().key_prefix}{_HOOKS}{{{manager.translate(_ESCAPES)}}}:dead"


def ended_key(manager: str, partition: int = 0) -> str:
    """The list of the fan-outs whose end the hook was not told yet; scripts spell it as well."""
    return due_key(manager, partition) + ":ended"


def notified_users_key(manager: str, raw_id: bytes) -> str:
    """The hash of the people of each direct notification of an activity, and of the numbers of the last direct notification and the last removal."""
    return f"{settings.current().key_prefix}{_NOTIFIED}{manager.translate(_ESCAPES)}:{{{raw_id.hex()}}}"


def notification_numbers_key(manager: str, raw_id: bytes) -> str:
    """The sorted set of the direct notifications of an activity, by their numbers."""
    return notified_users_key(manager, raw_id) + NUMBERS


def dead_letters_key() -> str:
    """The stream of dead letters."""
    return f"{settings.current().key_prefix}{_DEAD}"


def swept_key() -> str:
    """The key that knows when the last sweep was done."""
    return f"{settings.current().key_prefix}{_SWEPT}"


def caller_key(caller: str) -> str:
    """The key that knows how many requests *caller*, a hash, sent to an HTTP service."""
    return f"{settings.current().key_prefix}{_HTTP}caller:{caller}"


def request_key(name: str) -> str:
    """The key of a request with an idempotency key; *name*: a hash of that."""
    return f"{settings.current().key_prefix}{_HTTP}request:{name}"


def channel_name(logical: str) -> str:
    """What the channel *logical* is called at the server, where channels know neither databases nor key prefixes.

    The same in database 0 with the default prefix, else ``<database>:<prefix><logical>``.
    """
    current = settings.current()
    return f"{current.deployment}{logical}" if current.apart else logical


def feed_channel(channel: str, key: str) -> str:
    """The channel of the feed *key* of a class whose channels begin with *channel*; scripts spell it as well.

    It has the hash tag of the feed's user, as the key has.
    """
    return f"{channel}:{key}"


def feed_channels_beginning(channel: str, key_format: str) -> str:
    """How the channels of all feeds of *key_format* begin."""
    return feed_channel(channel, split_format(key_format, settings.current().key_prefix)[0] + "{")


def pattern_of(beginning: str) -> str:
    """The pattern, as Redis takes it, of all channels whose names begin with *beginning*."""
    return _GLOB.sub(r"\\\g<0>", beginning) + "*"


def user_of_channel(channel: str, key_format: str, name: str) -> str | None:
    """Whose feed of *key_format* has the channel *name*, as text; None if it is that of none. *channel*: how channels begin."""
    beginning = feed_channels_beginning(channel, key_format)
    end = "}" + split_format(key_format, settings.current().key_prefix)[1]
    tag = name[len(beginning) : len(name) - len(end)]
    named = name.startswith(beginning) and name.endswith(end) and len(name) >= len(beginning) + len(end)
    return user_of_tag(tag) if named and "{" not in tag and "}" not in tag else None


def notified_users_prefix() -> str:
    """What the keys begin with that know who was notified by name."""
    return settings.current().key_prefix + _NOTIFIED


def shared_beginnings() -> tuple[str, ...]:
    """What those keys begin with that are no feed's, no body's and no fan-out's."""
    return tuple(settings.current().key_prefix + each for each in _beginnings(*_OTHERS))


def _beginnings(*names: str) -> tuple[str, ...]:
    return tuple(each.rstrip(":") + ":" for each in names)
