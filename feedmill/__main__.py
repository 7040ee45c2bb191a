"""``python -m feedmill``."""

from feedmill.cli import main

main(prog_name="feedmill")
