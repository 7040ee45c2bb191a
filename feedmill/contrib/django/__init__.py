"""Feedmill in a Django project: add ``"feedmill.contrib.django"`` to ``INSTALLED_APPS``.

The app takes its settings from ``FEEDMILL = {...}``, imports the module ``feeds`` of every installed app, sets up the project's Celery
app, and adds system checks, admin pages, template tags and the command ``manage.py feedmill``. :func:`hydrate` puts rows in place of ids;
:class:`ModelActivities` and :class:`ModelFollows` make activities and follows of saves and deletions.
"""

from feedmill.contrib.django.hydration import ahydrate, hydrate
from feedmill.contrib.django.model_activities import ModelActivities, ModelFollows

__all__ = ["ModelActivities", "ModelFollows", "ahydrate", "hydrate"]
