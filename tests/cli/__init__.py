"""The command line: each command as text and as JSON, on each backend, with and without servers."""
