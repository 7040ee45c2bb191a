"""Names of groups as bytes: every name comes back, and one that ends in a day is short."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmill import group_names

DAYS = st.dates().map(str) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True)


@given(st.tuples(st.text(), DAYS | st.just("")).map("".join))
def test_every_name_comes_back(name: str) -> None:
    """Whatever text it is, whether it ends in a day that there is, in another, or in none."""
    data = group_names.encode(name)
    assert group_names.decode(data) == name
    assert group_names.spelled(data) == name.encode()
    assert len(data) <= len(name.encode())


@given(st.lists(st.tuples(st.text(), DAYS | st.just("")).map("".join), unique=True))
def test_names_stay_different(names: list[str]) -> None:
    """No two names are one."""
    assert len(set(map(group_names.encode, names))) == len(names)


@given(st.binary())
def test_any_bytes_are_told(data: bytes) -> None:
    """What is no name can be shown to people, and is refused where only a name will do."""
    assert group_names.decode(data, "replace") or not data
    assert group_names.spelled(data) or not data
    try:
        name = group_names.decode(data)
    except UnicodeDecodeError:
        return
    assert group_names.decode(group_names.encode(name)) == name


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("3-2026-01-01", 5),
        ("3-4711-2026-01-01", 10),
        ("2026-01-01", 3),
        ("3-1970-01-01", 5),
        ("3-1969-12-31", 12),
        ("3-9999-12-31", 12),
        ("3-2026-02-30", 12),
        ("3-2026-1-1", 10),
        ("2026-01-01-3", 12),
        ("3-\u0662\u0660\u0662\u0666-01-01", 16),
    ],
)
def test_size(name: str, size: int) -> None:
    """A day at the end takes three bytes; what only looks like one stays."""
    assert len(group_names.encode(name)) == size


def test_days_keep_their_order() -> None:
    """Groups of one rank are in the order of their days, as their names are."""
    names = [f"3-4711-{dt.date(2025, 12, 1) + dt.timedelta(days=day)}" for day in range(400)]
    assert sorted(names) == sorted(names, key=group_names.encode)


@pytest.mark.parametrize("name", [b"3-2026-01-31", b"\xc3\x28", b"3-\xff", b"\xff\xff"])
def test_what_no_name_is_spelled_as(name: bytes) -> None:
    """What stands nowhere as a name is refused, also if it reads like one."""
    with pytest.raises(UnicodeError):
        group_names.check(name)
    group_names.check(group_names.encode("3-2026-01-31"))
