"""Instances in place of ids: the rows of a whole page, with one query for each model that occurs in it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

from django.apps import apps
from django.core.exceptions import ValidationError

from feedmill import id_types
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.contrib.django.project_models import user_model
from feedmill.errors import ActivityError, ArgumentError
from feedmill.feeds.reading import Page
from feedmill.ids import EntityId, split

P = TypeVar("P")

#: Where an activity names somebody or something.
ROLES = ("actor", "object", "target")


def hydrate(page: P, querysets: Iterable[Any] | Mapping[Any, Any] = ()) -> P:
    """*page* with instances as ``actor``, ``object`` and ``target`` of all its activities, those in groups included.

    *page*: a page, a list, or a single activity or group, of any feed; the answer is of the same kind, and *page* itself stays as
    it is. *querysets*: querysets or managers of some models, for example ``[Picture.objects.select_related("owner")]``, or a dict
    with such values; of other models the default manager is asked. There is one query for each model that occurs, and none for a page
    without activities.

    What names a row that is not there is left out: activities, members of groups, and groups without any member
    left; of a single activity or group None is returned. ``activity_count`` and ``actor_count`` of a group are lowered by what was
    left out; members that it counts and does not hold are not looked up. What no model is known for, and what can be no key of
    the user model, stays an id.
    """
    plan = _Plan(page, querysets)
    for wanted in plan.queries():
        wanted.found = wanted.queryset.in_bulk(list(wanted.keys.values()))
    return cast(P, plan.hydrated())


async def ahydrate(page: P, querysets: Iterable[Any] | Mapping[Any, Any] = ()) -> P:
    """:func:`hydrate` for coroutines."""
    plan = _Plan(page, querysets)
    for wanted in plan.queries():
        wanted.found = await wanted.queryset.ain_bulk(list(wanted.keys.values()))
    return cast(P, plan.hydrated())


class _Row(NamedTuple):
    """What an id stands for."""

    #: Whether it is certain that the id names nothing.
    missing: bool
    #: The instance, or the id itself.
    value: Any


class _Wanted:
    """The rows of one model that a page names."""

    def __init__(self, queryset: Any) -> None:
        self.queryset = queryset
        self.field = queryset.model._meta.pk
        while self.field.remote_field is not None:  # the key of a model with a base is that of the base
            self.field = self.field.target_field
        #: Keys as the model has them, by the id that names them.
        self.keys: dict[EntityId, Any] = {}
        self.found: dict[Any, Any] = {}

    def key(self, given: EntityId) -> Any:
        """*given* as a key of the model; None if it can be none."""
        if isinstance(given, str) and "\0" in given:
            return None
        try:
            key = self.field.to_python(given)
            self.field.run_validators(key)
        except (ValidationError, TypeError, ValueError, OverflowError):
            return None
        if isinstance(key, int) and not -(2**63) <= key < 2**63:  # no validator says so before Django 5
            return None
        return key if str(key) == str(given) else None


class _Plan:
    """What is to be asked for a page, and the page that comes of the answers."""

    def __init__(self, page: Any, querysets: Iterable[Any] | Mapping[Any, Any]) -> None:
        self.page = page
        self.items: list[Any] = _items(page)
        self.querysets = _by_type(querysets)
        self.wanted: dict[str | None, _Wanted | None] = {}
        #: Typed ids of models that can have no such key.
        self.impossible: set[EntityId] = set()
        for item in self.items:
            for activity in members(item):
                for role in ROLES:
                    self._want(getattr(activity, f"{role}_id"))

    def _want(self, entity: EntityId | None) -> None:
        if entity is None:
            return
        kind, key = split(entity)
        if kind not in self.wanted:
            self.wanted[kind] = self._rows_of(kind)
        wanted = self.wanted[kind]
        if wanted is not None and entity not in wanted.keys:
            found = wanted.key(key)
            if found is not None:
                wanted.keys[entity] = found
            elif kind is not None:
                self.impossible.add(entity)

    def _rows_of(self, kind: str | None) -> _Wanted | None:
        queryset = self.querysets.get(kind)
        if queryset is None and (model := model_of(kind)) is not None:
            queryset = model._default_manager.all()
        return None if queryset is None else _Wanted(queryset)

    def queries(self) -> Iterator[_Wanted]:
        """What is to be looked up."""
        return (wanted for wanted in self.wanted.values() if wanted is not None and wanted.keys)

    def _row(self, entity: EntityId | None) -> _Row:
        if entity is None:
            return _Row(False, None)
        if entity in self.impossible:
            return _Row(True, entity)
        wanted = self.wanted.get(split(entity).type)
        if wanted is None or entity not in wanted.keys:
            return _Row(False, entity)
        found = wanted.found.get(wanted.keys[entity])
        return _Row(found is None, entity if found is None else found)

    def hydrated(self) -> Any:
        """The page, with what was found."""
        items = [item for item in map(self._item, self.items) if item is not None]
        if isinstance(self.page, Page):
            return dataclasses.replace(self.page, items=items)
        if isinstance(self.page, (Activity, AggregatedActivity)):
            return items[0] if items else None
        return items

    def _item(self, item: Activity | AggregatedActivity) -> Activity | AggregatedActivity | None:
        if isinstance(item, Activity):
            return self._activity(item)
        held = item.activities
        kept = [each for each in map(self._activity, held) if each is not None]
        if held and not kept:
            return None
        return item.restricted(kept, {each.actor_id for each in held if self._row(each.actor_id).missing})

    def _activity(self, activity: Activity) -> Activity | None:
        rows = {role: self._row(getattr(activity, f"{role}_id")) for role in ROLES}
        if any(row.missing for row in rows.values()):
            return None
        other = copy.copy(activity)
        vars(other).update({role: row.value for role, row in rows.items()})
        return other


def members(item: Activity | AggregatedActivity) -> list[Activity]:
    """The activities of an item of a feed."""
    return [item] if isinstance(item, Activity) else item.activities


def _items(page: Any) -> list[Any]:
    if isinstance(page, (Activity, AggregatedActivity)):
        return [page]
    items = list(page.items if isinstance(page, Page) else page)
    for item in items:
        if not isinstance(item, (Activity, AggregatedActivity)):
            raise ArgumentError(
                f"{str(item)[:80]!r} is a {type(item).__name__}; hydrate() takes a page, a list of activities or groups as feeds return"
                " them, or one of these"
            )
    return items


def model_of(kind: str | None) -> Any:
    """The model whose rows ids of the type *kind* name, of None that of users; None without one."""
    named = _named(kind)
    if named is not None and id_types.type_name(named) == kind:
        return named
    found = None
    for model in apps.get_models():
        with suppress(ActivityError):  # the class has no name, so nothing is called so
            if id_types.type_name(model) == kind and (found is None or issubclass(found, model)):
                found = model  # of several in one table, the one that all have
    return found


def _named(kind: str | None) -> Any:
    """The model of that label, or that of users."""
    try:
        return user_model() if kind is None else apps.get_model(kind)
    except (LookupError, ValueError):
        return None


def _by_type(querysets: Iterable[Any] | Mapping[Any, Any]) -> dict[str | None, Any]:
    found: dict[str | None, Any] = {}
    if hasattr(querysets, "model"):
        raise ArgumentError(f"hydrate() takes a list of querysets; write [{querysets.model.__name__}.objects…]")
    for given in querysets.values() if isinstance(querysets, Mapping) else querysets:
        queryset = given.all() if hasattr(given, "all") and hasattr(given, "model") else None
        if queryset is None or isinstance(given, type):
            raise ArgumentError(
                f"{given!r} is no queryset; give hydrate() querysets or managers, such as Picture.objects.select_related('owner')"
            )
        if queryset.query.is_sliced:
            raise ArgumentError(
                f"the queryset of {queryset.model.__name__} is sliced, and rows are looked up by key; give it without [:n]"
            )
        name = id_types.type_name(queryset.model)
        if name in found:
            raise ArgumentError(
                f"two querysets are of {found[name].model.__name__} and {queryset.model.__name__}, which are the same things; give one"
            )
        found[name] = queryset
    return found


__all__ = ["ahydrate", "hydrate"]
