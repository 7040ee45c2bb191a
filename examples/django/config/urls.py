"""The page, what it asks for, the page of notifications with a live badge, and the admin."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView
from orchard import pages

urlpatterns = [
    path("", ensure_csrf_cookie(TemplateView.as_view(template_name="index.html"))),
    path("api/", include("orchard.urls")),
    path("feedmill/", include("feedmill.contrib.django.urls")),
    path("notifications/", pages.notifications),
    path("admin/", admin.site.urls),
    *staticfiles_urlpatterns(),
]
