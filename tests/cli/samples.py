"""Managers for the tests of commands, and commands that are run in this process."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any

from click.testing import CliRunner, Result

from feedmill import Activity, Manager
from feedmill.cli import shapes
from feedmill.cli.main import main
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.json_values import time_text


class ShopHome(RedisFeed):
    key_format = "cli:home:%(user_id)s"


class ShopNews(RedisAggregatedFeed):
    key_format = "cli:news:%(user_id)s"


class ShopOwn(RedisFeed):
    key_format = "cli:own:%(user_id)s"


class ShopNotes(RedisNotificationFeed):
    key_format = "cli:notes:%(user_id)s"
    count_format = "cli:notes:%(user_id)s:count"


class ShopCached(RedisFeed):
    key_format = "cli:cached:%(user_id)s"
    expire_idle = 86_400


#: Who has how many followers; everybody else has two.
CROWD = 250


class TownManager(Manager):
    feed_classes = {"home": ShopHome, "news": ShopNews}
    user_feed_class = ShopOwn
    notification_feed_class = ShopNotes
    fanout_chunk_size = 100

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Two people, or a crowd."""
        return range(1000, 1000 + CROWD) if user_id == "star" else ["bob", "cleo"]

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Whom everybody follows."""
        return ["ann"]

    def get_recipient_ids(self, activity: Activity) -> Iterable[Any]:
        """Who is told."""
        return ["dan"]


class SecondHome(RedisFeed):
    key_format = "cli:second:%(user_id)s"


class SecondManager(Manager):
    feed_classes = {"second": SecondHome, "cached": ShopCached}
    user_feed_class = ShopOwn
    removal_index = False

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Nobody."""
        return []

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """Nobody."""
        return []


def invoke(*words: str, stdin: str = "") -> Result:
    """What a command prints and ends with; an error of ours never ends it with a traceback."""
    result = CliRunner().invoke(main, words, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    return result


def run(*words: str) -> str:
    """What a command prints that succeeds."""
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.output


def parsed(result: Result) -> Any:
    """The object that is all that was printed on standard output."""
    assert result.stdout.endswith("}\n") and result.stdout.count("\n") == 1, result.stdout
    return json.loads(result.stdout)


def run_json(shape: type, *words: str, code: int = 0) -> Any:
    """The object that a command prints with ``--json``, which is what *shape* says."""
    result = invoke(*words, "--json")
    assert result.exit_code == code, result.output
    found = parsed(result)
    check_shape(found, shape)
    return found


def failed_json(*words: str, code: int) -> Any:
    """The error that a command prints with ``--json``, whose exit code is *code*."""
    result = invoke(*words, "--json")
    assert result.exit_code == code, result.output
    found = parsed(result)
    check_shape(found, shapes.Failed)
    assert found["error"]["exit_code"] == code
    return found["error"]


def check_shape(found: Any, shape: Any) -> None:
    """Whether *found*, from JSON, is what the annotation *shape* says."""
    if dataclasses.is_dataclass(shape):
        kinds = typing.get_type_hints(shape)
        assert list(found) == [field.name for field in dataclasses.fields(shape)]
        for name, value in found.items():
            check_shape(value, kinds[name])
        return
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if origin in (types.UnionType, typing.Union):
        if found is None:
            assert type(None) in arguments
            return
        (one, *more) = [each for each in arguments if each is not type(None)]
        if not more:
            check_shape(found, one)
        else:
            assert type(found) in arguments
    elif origin is list:
        assert type(found) is list
        for each in found:
            check_shape(each, arguments[0])
    elif origin is dict:
        assert type(found) is dict
        for each in found.values():
            check_shape(each, arguments[1])
    elif shape is not Any:
        if shape.__name__ == "datetime":
            import datetime as dt

            assert time_text(dt.datetime.fromisoformat(found)) == found
        else:
            assert type(found) is shape or (shape is float and type(found) is int), (found, shape)
