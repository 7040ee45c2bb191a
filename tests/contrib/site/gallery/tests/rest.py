"""Feeds in Django REST framework."""

import importlib.util
import unittest
from unittest import mock

from django.contrib.auth import get_user_model
from django.test import override_settings
from django.urls import path

from feedmill.errors import StorageError
from feedmill.feeds.flat import Feed
from gallery.feeds import manager
from gallery.models import Picture
from gallery.tests.base import SiteTestCase

User = get_user_model()
urlpatterns = []

if importlib.util.find_spec("rest_framework"):
    from rest_framework import generics, permissions, serializers

    from feedmill.contrib.django.rest import FeedItemSerializer, FeedPagination

    class UserSerializer(serializers.ModelSerializer):
        """A user."""

        class Meta:
            model = User
            fields = ("username",)

    class PictureSerializer(serializers.ModelSerializer):
        """A picture."""

        class Meta:
            model = Picture
            fields = ("title",)

    class RowsSerializer(FeedItemSerializer):
        """With rows."""

        instances = {User: UserSerializer, Picture: PictureSerializer}

    class Pagination(FeedPagination):
        """Pages of two, with rows."""

        page_size = 2
        page_size_query_param = "size"
        max_page_size = 3
        querysets = [Picture.objects.select_related("owner")]

    class Home(generics.ListAPIView):
        """A feed as it is."""

        permission_classes = [permissions.IsAuthenticated]
        pagination_class = FeedPagination
        serializer_class = FeedItemSerializer
        filter_backends = []

        def get_queryset(self):
            """Of the user."""
            return manager.get_feeds(self.request.user)["home"]

    class HomeWithRows(Home):
        """With rows."""

        pagination_class = Pagination
        serializer_class = RowsSerializer

    class Notifications(HomeWithRows):
        """Groups."""

        def get_queryset(self):
            """Of the user."""
            return manager.get_notification_feed(self.request.user).unseen()

    urlpatterns = [
        path("home/", Home.as_view()),
        path("rows/", HomeWithRows.as_view()),
        path("notifications/", Notifications.as_view()),
    ]


@unittest.skipUnless(urlpatterns, "no djangorestframework")
@override_settings(ROOT_URLCONF="gallery.tests.rest")
class RestTests(SiteTestCase):
    """Pagination and serializers."""

    def setUp(self):
        """Some likes of dan's friends, and dan."""
        super().setUp()
        self.likes(self.ann, self.bob, self.cleo)
        self.likes(self.bob, self.cleo, picture=Picture.objects.create(owner=self.ann, title="Hill"))
        self.client.force_login(self.dan)

    def test_pages(self):
        """The feed, page by page, until there is no next one; with what its ``to_dict`` says."""
        found, address = [], "/rows/"
        while address:
            page = self.client.get(address).json()
            self.assertEqual(set(page), {"next", "results"})
            self.assertLessEqual(len(page["results"]), 2)
            found += page["results"]
            address = page["next"]
        self.assertEqual([each["id"] for each in found], [each.id for each in manager.get_feeds(self.dan)["home"][:]])
        page = self.client.get("/home/").json()
        self.assertEqual(page["results"], [each.to_dict() for each in manager.get_feeds(self.dan)["home"][:]])
        self.assertIsNone(page["next"])

    def test_rows(self):
        """Rows as their serializers have them, with one query for each model; what is deleted is left out."""
        with self.assertNumQueries(4):  # session and user, then users and pictures
            first, _ = self.client.get("/rows/").json()["results"]
        self.assertEqual(
            (first["actor"], first["object"], first["target"]), ({"username": "cleo"}, {"title": "Hill"}, None)
        )
        self.client.force_login(self.ann)
        group, _ = self.client.get("/notifications/").json()["results"]
        self.assertEqual(group["actors"], [{"username": "cleo"}, {"username": "bob"}])
        self.assertEqual(group["objects"], [{"title": "Hill"}])
        self.assertEqual(group["activities"][0]["actor"], {"username": "bob"})
        Picture.objects.filter(title="Hill").delete()
        (group,) = self.client.get("/notifications/").json()["results"]
        self.assertEqual(group["objects"], [{"title": str(self.picture)}])

    def test_how_many(self):
        """What the client chooses, if it may, up to a limit; else the default."""
        for query, number in (("size=1", 1), ("size=9", 3), ("size=0", 2), ("size=x", 2), ("size=-1", 2), ("", 2)):
            self.assertEqual(len(self.client.get(f"/rows/?{query}").json()["results"]), number)
        self.assertEqual(len(self.client.get("/home/?size=1").json()["results"]), 5)

    def test_refused(self):
        """A cursor that is none is a 404, no storage a 503, and nobody a 403."""
        answer = self.client.get("/home/?cursor=x")
        self.assertEqual(answer.status_code, 404)
        self.assertIn("is not a cursor", answer.json()["detail"])
        cursor = self.client.get("/rows/").json()["next"].partition("cursor=")[2]
        self.client.force_login(self.ann)
        self.assertEqual(self.client.get(f"/notifications/?cursor={cursor}").status_code, 404)
        with mock.patch.object(Feed, "page", side_effect=StorageError("away")):
            self.assertEqual(self.client.get("/home/").status_code, 503)
        self.client.logout()
        self.assertEqual(self.client.get("/home/").status_code, 403)

    def test_the_schema(self):
        """What is said to clients."""
        pagination = Pagination()
        self.assertEqual(
            [each["name"] for each in pagination.get_schema_operation_parameters(None)], ["cursor", "size"]
        )
        self.assertEqual(
            set(pagination.get_paginated_response_schema({"type": "array"})["properties"]), {"next", "results"}
        )
        answer = self.client.get("/home/", HTTP_ACCEPT="text/html")
        self.assertContains(answer, "gallery.picture")
