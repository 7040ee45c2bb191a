"""The command line: ``feedmill``, and its subcommands. Imports anything; nothing else imports it."""
