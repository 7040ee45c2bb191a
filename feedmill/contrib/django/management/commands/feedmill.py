"""``manage.py feedmill ...``: the command line, with the project set up."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):  # type: ignore[misc]
    """Passes its arguments to the command ``feedmill``."""

    help = "Operate feeds: the command line of Feedmill with this project's settings; see manage.py feedmill --help."
    requires_system_checks: Any = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run what stands behind the name of the command; ends the process with its exit code."""
        self._run(argv[2:], f"{argv[0].rpartition('/')[2]} {argv[1]}")

    def add_arguments(self, parser: Any) -> None:
        """For ``call_command``: the words of the command line."""
        parser.add_argument("words", nargs="*")

    def handle(self, *words: str, **options: Any) -> None:
        """As ``call_command("feedmill", "dead", "list")``."""
        self._run([*words, *options.get("words", ())], "feedmill", exits=False)

    @staticmethod
    def _run(words: list[str], name: str, exits: bool = True) -> None:
        from feedmill.cli.main import main

        main.main(args=words, prog_name=name, standalone_mode=exits)
