"""Feedmill in a Django project: add ``"feedmill.contrib.django"`` to ``INSTALLED_APPS``.

The app takes its settings from ``FEEDMILL = {...}``, imports the module ``feeds`` of every installed app, sets up the project's Celery
app, and adds system checks and the command ``manage.py feedmill``.
"""
