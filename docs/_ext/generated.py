"""Directives that list what the code declares: ``feedmill-settings``, ``-tasks``, ``-metrics`` and ``-http``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from feedmill import metrics
from feedmill.settings import Settings
from feedmill.tasks import app as celery
from feedmill.web.app import application
from feedmill.web.options import Options


class Generated(SphinxDirective):
    """Puts lines of reStructuredText in its place."""

    source: ClassVar[str]

    def lines(self) -> Iterator[str]:
        """The lines."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        node = nodes.container()
        self.state.nested_parse(StringList(list(self.lines()), source=self.source), self.content_offset, node)
        return node.children


class SettingsList(Generated):
    """Every setting, with its type, its default, and the comment that stands above it."""

    source = "feedmill/settings.py"

    def lines(self) -> Iterator[str]:
        comments = ModuleAnalyzer.for_module(Settings.__module__).find_attr_docs()
        for field in dataclasses.fields(Settings):
            comment = " ".join(comments.get((Settings.__name__, field.name), [])).strip()
            if not comment:
                raise ValueError(f"the setting {field.name} has no #: comment; write one in feedmill/settings.py")
            default = f"``{field.default}``" if field.default != "" else "empty"
            yield from (f".. envvar:: FEEDMILL_{field.name.upper()}", "")
            yield from (f"   ``configure({field.name}=…)``, {field.type}, default: {default}", "", f"   {comment}", "")


class TasksList(Generated):
    """Every task of Feedmill's, with what it does and how long it may take."""

    source = "feedmill/tasks/tasks.py"

    def lines(self) -> Iterator[str]:
        for name, task in sorted(celery.tasks.items()):
            if name.startswith("feedmill."):
                first = (task.run.__doc__ or "").strip().splitlines()[0]
                yield f"``{name}``"
                yield f"   {first} Interrupted after {task.soft_time_limit} seconds, killed after {task.time_limit}."
                yield ""


class MetricsList(Generated):
    """The metrics that processes count, or those that are stored, with their kinds, labels and meanings."""

    source = "feedmill/metrics.py"
    required_arguments = 1

    def lines(self) -> Iterator[str]:
        for each in metrics.ALL:
            if each.stored == (self.arguments[0] == "stored"):
                labels = ", ".join(f"``{label}``" for label in each.labels)
                yield f"``{each.name}``"
                yield f"   {each.kind.value}{', by ' if labels else ''}{labels}. {each.help}"
                yield ""


class OperationsList(Generated):
    """The operations of the HTTP service, with their parameters, bodies and answers."""

    source = "feedmill/web/app.py"

    def lines(self) -> Iterator[str]:
        for path, operations in application(Options()).openapi()["paths"].items():
            for method, operation in operations.items():
                yield from (f"``{method.upper()} {path}``", f"   {operation['summary']}.", "")
                for paragraph in operation["description"].split("\n\n"):
                    yield from (f"   {' '.join(self._code(paragraph).split())}", "")
                for each in operation.get("parameters", ()):
                    if each["in"] == "query":
                        yield f"   - ``{each['name']}``: {self._code(each['description'])}"
                if (body := operation.get("requestBody")) is not None:
                    yield f"   - Body: {self._schema(body['content'])}"
                for status, answer in operation["responses"].items():
                    if int(status) < 300:
                        shown = self._schema(answer["content"]) if answer.get("content") else "nothing"
                        yield f"   - Answer {status}: {shown}"
                yield ""

    @staticmethod
    def _code(text: str) -> str:
        return text.replace("`", "``")

    @staticmethod
    def _schema(content: dict[str, Any]) -> str:
        ((kind, found),) = content.items()
        name = found["schema"].get("$ref", "").rpartition("/")[2]
        return f"``{name}``" if name and kind == "application/json" else f"``{name or 'an object'}`` as ``{kind}``"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("feedmill-settings", SettingsList)
    app.add_directive("feedmill-tasks", TasksList)
    app.add_directive("feedmill-metrics", MetricsList)
    app.add_directive("feedmill-http", OperationsList)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
