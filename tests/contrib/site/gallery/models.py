"""People who show pictures, and love those of others."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models


class Picture(models.Model):
    """A picture."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    title = models.CharField(max_length=100)
    public = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        """Where it is shown."""
        return f"/pictures/{self.pk}/?a=1&b=2"


class Like(models.Model):
    """Somebody loves a picture."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    picture = models.ForeignKey(Picture, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)


class Follow(models.Model):
    """Somebody wants to see what somebody else does."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="follows")
    target = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="followed")


class Album(models.Model):
    """Pictures; its key is a text."""

    name = models.CharField(max_length=20, primary_key=True)


class Sketch(Picture):
    """A kind of picture, with a table of its own."""

    pencil = models.CharField(max_length=20)


class Proxy(get_user_model()):
    """A user by another name."""

    class Meta:
        proxy = True
