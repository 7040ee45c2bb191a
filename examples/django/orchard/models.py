"""Who follows whom, posts, likes and comments. People are Django's own users."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Count, Exists, OuterRef

#: Characters of a text.
LONGEST = 500


class Follow(models.Model):
    """*user* follows *target*."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="follows")
    target = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="followers")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "target"], name="follow_once")]


class PostQuerySet(models.QuerySet):
    """Posts."""

    def shown_to(self, user: Any) -> PostQuerySet:
        """With what a page says of each: its author, the numbers of likes and comments, and whether *user* likes it."""
        return self.select_related("author").annotate(
            like_count=Count("likes", distinct=True),
            comment_count=Count("comments", distinct=True),
            liked=Exists(Like.objects.filter(post=OuterRef("pk"), user=user)),
        )


class Post(models.Model):
    """What somebody shares."""

    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="posts")
    text = models.CharField(max_length=LONGEST)
    link = models.CharField(
        max_length=LONGEST,
        blank=True,
        validators=[RegexValidator("^(https?:/)?/", "a link begins with http:// or https://")],
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PostQuerySet.as_manager()

    def __str__(self) -> str:
        return self.text


class Like(models.Model):
    """*user* likes a post."""

    post = models.ForeignKey(Post, models.CASCADE, related_name="likes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="likes")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["post", "user"], name="like_once")]


class Comment(models.Model):
    """What *user* says about a post."""

    post = models.ForeignKey(Post, models.CASCADE, related_name="comments")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="comments")
    text = models.CharField(max_length=LONGEST)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text
