"""``python -m feedmill``."""

from feedmill.cli.main import main

main(prog_name="feedmill")
