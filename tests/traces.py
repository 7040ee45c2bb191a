"""What is stored that names somebody: a look at all keys, fields, members and values of the storage in force."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from feedmill.msgpack_codec import pack
from feedmill.storage.memory import DATA

#: How all of a key is read, by its type.
_READS: dict[bytes, Callable[[Any], tuple[Any, ...]]] = {
    b"string": lambda key: ("GET", key),
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
}


def spelled(user: Any) -> set[bytes]:
    """A user's id as text, and packed."""
    return {str(user).encode(), pack(user), *([user.bytes] if isinstance(user, uuid.UUID) else [])}


def traces(
    names: Iterable[bytes],
    command: Callable[..., Any] | None = None,
    *,
    is_meant: Callable[[bytes], bool] = lambda key: True,
    beside: Iterable[tuple[str, bytes, list[bytes]]] = (),
) -> list[str]:
    """Where one of *names* stands, and what does. *command* runs a command of Redis; without, it is the storage in memory.

    In which keys it *is_meant* to look for values; keys are all looked at. *beside*: what is stored elsewhere: where, key and values.
    """
    looked, found = tuple(names), list[str]()
    for where, key, values in (*(_in_memory() if command is None else _on_redis(command)), *beside):
        for data in (key, *(values if is_meant(key) else ())):
            if any(each in data for each in looked):
                found.append(f"{where} {key[:80]!r}: {data[:200]!r}")
    return found


def _in_memory() -> Iterator[tuple[str, bytes, list[bytes]]]:
    for name, value in vars(DATA).items():
        if name not in ("guard", "published", "listeners"):  # who listens is no more stored than on Redis
            for key, item in (dict(value) if isinstance(value, dict) else {name: value}).items():
                inside = vars(item) if hasattr(item, "__dict__") else {"": item}
                shown = [each if isinstance(each, bytes) else repr(each).encode() for each in inside.values()]
                yield name, key if isinstance(key, bytes) else repr(key).encode(), [*shown, *_flat(inside)]


def _on_redis(command: Callable[..., Any]) -> Iterator[tuple[str, bytes, list[bytes]]]:
    for key in command("KEYS", "*"):
        kind = command("TYPE", key)
        kind = kind if isinstance(kind, bytes) else kind.encode()
        if kind != b"none":  # its time was over meanwhile
            yield "key", key, list(_flat(command(*_READS[kind](key))))


def _flat(value: Any) -> Iterator[bytes]:
    """All bytes in a nest of dicts, lists and tuples."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(key)
            yield from _flat(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _flat(item)
