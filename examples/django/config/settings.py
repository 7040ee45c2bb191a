"""Settings of the example: for this machine alone, since nobody needs a password."""

import os
from pathlib import Path

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT.parent / "shared" / "static"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "feedmill.contrib.django",
    "feedmill.contrib.django.outbox",
    "orchard",
]
FEEDMILL = {"REDIS_URL": os.environ.get("FEEDMILL_REDIS_URL", "redis://127.0.0.1:6379/0")}
CELERY_BROKER_URL = os.environ.get("FEEDMILL_BROKER_URL", "redis://127.0.0.1:6379/1")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DB", PROJECT / "example.sqlite3"),
        # The web server and the worker write at the same time: who comes second waits.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "PRAGMA journal_mode = WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

DEBUG = True
SECRET_KEY = "an example has none"  # noqa: S105
ROOT_URLCONF = "config.urls"
LOGIN_URL = "/"
STATIC_URL = "/static/"
STATICFILES_DIRS = [PAGE]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "feedmill.contrib.django.middleware.ProblemsMiddleware",
    "orchard.problems.RefusedMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PAGE],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
