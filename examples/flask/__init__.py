"""The example site on Flask."""
