"""What the methods that a user of Feedmill writes have answered; what makes no sense is refused with the method's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from feedmill.arguments import is_many
from feedmill.errors import DeclarationError
from feedmill.ids import ID_TYPES, EntityId

if TYPE_CHECKING:
    from feedmill.manager.door import Manager

#: What nearly all ids are.
_PLAIN = frozenset(ID_TYPES)


def many(manager: Manager, method: str, answer: Any, what: str) -> Iterable[Any]:
    """*answer*, if it is more than one thing; text would be taken for its letters."""
    if not is_many(answer):
        raise DeclarationError(f"{manager.name}.{method} returned {repr(answer)[:80]}; return {what}")
    return cast(Iterable[Any], answer)


def ids(manager: Manager, method: str, answer: Any) -> Iterator[EntityId]:
    """The ids of *answer* as a stream."""
    return _checked(manager, method, many(manager, method, answer, "a list of ids, even of one, or [] for nobody"))


def _checked(manager: Manager, method: str, stream: Iterable[Any]) -> Iterator[EntityId]:
    for each in stream:  # one at a time: who dies in the middle of a long answer has sent what came before
        if type(each) not in _PLAIN and (isinstance(each, bool) or not isinstance(each, ID_TYPES)):
            raise DeclarationError(
                f"{manager.name}.{method} returned {repr(each)[:80]} among the ids; an id is an int, str or UUID"
            )
        yield each
