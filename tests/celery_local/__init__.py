"""pytest-celery's components over local processes instead of containers."""
