"""Settings of a small site."""

import importlib.util
import os

SECRET_KEY = "x"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *(["rest_framework"] if importlib.util.find_spec("rest_framework") else []),
    "feedmill.contrib.django",
    *(["feedmill.contrib.django.outbox"] if os.environ.get("SITE_OUTBOX") else []),
    "gallery",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SITE_DATABASE", ":memory:"),
        "TEST": {"NAME": ":memory:"},
    }
}
if os.environ.get("SITE_OTHER_DATABASE"):
    DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_OTHER_DATABASE"]}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
LANGUAGE_CODE = "en"
LOGIN_URL = "/admin/login/"
FEEDMILL = {"REDIS_URL": os.environ.get("SITE_FEEDS", "memory://"), "CELERY_APP": "feedmill.tasks:app"}
