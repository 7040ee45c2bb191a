"""The outbox of a Django project: add ``"feedmill.contrib.django.outbox"`` to ``INSTALLED_APPS`` and run ``manage.py migrate``.

What managers are asked to write is then a row of the database, in the transaction of the caller, and is relayed when that is
committed.
"""
