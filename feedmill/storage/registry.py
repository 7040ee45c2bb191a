"""Where everything is stored: a factory of backends for each URL scheme, and the backend in force."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from feedmill import settings
from feedmill.errors import DeclarationError, SettingsError
from feedmill.redis_urls import SCHEMES
from feedmill.storage.base import Backend
from feedmill.storage.maintenance import BesideMaintenance, TimelineMaintenance

#: Makes the backend that a URL names.
Factory = Callable[[str], Backend]


def _memory(url: str) -> Backend:
    from feedmill.storage.memory.backend import MemoryBackend

    return MemoryBackend()


def _redis(url: str) -> Backend:
    from feedmill.storage.redis.client import RedisBackend

    return RedisBackend(url)


_factories: dict[str, Factory] = {"memory": _memory, **dict.fromkeys(SCHEMES, _redis)}


def register_backend(scheme: str, factory: Factory) -> None:
    """Have *factory* make the backend of a ``FEEDMILL_REDIS_URL`` that begins with *scheme* and ``://``.

    Call it before the settings name such a URL; or let your package declare *factory* as an entry point named *scheme* in
    the group ``feedmill.backends``, which needs no call and is found by workers and commands, too.
    Raises :class:`~feedmill.errors.DeclarationError` for a scheme that has another factory.
    """
    if _factories.setdefault(scheme, factory) is not factory:
        raise DeclarationError(
            f"backends of {scheme}:// are made by {_factories[scheme]!r} already; use another scheme"
        )
    settings.backend_schemes.add(scheme)


@functools.cache
def _made(url: str) -> Backend:
    """The backend that *url* names, made once in each process, without what the settings put beside it."""
    scheme = url.partition(":")[0].lower()
    if scheme not in _factories:
        from importlib.metadata import entry_points

        for point in entry_points(group=settings.ENTRY_POINTS, name=scheme):
            register_backend(scheme, point.load())
    made = _factories[scheme](url)
    if scheme not in SCHEMES and not made.in_process and not settings.current().broker_url:
        raise SettingsError(f"FEEDMILL_BROKER_URL is empty, and {scheme}:// is no broker; use redis://host:port/db")
    return made


@functools.cache
def _beside(url: str, cassandra_url: str, *consistencies: str) -> Backend:
    """The backend that *url* names, with the cluster beside it that *cassandra_url* names."""
    made = _made(url)
    if made.in_process:
        return made
    from feedmill.storage.cassandra.backend import beside

    return beside(made)


def _in_force(url: str) -> Backend:
    current = settings.current()
    if not current.cassandra_url:
        return _made(url)
    return _beside(url, current.cassandra_url, current.cassandra_consistency, current.cassandra_serial_consistency)


def backend() -> Backend:
    """The backend in force."""
    return _in_force(settings.current().redis_url)


def backend_for(storage_class: Any) -> Backend:
    """The backend on which *storage_class* works: the one that it names, else the one in force."""
    return _in_force(storage_class.url or settings.current().redis_url)


def storage(storage_class: Any, own: Any) -> Any:
    """What a feed with *storage_class* uses on the backend whose storage is *own*.

    That is *own*, whatever the class: so feeds on Redis work on any backend. A subclass of *own*'s class is made once, and so is a
    class whose servers stand beside the backend.
    """
    if type(own) is storage_class:
        return own
    needs, in_process = getattr(storage_class, "needs", ""), getattr(own, "url", "")
    if needs and not in_process and not getattr(settings.current(), needs):
        raise SettingsError(
            f"FEEDMILL_{needs.upper()} is empty, and feeds with {storage_class.__name__} are stored there; name the servers"
        )
    return _substitute(storage_class, own)


def maintenance(timelines: Any) -> TimelineMaintenance:
    """What the doctor reads and repairs of *timelines*, the storage that a feed class uses."""
    own: BesideMaintenance | None = getattr(timelines, "maintenance", None)
    return backend().maintenance if own is None else own


@functools.cache
def _substitute(storage_class: Any, own: Any) -> Any:
    beside = getattr(storage_class, "needs", "") and not getattr(
        own, "url", ""
    )  # in this process nothing is beside anything
    return storage_class() if beside or issubclass(storage_class, type(own)) else own
