"""The example site on Flask: ``make example-flask``, or ``flask --app examples.flask.app run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, g, json, request

from examples.shared import site
from feedmill.contrib.flask import Feedmill, LiveResponse

SHARED = Path(site.__file__).parent
Json = dict[str, Any]

feedmill = Feedmill()
api = Blueprint("api", __name__, url_prefix="/api")


@api.before_request
def log_in() -> None:
    """Who is logged in. A real site has its own login here."""
    if request.endpoint not in ("api.me", "api.login"):
        g.user = site.known(request.cookies.get("person"))


def sent(name: str) -> Any:
    """A value of the JSON in the body of the request."""
    body = request.get_json()
    return body.get(name) if isinstance(body, dict) else None


@api.errorhandler(site.Refused)
def refused(error: site.Refused) -> Response:
    """In the shape in which Feedmill's errors are answered."""
    body = {"type": "about:blank", "title": "Refused", "status": error.status, "detail": error.detail}
    return Response(json.dumps(body), error.status, content_type="application/problem+json")


@api.get("/me")
def me() -> Json:
    return site.me(request.cookies.get("person"))


@api.post("/login")
def login() -> Response:
    person = site.known(sent("person"))
    response = Response(json.dumps(site.me(person)), content_type="application/json")
    response.set_cookie("person", person, httponly=True, samesite="Strict")
    return response


@api.get("/home")
def home() -> Json:
    return site.home(g.user, request.args.get("cursor"))


@api.get("/notifications")
def notifications() -> Json:
    return site.notifications(g.user, request.args.get("cursor"))


@api.post("/notifications/seen")
def seen() -> Json:
    return site.mark_seen(g.user, sent("revision"))


@api.post("/posts")
def share() -> tuple[Json, int]:
    return site.share(g.user, sent("text"), sent("link")), 201


@api.get("/posts/<int:number>")
def post(number: int) -> Json:
    return site.post(g.user, number)


@api.put("/posts/<int:number>/like")
def like(number: int) -> Json:
    return site.like(g.user, number)


@api.delete("/posts/<int:number>/like")
def unlike(number: int) -> Json:
    return site.unlike(g.user, number)


@api.post("/posts/<int:number>/comments")
def comment(number: int) -> tuple[Json, int]:
    return site.comment(g.user, number, sent("text")), 201


@api.put("/people/<target>/follow")
def follow(target: str) -> Json:
    return site.follow(g.user, target)


@api.delete("/people/<target>/follow")
def unfollow(target: str) -> Json:
    return site.unfollow(g.user, target)


@api.get("/live")
def live() -> LiveResponse:
    return LiveResponse(site.live_feeds(g.user, request.args["after"]))


def create_app(**config: Any) -> Flask:
    """The app, with settings of Flask's and of Feedmill's."""
    app = Flask(__name__, static_folder=SHARED / "static")
    app.config.update(config)
    feedmill.init_app(app)
    app.register_blueprint(api)
    app.add_url_rule("/", "page", lambda: app.send_static_file("index.html"))
    return app
