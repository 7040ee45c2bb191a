"""What the methods that a user of Feedmill writes have answered; what makes no sense is refused with the method's name."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from feedmill.errors import DeclarationError
from feedmill.ids import ID_TYPES, EntityId

if TYPE_CHECKING:
    from feedmill.manager.door import Manager

#: Ids that are looked at together.
_AT_ONCE = 500
_PLAIN = {int, str, uuid.UUID}


def many(manager: Manager, method: str, answer: Any, what: str) -> Iterable[Any]:
    """*answer*, if it is more than one thing; text would be taken for its letters."""
    if isinstance(answer, (str, bytes)) or not isinstance(answer, Iterable):
        raise DeclarationError(f"{manager.name}.{method} returned {repr(answer)[:80]}; return {what}")
    return answer


def ids(manager: Manager, method: str, answer: Any) -> Iterator[EntityId]:
    """The ids of *answer* as a stream."""
    stream = iter(many(manager, method, answer, "a list of ids, even of one, or [] for nobody"))
    return _checked(manager, method, stream)


def _checked(manager: Manager, method: str, stream: Iterator[Any]) -> Iterator[EntityId]:
    while some := list(itertools.islice(stream, _AT_ONCE)):
        if not set(map(type, some)) <= _PLAIN:
            for each in some:
                if isinstance(each, bool) or not isinstance(each, ID_TYPES):
                    raise DeclarationError(
                        f"{manager.name}.{method} returned {repr(each)[:80]} among the ids; an id is an int, str or UUID"
                    )
        yield from some
