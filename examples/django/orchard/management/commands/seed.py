"""``python manage.py seed``."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from orchard.models import Comment, Like, Post
from orchard.seed import SEED


class Command(BaseCommand):
    help = "Have people share, like and comment, unless there are posts already."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """What is told of the rows waits in the outbox until they are committed."""
        if Post.objects.exists():
            return
        people = {each.username: each for each in get_user_model().objects.all()}
        for row in SEED["posts"]:
            post = Post.objects.create(author=people[row["author"]], text=row["text"], link=row["link"])
            for person in row["likes"]:
                Like.objects.create(post=post, user=people[person])
            for person, text in row["comments"]:
                Comment.objects.create(post=post, user=people[person], text=text)
