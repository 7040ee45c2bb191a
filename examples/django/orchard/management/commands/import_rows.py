"""``python manage.py import_rows``."""

from __future__ import annotations

from itertools import chain
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from orchard.feeds import Comments, Likes, Shares, manager


class Command(BaseCommand):
    help = "Bring rows into the feeds that came without signals, such as those from before there were feeds."

    def handle(self, *args: Any, **options: Any) -> None:
        """User by user, as a worker can deliver much of one author at once. Nobody is notified."""
        for user in get_user_model().objects.iterator():
            posts = map(Shares().activity, user.posts.iterator())
            likes = map(Likes().activity, user.likes.select_related("post").iterator())
            comments = map(Comments().activity, user.comments.select_related("post").iterator())
            manager.batch_import(user, chain(posts, likes, comments))
