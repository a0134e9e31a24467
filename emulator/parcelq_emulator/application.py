"""Moto as a WSGI application with Parcelq's own SQS and S3, and the HTTP server that runs the application."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import yaml
from moto import backends
from moto.core.common_models import BaseModel
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sqs.models import sqs_backends
from parcelq.limits import KIB
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

from parcelq_emulator import frames, s3
from parcelq_emulator.bodies import Bodies
from parcelq_emulator.s3_direct import DirectS3
from parcelq_emulator.sqs import SqsFrontend
from parcelq_emulator.sqs_backend import StandardQueueBackend
from parcelq_emulator.sqs_queue import StandardQueue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST: Final = "127.0.0.1"
"""The only address that the server listens on, because moto checks no credentials."""

_BLOCK: Final = 64 * KIB
_FAILED: Final = ("500 Internal Server Error", [("Content-Length", "0")])

log = logging.getLogger(__name__)


def application(directory: str) -> WSGIApplication:
    """Return all of moto's services as one application. Calling this function changes moto for the whole process.

    Args:
        directory: the folder for the objects of S3, and for message bodies that exceed the memory limit.
    """
    # Moto's dashboard keeps every object in memory, even if a client deletes the object. This line turns the dashboard
    # off.
    BaseModel.__new__ = staticmethod(_new_untracked)
    # Moto parses the stack's template as YAML, which libyaml does in a tenth of the time.
    yaml.Loader = getattr(yaml, "CLoader", yaml.Loader)  # type: ignore[misc]
    # Moto lists its own folder twice to find the service of each request. This line caches the result.
    services = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: services
    sqs_backends.backend = StandardQueueBackend
    StandardQueue.bodies = Bodies(directory)
    s3.install(directory)
    moto = DomainDispatcherApplication(create_backend_app)
    return SqsFrontend(DirectS3(s3.S3Frontend(with_account_settings(moto))))


def with_account_settings(application: WSGIApplication) -> WSGIApplication:
    """Return an application that answers Lambda's GetAccountSettings, which moto lacks, with the usual quotas of an
    account.
    """
    limits = {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}
    body = json.dumps({"AccountLimit": limits, "AccountUsage": {"FunctionCount": 0, "TotalCodeSize": 0}}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").strip("/") != "2016-08-19/account-settings":
            return application(environ, start_response)
        start_response("200 OK", headers)
        return (body,)

    return answer


class Latency:
    """A WSGI application that delays each request as a network does, and then passes the request to another
    application.

    Args:
        application: the other application.
        seconds: maps services such as `sqs` to delays; a request's signature names its service.
    """

    def __init__(self, application: WSGIApplication, seconds: Mapping[str, float]) -> None:
        self._application = application
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        # AWS4-HMAC-SHA256 Credential=AKIA…/20261231/eu-west-1/sqs/aws4_request, …
        scope = environ.get("HTTP_AUTHORIZATION", "").split("/")
        time.sleep(self._seconds.get(scope[3], 0.0) if len(scope) > 4 else 0.0)
        return self._application(environ, start_response)


def listen(application: WSGIApplication, port: int) -> Any:
    """Create an HTTP server with a thread for each connection. The server listens at once, but answers requests only in
    its method `serve_forever`.

    Args:
        application: the application that answers requests.
        port: the port of the loopback interface; 0 for any free port, which the server's attribute `port` names.
    """
    return make_server(HOST, port, application, threaded=True, request_handler=KeepAliveHandler)


def _new_untracked(model: type, *_args: Any, **_options: Any) -> Any:
    return object.__new__(model)


class KeepAliveHandler(MotoRequestHandler):  # type: ignore[misc]
    """Answers HTTP requests, and keeps the connections of clients open.

    Werkzeug closes the connection after every request. An open connection saves a thread and 0.2 ms of CPU on either
    side for each request. Without it, a few hundred requests a second would use up the machine's ports.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _BLOCK  # a small reply is one packet

    def log_request(self, *_args: Any) -> None:
        """Log nothing: there are many requests, and the sender of an invalid request gets an error."""

    def run_wsgi(self) -> None:
        """Answer one request."""
        self.wfile.flush()  # "100 Continue" may be in the buffer, and the client waits for it
        environ: WSGIEnvironment = self.make_environ()
        if environ.get("HTTP_UPGRADE") == frames.PROTOCOL:
            self._change_over(environ)
            return
        body = environ["wsgi.input"]
        if not environ.get("wsgi.input_terminated"):
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"] = io.BufferedReader(LimitedStream(body, length))
        try:
            self._respond(environ)
            while body.read(_BLOCK):
                pass  # the next request must not begin with unread bytes of this request
        except (ConnectionError, ClientDisconnected):
            self.close_connection = True

    def _change_over(self, environ: WSGIEnvironment) -> None:
        """Switch a connection to frames (see `frames`), and answer frames until the client closes the connection."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.wfile.flush()
        base = {name: value for name, value in environ.items() if not name.startswith("HTTP_")}
        base["HTTP_HOST"] = f"{HOST}:{environ['SERVER_PORT']}"
        with suppress(ConnectionError):
            frames.serve(self.rfile, self.wfile, self._safely, base)

    def _safely(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self.server.app(environ, start_response)  # type: ignore[no-any-return]
        except Exception:  # moto raises for unknown requests; later requests still work
            log.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            start_response(*_FAILED)
            return ()

    def _respond(self, environ: WSGIEnvironment) -> None:
        head = _FAILED

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            nonlocal head
            head = (status, headers)

        blocks: Iterable[bytes]
        try:
            blocks = self.server.app(environ, start_response)
        except (ConnectionError, ClientDisconnected):
            raise
        except Exception:  # moto raises for unknown requests; later requests still work
            log.exception("%s %s failed", self.command, self.path)
            head, blocks = _FAILED, ()
        try:
            self._send_head(*head)
            for block in blocks:
                self.wfile.write(block)
        finally:
            getattr(blocks, "close", lambda: None)()

    def _send_head(self, status: str, headers: list[tuple[str, str]]) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Connection", "close")  # the end of the connection marks the end of the body
        self.end_headers()
