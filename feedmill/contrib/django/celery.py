"""Under the name that Django projects import: :func:`set_up` for a Celery app that is made later."""

from feedmill.contrib.celery_app import SWEEP, set_up, set_up_current, sweeps

__all__ = ["SWEEP", "set_up", "set_up_current", "sweeps"]
