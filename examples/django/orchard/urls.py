"""Paths of what the page asks for."""

from django.urls import path
from orchard import views

urlpatterns = [
    path("me", views.me),
    path("login", views.login),
    path("home", views.home),
    path("notifications", views.notifications),
    path("notifications/seen", views.seen),
    path("posts", views.share),
    path("posts/<int:number>", views.post),
    path("posts/<int:number>/like", views.like),
    path("posts/<int:number>/comments", views.comment),
    path("people/<str:name>/follow", views.follow),
    path("live", views.live),
]
