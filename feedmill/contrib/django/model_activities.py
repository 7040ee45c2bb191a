"""Activities and follows that follow from rows: there while the row is."""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.apps import apps
from django.db import models
from django.db.models.signals import post_save, pre_delete, pre_save
from django.utils import timezone

from feedmill.activity import Activity
from feedmill.contrib.django import commits, deletion
from feedmill.contrib.django.project_models import with_proxies
from feedmill.errors import DeclarationError, UnknownActivity
from feedmill.ids import EntityId, entity_id
from feedmill.manager import deferral
from feedmill.manager.manager import Manager
from feedmill.verbs import get_verb

_declared: list[ModelDeclaration] = []


class ModelDeclaration:
    """What declarations about the rows of a model have in common."""

    #: The model, or its label, such as ``"pictures.Like"``; its proxies are included. A subclass without one is a base of others.
    model: ClassVar[Any] = None
    #: The manager, or its class.
    manager: ClassVar[Any] = None
    #: The attributes that name attributes of the row, and whether they must; and an instance of the manager, once that is checked.
    _roles: ClassVar[dict[str, bool]] = {}
    _manager: ClassVar[Any] = None

    def when(self, instance: Any) -> bool:
        """Override it to say which rows count, for example those that are published.

        Then it is also asked when an existing row is saved, and what it says decides what becomes of it.
        """
        return True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.model is not None:
            declared = cls()
            _declared[:] = [each for each in _declared if _path(each) != _path(declared)] + [declared]
            if apps.models_ready:
                declared._connect()

    def _connect(self) -> None:
        """Check the declaration, and listen to the model."""
        name = type(self).__name__
        try:
            model: Any = apps.get_model(self.model) if isinstance(self.model, str) else self.model
        except (LookupError, ValueError) as error:
            raise DeclarationError(f"{name}.model is {self.model!r}: {error}") from error
        is_model = isinstance(model, type) and issubclass(model, models.Model)
        if not is_model:
            raise DeclarationError(f"{name}.model is {model!r}; use a model or its label, such as 'pictures.Like'")
        given = self.manager
        if not (isinstance(given, Manager) or (isinstance(given, type) and issubclass(given, Manager))):
            raise DeclarationError(f"{name}.manager is {given!r}; use your feedmill.Manager, or an instance of it")
        type(self)._manager = given() if isinstance(given, type) else given
        self._check_more(model)
        for role, needed in self._roles.items():
            named = getattr(self, role)
            if callable(named) or named == "self" or (named is None and not needed):
                continue
            if not isinstance(named, str) or not named or not hasattr(model, named.partition(".")[0]):
                raise DeclarationError(
                    f"{name}.{role} is {named!r}; use the name of an attribute of {model.__name__}, or a method"
                )
        for each in with_proxies(model):
            pre_save.connect(self._before_save, sender=each, weak=False, dispatch_uid=(_path(self), "saving"))
            post_save.connect(self._on_save, sender=each, weak=False, dispatch_uid=(_path(self), "saved"))
            pre_delete.connect(self._on_deletion, sender=each, weak=False, dispatch_uid=(_path(self), "deleted"))

    def _check_more(self, model: Any) -> None:
        """Check what this kind of declaration has of its own."""

    def _value(self, role: str, instance: Any) -> Any:
        named = getattr(self, role)
        if named is None or callable(named):
            return named(instance) if named else None
        if named == "self":
            return instance
        *path, last = named.split(".")
        for name in path:
            instance = None if instance is None else getattr(instance, name)
        return None if instance is None else _attribute(instance, last)

    def _before_save(self, sender: Any, instance: Any, raw: bool, using: str, **_: Any) -> None:
        """Remember the row as it is stored, if what will be saved does not tell any more what became of it."""
        vars(instance).pop(self._stored, None)
        if not raw and not instance._state.adding and self._asks_again() and not self._tells(instance):
            vars(instance)[self._stored] = sender._base_manager.using(using).filter(pk=instance.pk).first()

    def _on_save(self, sender: Any, instance: Any, created: bool, raw: bool, using: str, **_: Any) -> None:
        before = vars(instance).pop(self._stored, None)
        if before is not None and self._tells(before) and self.when(before):
            self._take_back(before, using)
        if not raw and (created or self._asks_again()):
            self._saved(instance, created, using)

    @property
    def _stored(self) -> str:
        """The attribute of an instance that is being saved for the row as it was."""
        return f"_feedmill_{_path(self)}"

    def _tells(self, instance: Any) -> bool:
        """Whether a row has what its activity, or its pair, cannot be without."""
        return self._actor_and_arguments(instance) is not None

    @abstractmethod
    def _actor_and_arguments(self, instance: Any) -> tuple[EntityId, tuple[Any, ...]] | None:
        """Who does what a row says, and what methods of the manager are called with; None if it says nothing."""

    @abstractmethod
    def _adding(self, created: bool) -> Callable[..., Any]:
        """What is called if a row counts; *created*: it did not exist before."""

    @abstractmethod
    def _removing(self) -> Callable[..., Any]:
        """What is called if a row does not count any more."""

    def _take_back(self, instance: Any, using: str) -> None:
        """Have what became of a row removed."""
        found = self._actor_and_arguments(instance)
        if found is not None:
            commits.call(self._removing(), *found[1], using=using)

    def _asks_again(self) -> bool:
        """Whether it matters that an existing row is saved."""
        return type(self).when is not ModelDeclaration.when

    def _saved(self, instance: Any, created: bool, using: str) -> None:
        """A row was saved."""
        found = self._actor_and_arguments(instance)
        if found is None:
            return
        if self.when(instance):
            commits.call(self._adding(created), *found[1], using=using)
        elif not created:
            commits.call(self._removing(), *found[1], using=using)

    def _on_deletion(self, sender: Any, instance: Any, using: str, origin: Any = None, **_: Any) -> None:
        """A row will be deleted, and those that it names are still there. *origin*: the instance whose deletion it is part of.

        What a deleted user did, and whom they followed, goes with their feeds. Who followed them is not found by a worker once the row
        is gone.
        """
        found = self._actor_and_arguments(instance)
        if found is not None and not deletion.removes(self._manager, origin, found[0]):
            commits.call(self._removing(), *found[1], using=using)


