"""Someone else's project that hosts Feedmill's tasks in its own Celery app."""
