"""The one place where msgpack is spoken: ids, contexts and messages to bytes and back."""

from __future__ import annotations

import datetime as dt
import functools
import re
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import msgpack

from feedmill.errors import CorruptRecord

#: msgpack extension type that carries a UUID as its 16 bytes. Besides it only msgpack's own timestamps are read.
UUID_EXT = 1
#: Bytes, and lists inside lists, that a value may have at most. What is beyond was not made by Feedmill, and reading it
#: could cost any amount of memory or stack.
MAX_BYTES, MAX_DEPTH = 16 * 1024 * 1024, 32
#: How msgpack reads; an extension type is never longer than a UUID.
_READING: dict[str, Any] = {"timestamp": 3, "raw": False, "strict_map_key": False, "max_ext_len": 16}
_CONTAINERS = frozenset((list, dict))


def _default(value: object) -> object:
    if isinstance(value, uuid.UUID):
        return msgpack.ExtType(UUID_EXT, value.bytes)
    if isinstance(value, dt.datetime):
        raise TypeError(f"naive datetime {value!r}; give it a timezone, e.g. tzinfo=datetime.timezone.utc")
    raise TypeError(
        f"{type(value).__name__} {value!r}; use str, int, float, bool, None, bytes, datetime, UUID, lists and dicts"
    )


def _ext_hook(code: int, data: bytes) -> object:
    if code == UUID_EXT:
        return uuid.UUID(bytes=data)
    raise ValueError(f"extension type {code} is unknown")


