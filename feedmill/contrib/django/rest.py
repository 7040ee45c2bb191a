"""Feeds in Django REST framework: pages by cursor, activities and groups as JSON. Needs ``djangorestframework``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound
from rest_framework.pagination import BasePagination
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.urls import replace_query_param

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.contrib.django.hydration import hydrate
from feedmill.errors import CursorError, StorageError
from feedmill.feeds.reading import Page


class StorageUnavailable(APIException):  # type: ignore[misc]
    """503: the storage of feeds cannot be reached."""

    status_code = 503
    default_detail = "Feeds are not available now. Try again later."
    default_code = "service_unavailable"


class FeedPagination(BasePagination):  # type: ignore[misc]
    """Pages of a feed, or of a view of one (``feed.filter(…)``), by its own cursors: they neither skip nor repeat while others write.

    ``pagination_class`` of a view whose ``get_queryset`` returns a feed; its ``filter_queryset`` must leave that alone, so set
    ``filter_backends = []``. An answer has ``next``, the address of the next page or None, and ``results``. A cursor that is none is a 404, as
    for other pages of the framework.
    """

    #: Items on a page without ``page_size_query_param``; by default the framework's PAGE_SIZE, or 25.
    page_size: int | None = None
    #: The parameter that names the page behind which another begins.
    cursor_query_param = "cursor"
    #: The parameter by which clients choose how many items they get, up to *max_page_size*; None: they do not.
    page_size_query_param: str | None = None
    max_page_size = 100
    #: Querysets of :func:`~feedmill.contrib.django.hydrate`, by which rows are looked up; None: nothing is looked up.
    querysets: Any = None
    #: The page that was read last, before rows were looked up: ``feed.mark_all(until=paginator.page)``.
    page: Page

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any]:
        """The items of the page that *request* asks for; *queryset* is a feed."""
        self._address = request.build_absolute_uri()
        try:
            self.page = queryset.page(self.get_page_size(request), request.query_params.get(self.cursor_query_param))
        except CursorError as error:
            raise NotFound(str(error)) from error
        except StorageError as error:
            raise StorageUnavailable from error
        found = self.page if self.querysets is None else hydrate(self.page, self.querysets)
        return found.items

    def get_page_size(self, request: Any) -> int:
        """How many items: what the client chose, if it may and that makes sense."""
        if self.page_size_query_param:
            given = request.query_params.get(self.page_size_query_param, "")
            if given.isascii() and given.isdigit() and len(given) < 9 and int(given):
                return min(int(given), self.max_page_size)
        return int(self.page_size or api_settings.PAGE_SIZE or 25)

    def get_next_link(self) -> str | None:
        """The address of the next page."""
        return replace_query_param(self._address, self.cursor_query_param, self.page.next) if self.page.next else None

    def get_paginated_response(self, data: Any) -> Response:
        """``next`` and ``results``."""
        return Response({"next": self.get_next_link(), "results": data})

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        """What an answer looks like, for OpenAPI."""
        address = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "results"],
            "properties": {"next": address, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """The parameters of a request, for OpenAPI."""
        found = [_parameter(self.cursor_query_param, "string", "`next` of the page before has it.")]
        if self.page_size_query_param:
            found.append(_parameter(self.page_size_query_param, "integer", "Items on a page."))
        return found

    def to_html(self) -> str:
        """The browsable interface shows ``next`` in the answer."""
        return ""


def _parameter(name: str, kind: str, text: str) -> dict[str, Any]:
    return {"name": name, "required": False, "in": "query", "description": text, "schema": {"type": kind}}


class FeedItemSerializer(serializers.BaseSerializer):  # type: ignore[misc]
    """An activity or a group, read only: its ``to_dict()``.

    A subclass adds rows that :func:`~feedmill.contrib.django.hydrate` has put there: its ``instances`` names a serializer for each
    model, and then an activity has ``actor``, ``object`` and ``target`` as well, and a group ``actors`` and ``objects``; of rows of
    other models, and of ids, None.
    """

    #: A serializer class for each model whose rows are shown.
    instances: Mapping[type, Any] = {}

    def to_representation(self, instance: Activity | AggregatedActivity) -> dict[str, Any]:
        """The item as the json module takes it."""
        shown = instance.to_dict()
        if not self.instances:
            return shown
        if isinstance(instance, Activity):
            return {**shown, **{role: self._row(getattr(instance, role)) for role in ("actor", "object", "target")}}
        return {
            **shown,
            "actors": [self._row(each) for each in instance.actors],
            "objects": [self._row(each) for each in instance.objects],
            "activities": [self.to_representation(each) for each in instance.activities],
        }

    def _row(self, value: Any) -> Any:
        for model, serializer in self.instances.items():
            if isinstance(value, model):
                return serializer(value, context=self.context).data
        return None


__all__ = ["FeedItemSerializer", "FeedPagination", "StorageUnavailable"]
