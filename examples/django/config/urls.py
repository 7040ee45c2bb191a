"""The page, what it asks for, and the admin."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView

urlpatterns = [
    path("", ensure_csrf_cookie(TemplateView.as_view(template_name="index.html"))),
    path("api/", include("orchard.urls")),
    path("admin/", admin.site.urls),
    *staticfiles_urlpatterns(),
]
