"""``path("feedmill/", include("feedmill.contrib.django.urls"))``: what the live badge asks."""

from django.urls import path

from feedmill.contrib.django import views

app_name = "feedmill"
urlpatterns = [path("unseen/", views.unseen, name="unseen"), path("stream/", views.events, name="stream")]
