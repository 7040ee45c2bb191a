"""The tables in the admin, beside Feedmill's own pages."""

from django.contrib import admin
from orchard import models

for model in (models.Post, models.Like, models.Comment, models.Follow):
    admin.site.register(model)
