"""The pages of the site."""

from django.contrib import admin
from django.urls import include, path
from gallery import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("feedmill/", include("feedmill.contrib.django.urls")),
    path("", views.home),
]
