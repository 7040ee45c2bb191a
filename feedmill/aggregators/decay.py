"""Groups by what people make of them: many actors lift a group, time lets it sink."""

from __future__ import annotations

import datetime as dt
import math
from typing import ClassVar

from feedmill.aggregated_activity import AggregatedActivity
from feedmill.aggregators.base import BaseAggregator
from feedmill.declaration import check_hooks
from feedmill.errors import DeclarationError
from feedmill.overrides import hook
from feedmill.validation import shown

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


class DecayAggregator(BaseAggregator):
    """Ranks by a weight that halves in each :attr:`half_life`; mix it in before an aggregator that says what a group is::

        class HotAggregator(DecayAggregator, RecentVerbAggregator):
            half_life = datetime.timedelta(hours=6)

    The score is ``log2(weight) + time / half_life``: a group of twice the weight stands where a group that is one
    half-life newer stands. Weights that all decay at one rate keep their order, so what is stored never has to be
    rewritten as time goes by. It is the idea of Reddit's "hot" ranking, ``log10(votes) + seconds / 45000`` (``_hot`` in
    ``r2/r2/lib/db/_sorts.pyx`` of the open-sourced reddit), where ten times the votes are worth 12.5 hours. Decay by a
    power of the age, as Hacker News has it, changes the order as time goes by and cannot be stored.
    """

    #: In this time a weight counts half.
    half_life: ClassVar[dt.timedelta] = dt.timedelta(hours=12)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        check_hooks(cls, "weight")
        if not isinstance(cls.half_life, dt.timedelta) or cls.half_life <= dt.timedelta(0):
            raise DeclarationError(f"{cls.__name__}.half_life is {cls.half_life!r}; use a positive timedelta")

    @hook
    def weight(self, aggregated: AggregatedActivity) -> float:
        """How much the group counts while it is new, above 0: by default how many people it is of."""
        return aggregated.actor_count

    def score(self, aggregated: AggregatedActivity) -> float:
        """``log2(weight) + time / half_life``; the time is that of the newest activity."""
        weight = self.weight(aggregated)
        if not _is_weight(weight):
            raise DeclarationError(
                f"{type(self).__name__}.weight gave {shown(weight)} for {aggregated!r}; return a number above 0"
            )
        assert aggregated.updated_at is not None
        return math.log2(weight) + (aggregated.updated_at - _EPOCH) / self.half_life


def _is_weight(value: object) -> bool:
    try:
        return not isinstance(value, bool) and 0 < value < math.inf  # type: ignore[operator]
    except TypeError:
        return False
