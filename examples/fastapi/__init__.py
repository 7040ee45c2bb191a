"""The example site on FastAPI."""
