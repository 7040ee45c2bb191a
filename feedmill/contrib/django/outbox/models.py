"""The two tables of the outbox."""

from __future__ import annotations

from django.db import models


class OutboxRow(models.Model):  # type: ignore[misc]
    """A call of a manager that waits to be relayed, or was given up."""

    id = models.BigAutoField(primary_key=True)
    manager = models.TextField()
    method = models.CharField(max_length=40)
    payload = models.BinaryField()
    lane = models.CharField(max_length=64)
    subject = models.CharField(max_length=64)
    #: Seconds since 1970, by the clock of the database.
    created = models.FloatField()
    due = models.FloatField()
    attempts = models.IntegerField(default=0)
    error = models.TextField(default="", blank=True)
    dead = models.BooleanField(default=False)

    class Meta:
        verbose_name = "outbox row"
        indexes = (
            models.Index(fields=("dead", "lane", "id"), name="feedmill_outbox_lanes"),
            models.Index(fields=("dead", "id"), name="feedmill_outbox_ids"),
        )

    def __str__(self) -> str:
        return f"{self.manager}.{self.method}"


class OutboxClaim(models.Model):  # type: ignore[misc]
    """A lane that a process relays at present."""

    lane = models.CharField(max_length=64, primary_key=True)
    token = models.CharField(max_length=64)
    until = models.FloatField()

    class Meta:
        verbose_name = "outbox claim"
        indexes = (models.Index(fields=("token",), name="feedmill_outbox_tokens"),)

    def __str__(self) -> str:
        return str(self.lane)
