"""The console's web application. The application listens only on the loopback interface. It refuses requests from other
sites, and requests without its secret path.

A request must name the loopback address as its host, so the console refuses other names that resolve to this machine. A
request that changes something must be a POST from a page of the console itself (its `Origin` says so), with a token in
a header that other sites cannot send. No reply allows other sites to read it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, abort, request
from parcelq.collect.page.document import document
from parcelq.collect.page.html import element, text
from parcelq.errors import JobError, ParcelqError
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from parcelq_cli.console.pages import job_page, listing
from parcelq_cli.console.view import ACTIONS, Selected, ShownJobs, act, selected, sentence_of

_log = logging.getLogger(__name__)
HOST: Final = "127.0.0.1"
_MOST_BYTES: Final = 10_000
"""The most bytes of the body of a POST request."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Console:
    """The web application that shows jobs on a port (0: any free port). Raises OSError if the port is taken."""

    def __init__(self, jobs: ShownJobs, place: str, port: int = 0) -> None:
        self._jobs = jobs
        self._place = place
        self._secret = secrets.token_urlsafe(32)
        self._token = secrets.token_urlsafe(32)
        self.app = self._application()
        with socket.create_server((HOST, port)) as listening:  # the server itself would print the error and exit
            self._server: BaseWSGIServer = make_server(
                HOST, port, self.app, threaded=True, request_handler=_Handler, fd=listening.fileno()
            )

    @property
    def host(self) -> str:
        """The host that a request must name."""
        return f"{HOST}:{self._server.port}"

    @property
    def url(self) -> str:
        """The address of the list of jobs, with the secret path."""
        return f"http://{self.host}/{self._secret}/"

    def serve(self) -> None:
        """Answer requests until `stop` is called."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """Make `serve` return. Another thread must call this method."""
        self._server.shutdown()

    def _application(self) -> Flask:
        app = Flask("parcelq_console", static_folder=None)
        app.config["MAX_CONTENT_LENGTH"] = _MOST_BYTES
        app.before_request(self._check)
        app.after_request(_with_headers)
        app.register_error_handler(HTTPException, _refusal)
        app.register_error_handler(ParcelqError, _problem)
        app.register_error_handler(OSError, _problem)
        app.add_url_rule("/<secret>/", view_func=self._list, methods=["GET"])
        app.add_url_rule("/<secret>/job/<job>", view_func=self._job, methods=["GET"])
        app.add_url_rule("/<secret>/job/<job>/act", view_func=self._act, methods=["POST"])
        return app

    def _check(self) -> None:
        """Refuse a request that does not come from a page of this console."""
        secret = (request.view_args or {}).pop("secret", "")
        if request.host != self.host:
            abort(421, "this is not the address of the console")
        if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            abort(403, "the request comes from another site")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            abort(404, "the address is incomplete; use the one that parcelq console printed")
        if request.method == "POST":
            token = request.headers.get("X-Parcelq-Token", "")
            if request.headers.get("Origin") != f"http://{self.host}" or not hmac.compare_digest(
                token.encode("utf-8", "replace"), self._token.encode()
            ):
                abort(403, "only a page of the console may do this")

    def _list(self) -> Response:
        return self._page("Jobs", listing(self._jobs.views(), self._place), back="")

    def _job(self, job: str) -> Response:
        return self._page(f"Job {job}", job_page(self._jobs, job), back="../")

    def _act(self, job: str) -> tuple[dict[str, str], int]:
        try:
            action, only = _order(request.get_json())
        except (ValueError, TypeError, KeyError, AttributeError):
            return {"error": "the request is not valid"}, 400
        try:
            return {"said": act(self._jobs, job, action, only)}, 200
        except (ParcelqError, OSError) as error:
            return {"error": sentence_of(error)}, 409

    def _page(self, title: str, main: str, back: str) -> Response:
        nav = element("nav", element("a", "All jobs", href=back)) if back else ""
        ask = element(
            "dialog",
            element("p", ""),
            element("button", "Yes", type="button", value="yes", class_="yes"),
            element("button", "No", type="button", value="no"),
            id="ask",
            aria_label="Confirm",
        )
        said = element("div", "", id="said", role="status")
        page = document(
            f"{title} - Parcelq",
            nav + main + said + ask,
            script=_asset("console.js"),
            style=_asset("console.css"),
            policy="; connect-src 'self'",
        )
        token = f'<meta name="parcelq-token" content="{text(self._token)}"></head>'.encode()
        return Response(page.replace(b"</head>", token, 1), mimetype="text/html")


class _Handler(WSGIRequestHandler):  # type: ignore[misc]
    """A request handler that logs no requests, because their addresses contain the secret path."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name is Werkzeug's
        _log.log(logging.DEBUG if type == "info" else logging.WARNING, "%s", message % args if args else message)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Discard the message."""


def _order(given: Any) -> tuple[str, Selected]:
    """Read the action of a request. Raises ValueError, TypeError or KeyError if the request is invalid."""
    action, kind, span = given["action"], given.get("kind", ""), given.get("range", "")
    if action not in ACTIONS or not isinstance(kind, str):
        raise ValueError(action)
    start, _, end = span.partition(",")
    return action, selected(kind, (int(start), int(end)) if span else None)


def _with_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response


def _refusal(error: HTTPException) -> Response:
    return Response(f"{error.description}\n", error.code, mimetype="text/plain")


def _problem(error: ParcelqError | OSError) -> Response:
    return Response(f"{sentence_of(error)}\n", 404 if isinstance(error, JobError) else 503, mimetype="text/plain")


@cache
def _asset(name: str) -> str:
    return "\n" + Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