class ModelActivities(ModelDeclaration):
    """Declare a subclass in ``feeds.py``: each row of a model becomes an activity, while it exists.

    When a row is created, :meth:`Manager.add_activity <feedmill.Manager.add_activity>` is called once the transaction is committed;
    when it is deleted, ``remove_activity``. Nothing is stored for this: the id of the activity follows from the row, so its
    actor, object, target and time must not change. ``bulk_create``, ``update()`` of a queryset and raw SQL send no signals, and rows of
    fixtures are passed over: call the manager with :meth:`activity` of them. Deletions by a queryset are noticed.
    """

    #: The verb.
    verb: ClassVar[Any] = None
    #: Who did it: the name of an attribute of the row, or several with dots between them; or a method that takes the row. If it is
    #: None there is no activity. An id is taken from a foreign key without a query.
    actor: ClassVar[Any] = None
    #: What it was done to, in the same way; ``"self"`` is the row itself.
    object: ClassVar[Any] = "self"
    #: Where, or to whom, in the same way; or None.
    target: ClassVar[Any] = None
    #: When, in the same way: a datetime that stays as it is. By default the one field with ``auto_now_add``.
    time: ClassVar[Any] = None
    #: Whether :meth:`Manager.update_activity <feedmill.Manager.update_activity>` is called when an existing row is saved.
    updates: ClassVar[bool] = False
    _roles = {"actor": True, "object": True, "target": False, "time": True}

    def extra_context(self, instance: Any) -> Mapping[str, Any] | None:
        """Override it to say what else is kept with the activity."""
        return None

    def activity(self, instance: Any) -> Activity | None:
        """The activity of a row, whether or not :meth:`when` wants it; None without an actor or without a time."""
        actor, thing, target, time = (self._value(role, instance) for role in self._roles)
        if actor is None or time is None:
            return None
        if isinstance(time, dt.datetime) and timezone.is_naive(time):
            time = timezone.make_aware(time)
        if not isinstance(time, dt.datetime):
            raise DeclarationError(f"{type(self).__name__}.time gives {time!r} of {instance!r}; it must be a datetime")
        return Activity(actor, self.verb, thing, target, time, self.extra_context(instance))

    def _check_more(self, model: Any) -> None:
        get_verb(self.verb)
        if self.time is not None:
            return
        found = [each for each in model._meta.fields if getattr(each, "auto_now_add", False)]
        if len(found) != 1 or not isinstance(found[0], models.DateTimeField):
            raise DeclarationError(
                f"{model.__name__} has {len(found) or 'no'} field{'s' if len(found) > 1 else ''} with auto_now_add; name in"
                f" {type(self).__name__}.time the DateTimeField that says when it happened, and never changes"
            )
        type(self).time = found[0].name

    def _asks_again(self) -> bool:
        return self.updates or super()._asks_again()

    def _tells(self, instance: Any) -> bool:
        return self._value("actor", instance) is not None and self._value("time", instance) is not None

    def _actor_and_arguments(self, instance: Any) -> tuple[EntityId, tuple[Any, ...]] | None:
        activity = self.activity(instance)
        return None if activity is None else (activity.actor_id, (activity,))

    def _adding(self, created: bool) -> Callable[..., Any]:
        return self._manager.add_activity if created or not self.updates else self._update

    def _removing(self) -> Callable[..., Any]:
        return self._manager.remove_activity

    def _update(self, activity: Activity) -> None:
        try:
            with deferral.added_if_unknown(activity):
                self._manager.update_activity(activity)
        except UnknownActivity:
            self._manager.add_activity(activity)


