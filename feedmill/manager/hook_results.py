"""Checks of what the hooks of a manager returned, one function for each kind of result.

Every path asks through here: what a correct answer would keep out gets in on none of them. What makes no sense as a
whole is refused with the hook's name and what to return. A bad id in a list of people is left out and counted, so that
it harms no other; in the answer of a filter it is a misunderstanding, and nobody passes. *manager* is its name.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from feedmill.activity import Activity
from feedmill.errors import DeclarationError
from feedmill.ids import ID_TYPES, MAX_ID_LENGTH, MAX_INT, MIN_INT, EntityId, are_ints, id_problem
from feedmill.validation import is_many

#: What a list of people is to be.
IDS = "a list of ids, even of one, or [] for nobody"
#: What a filter is to return.
WHO = "those that may pass"
#: What hooks mostly return.
_LISTS = frozenset({list, tuple, set, frozenset, range})
#: Items of a list that are looked at before the first is used.
_SHORT = 10_000
#: Characters of a value that errors show.
_SHOWN = 80


class Skipped:
    """The bad ids that were left out of one fan-out's answers: how many, and the first of them in words."""

    def __init__(self) -> None:
        #: How many.
        self.count = 0
        self._first = ""

    def add(self, hook: str, value: Any, problem: str) -> None:
        """Count *value*, which *hook* returned among the ids."""
        self.count += 1
        if self.count == 1:
            self._first = f"{hook} returned {shown(value)} among the ids; an id {problem}"

    def plus(self, other: Skipped) -> Skipped:
        """Those of both."""
        both = Skipped()
        both.count, both._first = self.count + other.count, self._first or other._first
        return both

    def __str__(self) -> str:
        return f"{self.count} bad {'id was' if self.count == 1 else 'ids were'} left out: {self._first}"


def shown(value: Any) -> str:
    """*value* as errors show it, whatever its repr does."""
    try:
        return repr(value)[:_SHOWN]
    except Exception:
        return f"a {type(value).__name__}"


def ids(manager: str, hook: str, answer: Any, skipped: Skipped | None = None) -> Iterator[EntityId]:
    """The ids of *answer* as a stream. What is no id is left out, and counted in *skipped*."""
    if type(answer) is list and len(answer) <= _SHORT and _are_ints(answer):
        return iter(answer)
    name = f"{manager}.{hook}"
    return _sound(name, _many(name, answer, IDS), Skipped() if skipped is None else skipped)


def _are_ints(answer: list[Any]) -> bool:
    """Whether all are ids that are ints, which is told without a step for each."""
    return are_ints(answer) and (not answer or (min(answer) >= MIN_INT and max(answer) <= MAX_INT))


def _sound(hook: str, stream: Iterable[Any], skipped: Skipped) -> Iterator[EntityId]:
    for each in stream:  # one at a time: who dies in the middle of a long answer has sent what came before
        kind = type(each)
        if kind is int:
            sound = MIN_INT <= each <= MAX_INT
        else:
            sound = kind is str and 0 < len(each) <= MAX_ID_LENGTH and each.isascii()
        if sound or not (problem := id_problem(each)):
            yield each
        else:
            skipped.add(hook, each, problem)


def accepted(manager: str, answer: Any) -> bool:
    """What ``accepts`` said: True or False, or the 1 or 0 of a database that has no booleans.

    Anything else is refused, None and coroutines too: a forgotten return is no yes and no no.
    """
    if answer is True or answer is False or (type(answer) is int and answer in (0, 1)):
        return bool(answer)
    raise _refused(f"{manager}.accepts", answer, "True or False")


def admitted(manager: str, user_ids: Sequence[EntityId], answer: Any) -> list[EntityId]:
    """Those of *user_ids* whom ``filter_user_ids`` let pass; whom it names beside them is not asked about."""
    hook, names = f"{manager}.filter_user_ids", set[str]()
    for each in _many(hook, answer, f"{WHO}, as a list of ids"):
        if isinstance(each, bool) or not isinstance(each, ID_TYPES):
            raise _refused(hook, each, f"the ids of {WHO}", among=True)
        names.add(str(each))
    return [user_id for user_id in user_ids if str(user_id) in names]


def admitted_activities(manager: str, activities: Sequence[Activity], answer: Any) -> list[Activity]:
    """Those of *activities* that ``filter_activities`` let pass; what it names beside them is not asked about."""
    hook, kept = f"{manager}.filter_activities", set[Activity]()
    for each in _many(hook, answer, f"{WHO}, as a list of activities"):
        if not isinstance(each, Activity):
            raise _refused(hook, each, f"the activities {WHO.removeprefix('those ')}", among=True)
        kept.add(each)
    return [activity for activity in activities if activity in kept]


def _many(hook: str, answer: Any, what: str) -> Iterable[Any]:
    """*answer*, if it is a list or a stream; text would be taken for its letters, a mapping for its keys."""
    if type(answer) in _LISTS:
        return cast(Iterable[Any], answer)
    if not is_many(answer) or isinstance(answer, (Mapping, bytearray, memoryview)) or inspect.isawaitable(answer):
        raise _refused(hook, answer, what)
    return cast(Iterable[Any], answer)


def _refused(hook: str, answer: Any, what: str, among: bool = False) -> DeclarationError:
    """The error that says what *hook* returned, and *what* to return."""
    text = f"{hook} returned {shown(answer)}{' among them' if among else ''}; return {what}"
    if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
        text += ", from a plain def: workers have no event loop that would await it"
        with contextlib.suppress(Exception):
            answer.close()  # type: ignore[union-attr]  # else Python warns that nobody awaited it
    return DeclarationError(text)
