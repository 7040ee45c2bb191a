"""The command line: ``feedmill``, and its subcommands. Imports anything; nothing else imports it.

A module holds commands that belong together; ``main.py`` puts them into one group, and ``command.py`` has what is the same for all:
JSON, errors, exit codes.
"""