class ModelFollows(ModelDeclaration):
    """Declare a subclass in ``feeds.py``: each row of a model is somebody who follows somebody or something, while it exists.

    When a row is created, :meth:`Manager.follow <feedmill.Manager.follow>` is called once the transaction is committed; when it is
    deleted, ``unfollow``, also when it goes because the user who is followed does. What sends no signals is passed over, as in
    :class:`ModelActivities`; and so is who follows themselves.
    """

    #: Who follows: the name of an attribute of the row, or several with dots between them; or a method that takes the row.
    user: ClassVar[Any] = "user"
    #: Whom or what, in the same way.
    target: ClassVar[Any] = "target"
    _roles = {"user": True, "target": True}

    def _actor_and_arguments(self, instance: Any) -> tuple[EntityId, tuple[Any, ...]] | None:
        user, target = (self._value(role, instance) for role in self._roles)
        if user is None or target is None:
            return None
        pair = entity_id(user, "user"), entity_id(target, "target")
        return None if str(pair[0]) == str(pair[1]) else (pair[0], pair)

    def _adding(self, created: bool) -> Callable[..., Any]:
        return self._manager.follow

    def _removing(self) -> Callable[..., Any]:
        return self._manager.unfollow


def _attribute(instance: Any, name: str) -> Any:
    """An attribute; of a foreign key whose row is not loaded an instance that knows its key alone."""
    field = getattr(type(instance), name, None)
    relation = getattr(field, "field", None)
    if not isinstance(relation, models.ForeignKey) or relation.is_cached(instance):
        return getattr(instance, name)
    if relation.target_field is not relation.remote_field.model._meta.pk:
        return getattr(instance, name)
    key = getattr(instance, relation.attname)
    return None if key is None else relation.remote_field.model(pk=key)


def _path(declared: ModelDeclaration) -> str:
    return f"{type(declared).__module__}.{type(declared).__qualname__}"


def connect() -> None:
    """Listen for what was declared before the models were there."""
    for each in _declared:
        each._connect()


__all__ = ["ModelActivities", "ModelFollows", "connect"]
