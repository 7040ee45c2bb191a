"""What is the same for all commands: ``--json``, what it prints, errors, and exit codes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import click

from feedmill.cli import shapes
from feedmill.cli.terminal import printable, say
from feedmill.errors import FeedmillError, StorageError, WrongType
from feedmill.json_values import json_value

#: Exit codes: done, and nothing is wrong; something failed or is wrong; arguments make no sense; storage or broker cannot be
#: reached, or refuse commands.
OK, PROBLEM, USAGE, UNREACHABLE = 0, 1, 2, 3

_JSON = "--json"
_WANTED = "feedmill.cli.json"


class Result(NamedTuple):
    """What a command returns."""

    #: What ``--json`` prints: of a class of ``feedmill.cli.shapes``.
    value: Any
    exit_code: int = OK


class Failure(click.ClickException):
    """Ends a command with a message in place of a traceback."""

    def __init__(self, message: str, exit_code: int = PROBLEM, kind: str = "Failure") -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click has it of the class
        #: What :class:`~feedmill.cli.shapes.Error` has as its kind.
        self.kind = kind


def exit_code_of(error: Exception) -> int:
    """What a command ends with that *error* ends."""
    return UNREACHABLE if isinstance(error, StorageError) and not isinstance(error, WrongType) else PROBLEM


def error_shape(error: Exception) -> shapes.Error:
    """*error*, as ``--json`` shows it."""
    if isinstance(error, click.ClickException):
        kind = "UsageError" if isinstance(error, click.UsageError) else getattr(error, "kind", type(error).__name__)
        return shapes.Error(kind, error.format_message(), error.exit_code)
    return shapes.Error(type(error).__name__, str(error), exit_code_of(error))


def wants_json() -> bool:
    """Whether the command that runs is to print JSON alone."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_WANTED))


def tell(text: object, *, error: bool = False) -> None:
    """Print *text* as one line for people: nothing is printed where JSON is wanted."""
    if not wants_json():
        say(text, error=error)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* in columns for people; the last column may be as long as it likes."""
    texts = [[printable(value) for value in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads) - 1)]
    for row in texts:
        tell("  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[-1]]).rstrip())


def plural(number: int, what: str) -> str:
    """*number* with the noun *what*."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def print_json(value: Any) -> None:
    """Print a shape as one line of JSON, in which no character is more than a sign to a terminal."""
    say(json.dumps(as_json(value)))  # which escapes all but printable ASCII


def as_json(value: Any) -> Any:
    """A shape, and what is in it, as the json module takes it."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return json_value(value)


def _want_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_WANTED] = True


class Command(click.Command):
    """A command that takes ``--json`` and returns a :class:`Result`; *prepares*: it works with the settings of the app."""

    def __init__(self, *args: Any, prepares: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepares = prepares
        wanted = click.Option(
            [_JSON],
            is_flag=True,
            expose_value=False,
            callback=_want_json,
            help="Print one JSON object instead of text.",
        )
        self.params.append(wanted)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, print its JSON if that is wanted, and end with its exit code."""
        from feedmill.cli import loading

        if self.prepares:
            loading.prepare()
        result = super().invoke(ctx)
        if isinstance(result, Result):
            if wants_json():
                print_json(result.value)
            if result.exit_code:
                ctx.exit(result.exit_code)
        return None


class Group(click.Group):
    """A group of such commands, which ends with a message in place of a traceback when Feedmill refuses something."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except FeedmillError as error:
            raise Failure(printable(error), exit_code_of(error), type(error).__name__) from error


Group.group_class = Group


class Main(Group):
    """The whole: errors are JSON, too, where that is wanted."""

    def main(  # type: ignore[override]  # click says twice what it is, for two cases
        self, args: Any = None, prog_name: str | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run what *args* say."""
        words = sys.argv[1:] if args is None else list(args)
        if not standalone_mode or _JSON not in itertools.takewhile(lambda word: word != "--", words):
            return super().main(args, prog_name, standalone_mode=standalone_mode, **extra)
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.Abort:
            _fail(shapes.Error("Abort", "stopped before the end", PROBLEM))
        except click.ClickException as error:
            _fail(error_shape(error))
        except Exception as error:  # of the app's own code: what it is must be known
            traceback.print_exc()
            _fail(shapes.Error(type(error).__name__, str(error), PROBLEM))
        sys.exit(code if isinstance(code, int) else OK)


def _fail(error: shapes.Error) -> NoReturn:
    print_json(shapes.Failed(error))
    sys.exit(error.exit_code)


def examples(*lines: str) -> str:
    """The epilog of a command: examples, as a person would type them."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in lines)