class _Packers(threading.local):
    """One packer a thread: to make one takes longer than to pack what is mostly packed."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(default=_default, datetime=True, use_bin_type=True).pack


_packers = _Packers()


def pack(value: Any) -> bytes:
    """Bytes of *value*; the same value always gives the same bytes.

    Raises ``TypeError``, ``ValueError`` or ``OverflowError`` for what msgpack cannot carry.
    """
    return _packers.pack(value)  # type: ignore[no-any-return]


def unpack(data: bytes) -> Any:
    """The value that :func:`pack` made *data* from; :class:`CorruptRecord` for anything else.

    More than :data:`MAX_BYTES`, or lists more than :data:`MAX_DEPTH` deep, are refused as well.
    """
    _check_size(data)
    try:
        value = msgpack.unpackb(data, ext_hook=_ext_hook, **_READING)
    except Exception as error:  # msgpack raises a dozen unrelated types for bad input
        raise CorruptRecord(f"{len(data)} bytes are not valid msgpack: {error}") from error
    if type(value) in _CONTAINERS:
        _check_depth(value, MAX_DEPTH)
    return value


def _unpacker(data: bytes) -> Any:
    """Reads values out of *data* one after the other."""
    _check_size(data)
    # A list says how long it is before it says what it holds, and memory is taken by what it says.
    most = len(data)
    unpacker = msgpack.Unpacker(ext_hook=_ext_hook, max_array_len=most, max_map_len=most, **_READING)
    unpacker.feed(data)
    return unpacker


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise CorruptRecord(f"{len(data):,} bytes are more than any value has; the limit is {MAX_BYTES:,}")


def _check_depth(value: Any, remaining: int) -> None:
    """Refuse what is nested deeper than *remaining*; cheap for a list of plain values, which nearly all are."""
    items = value if type(value) is list else value.values()
    if _CONTAINERS.isdisjoint(map(type, items)):
        return
    for item in items:
        if type(item) in _CONTAINERS:
            if remaining <= 1:
                raise CorruptRecord(f"lists and dicts are nested deeper than {MAX_DEPTH}")
            _check_depth(item, remaining - 1)


def unpack_stream(data: bytes) -> list[Any]:
    """All values of a run of packed values, in order; refused as by :func:`unpack`."""
    unpacker = _unpacker(data)
    values = []
    try:
        while unpacker.tell() < len(data):
            values.append(unpacker.unpack())
    except Exception as error:
        raise CorruptRecord(f"{len(data)} bytes are not a run of msgpack values: {error}") from error
    _check_depth(values, MAX_DEPTH + 1)
    return values


def split_stream(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """The values of a run of packed short lists, each with its bytes; :class:`CorruptRecord` where none can be read.

    The run may have any length; a value may not be longer than :data:`MAX_BYTES`.
    """
    unpacker = msgpack.Unpacker(ext_hook=_ext_hook, max_array_len=64, max_map_len=64, max_buffer_size=0, **_READING)
    start = at = 0
    while start < len(data):
        try:
            if at < len(data):
                unpacker.feed(data[at : at + MAX_BYTES])
                at += MAX_BYTES
            value = unpacker.unpack()
        except msgpack.OutOfData as error:
            if at < len(data):
                continue
            raise CorruptRecord("the last of a run of msgpack values is cut short") from error
        except Exception as error:
            raise CorruptRecord(f"{len(data) - start} bytes are not a run of msgpack values: {error}") from error
        stop = unpacker.tell()
        if type(value) in _CONTAINERS:
            _check_depth(value, MAX_DEPTH)
        yield data[start:stop], value
        start = stop


def pack_list(*values: bytes) -> bytes:
    """The bytes of a list of up to 15 *values* that are packed already."""
    return bytes((0x90 + len(values),)) + b"".join(values)


def short_id(packed: bytes) -> bytes:
    """A packed id as it stands in a row: an int from 2**16 to 2**20 takes three bytes, one up to 2**28 four, in place of five.

    They begin as no packed id does. Any other id stays as it is.
    """
    if packed[0] != 0xCE or packed[1] > 0x0F:
        return packed
    if packed[1] or packed[2] > 0x0F:
        return bytes((0x90 | packed[1],)) + packed[2:]
    return bytes((0x80 | packed[2],)) + packed[3:]


def long_id(short: bytes) -> bytes:
    """The packed id that :func:`short_id` made *short* from."""
    first = short[0]
    if not 0x80 <= first < 0xA0:
        return short
    return (b"\xce\0" if first < 0x90 else b"\xce") + bytes((first & 0x0F,)) + short[1:]


def split_rows(data: bytes, size: int) -> list[tuple[bytes, bytes]]:
    """What :func:`unpack_rows` gives, the ids as they stand there (:func:`short_id`)."""
    rows, at, end = [], 0, len(data)
    try:
        while at < end:
            start = at + size
            stop = start + (_SIZES[data[start]] or _long_size(data, start))
            rows.append((data[at:start], data[start:stop]))
            at = stop
    except IndexError as error:
        raise CorruptRecord(f"{end} bytes are not a run of rows: the last is cut short") from error
    if at != end:
        raise CorruptRecord(f"{end} bytes are not a run of rows: the last is cut short")
    return rows


def _long_size(data: bytes, at: int) -> int:
    """The size of the packed str at *at*, which is longer than 31 bytes."""
    width = {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(data[at])
    if width is None:
        raise CorruptRecord(f"{len(data)} bytes are not a run of rows: {data[at]:#x} begins no id")
    return 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")


#: The size of an id in a row by its first byte; 0 where that alone does not tell.
_SIZES = [0] * 256
_SIZES[:0x80] = [1] * 0x80
_SIZES[0xE0:] = [1] * 0x20
_SIZES[0x80:0x90] = [3] * 16
_SIZES[0x90:0xA0] = [4] * 16
_SIZES[0xA0:0xC0] = range(1, 33)
_SIZES[0xCC:0xD4] = [2, 3, 5, 9] * 2
_SIZES[0xD8] = 18


#: Patterns of what is surely a packed id (a number, a UUID, or a short text of ASCII), with None as well, a verb's id, or bytes:
#: those of which the size (1) and the rest are groups. For patterns with ``re.DOTALL``.
PACKED_ID = (
    rb"(?:[\x00-\x7f\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xce\xd2]....|[\xcf\xd3].{8}|\xd8\x01.{16}|"
    + b"|".join(re.escape(bytes((0xA0 + size,))) + rb"[\x00-\x7f]{%d}" % size for size in range(1, 32))
    + rb")"
)
#: The same as it stands in a row.
ROW_ID = PACKED_ID[:-1] + rb"|[\x80-\x8f]..|[\x90-\x9f]...)"
PACKED_ID_OR_NONE = PACKED_ID[:-1] + rb"|\xc0)"
PACKED_VERB_ID = rb"[\x01-\x7f]|\xcc.|\xcd.."
PACKED_BYTES = rb"\xc4(.)(.*)"


@functools.lru_cache(maxsize=1024)
def packed_verb_id(packed: bytes) -> int:
    """The id of which :data:`PACKED_VERB_ID` is the pattern."""
    return packed[0] if len(packed) == 1 else int.from_bytes(packed[1:], "big")


def are_rows(data: bytes, size: int, number: int) -> bool:
    """Whether :func:`unpack_rows` surely finds *number* rows of an id each in *data*; if not, only trying can tell."""
    return bool(data and number) and (
        _are_of_one_width(data, size, number) or _rows_match(size, number)(data) is not None
    )


def _are_of_one_width(data: bytes, size: int, number: int) -> bool:
    """:func:`are_rows` of rows whose ids are numbers or UUIDs of one width, which takes no look at each."""
    width, rest = divmod(len(data), number)
    if rest or width <= size:
        return False
    first = data[size::width]
    kind = first[0]
    if _SIZES[kind] != width - size or 0xA0 <= kind < 0xC0:
        return False
    if kind < 0x80:
        return max(first) < 0x80
    alike = SHORT_KINDS.get(first[:1], first[:1])
    return not first.strip(alike) and (kind != 0xD8 or data[size + 1 :: width].count(UUID_EXT) == number)


#: First bytes of short ids, each with all of its width.
SHORT_KINDS = {bytes((0x80 + at,)): bytes(range(0x80 + at // 16 * 16, 0x90 + at // 16 * 16)) for at in range(32)}


@functools.lru_cache(maxsize=256)
def _rows_match(size: int, number: int) -> Any:
    return re.compile(rb"(?:.{%d}%b){%d}" % (size, ROW_ID, number), re.DOTALL).fullmatch


def unpack_rows(data: bytes, size: int) -> list[tuple[bytes, Any]]:
    """A run of rows of *size* bytes and an id each (:func:`short_id`); :class:`CorruptRecord` for anything else."""
    _check_size(data)
    alike = SHORT_KINDS.get(data[size : size + 1])
    if alike:
        width = size + _SIZES[data[size]]
        if not len(data) % width and not data[size::width].strip(alike):  # all of one width, as nearly always
            number, mask = int.from_bytes, (1 << 8 * (width - size) - 4) - 1
            return [
                (data[at : at + size], number(data[at + size : at + width], "big") & mask)
                for at in range(0, len(data), width)
            ]
        return [(row, unpack(long_id(value))) for row, value in split_rows(data, size)]
    unpacker = _unpacker(data)
    rows = []
    try:
        while unpacker.tell() < len(data):
            rows.append((unpacker.read_bytes(size), unpacker.unpack()))
    except Exception as error:
        failed: Exception | None = error
    else:
        failed = None
    if failed is not None or not _CONTAINERS.isdisjoint([type(value) for _, value in rows]):  # a short id, at best
        try:
            return [(row, unpack(long_id(value))) for row, value in split_rows(data, size)]
        except CorruptRecord as error:
            raise CorruptRecord(f"{len(data)} bytes are not a run of rows: {failed or error}") from error
    return rows
