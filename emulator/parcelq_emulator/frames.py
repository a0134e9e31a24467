"""Sends botocore's requests to the local server without HTTP, which is most of the cost of a small request.

A client connects to the server, switches protocols by HTTP's `Upgrade`, and then sends each prepared request as a line
of JSON followed by the body. Replies have the same form. The client uses botocore's event `before-send`:
https://github.com/boto/botocore/blob/develop/botocore/endpoint.py

Functions load this file by its path, so this module imports no other module of the package.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

PROTOCOL: Final = "parcelq-frames"
_MOST_BYTES: Final = 1 << 20
"""The most bytes of a body in a frame. A larger body is sent by HTTP, and the server writes the body to a file."""
_BLOCK: Final = 1 << 16


class _Small(io.BytesIO):
    """The body of a reply, already read completely."""

    def stream(self, _amount: int = 0, **_: Any) -> Iterator[bytes]:
        """Yield the whole body, as a urllib3 response does."""
        yield self.read()


class _Large(io.RawIOBase):
    """The body of a reply, read from the connection. The connection can be reused when the body was read completely."""

    def __init__(self, stream: IO[bytes], length: int, done: Callable[[], None]) -> None:
        self._stream, self._left, self._done = stream, length, done

    def readable(self) -> bool:
        """Return True, because the body can be read."""
        return True

    def read(self, size: int | None = -1) -> Any:
        """Read up to `size` bytes, or all remaining bytes."""
        return super().read(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes, and return how many bytes were read."""
        data = self._stream.read(min(len(buffer), self._left)) if self._left else b""
        buffer[: len(data)] = data
        self._left -= len(data)
        if data and not self._left:
            self._done()
        if self._left and not data:
            raise ConnectionError("the server ended in the middle of an answer")
        return len(data)

    def stream(self, _amount: int = 0, **_: Any) -> Iterator[bytes]:
        """Yield the whole body, as a urllib3 response does."""
        while block := self.read(_BLOCK):
            yield block

    def close(self) -> None:
        """Close the connection unless the body was read completely."""
        if self._left:
            self._stream.close()
        super().close()


class Frames:
    """Sends the requests of boto3 sessions to a local server as frames.

    Args:
        url: the server's endpoint.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[IO[bytes]] = []

    def install(self, session: Any) -> None:
        """Make all future clients of a boto3 or botocore session send their requests as frames."""
        session.events.register_first("choose-signer.*.*", _choose_signer)
        session.events.register("before-sign.*.*", _name_service)
        session.events.register_last("before-send.*.*", self.send)

    def send(self, request: Any, **_: Any) -> Any:
        """Send a request of botocore and return the reply. Return None if the request must be sent by HTTP."""
        from botocore.awsrequest import AWSResponse
        from botocore.exceptions import ConnectionClosedError

        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        length = len(body) if isinstance(body, bytes | bytearray) else int(request.headers.get("Content-Length", -1))
        odd = any("_" in name for name in request.headers)
        if odd or not 0 <= length <= _MOST_BYTES or not request.url.startswith(self._url):
            return None
        data = body if isinstance(body, bytes | bytearray) else body.read()
        headers = {name: one.decode() if isinstance(one, bytes) else one for name, one in request.headers.items()}
        try:
            stream = self._connection()
            _write(stream, [request.method, request.url[len(self._url) :], headers], data)
            (status, answered), size = _read(stream)
            if size > _BLOCK:
                large = _Large(stream, size, lambda: self._free.append(stream))
                return AWSResponse(request.url, status, answered, large)
            found = stream.read(size)
            if len(found) < size:
                raise EOFError("the server ended in the middle of an answer")
            self._free.append(stream)
            return AWSResponse(request.url, status, answered, _Small(found))
        except (OSError, EOFError) as error:
            raise ConnectionClosedError(endpoint_url=request.url, error=error) from error

    def _connection(self) -> IO[bytes]:
        with suppress(IndexError):
            return self._free.pop()
        address = urlsplit(self._url)
        connection = socket.create_connection((address.hostname or "", address.port or 80))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: Any = connection.makefile("rwb")
        connection.close()  # the connection closes when the stream is closed
        stream.write(f"GET / HTTP/1.1\r\nHost: local\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode())
        stream.flush()
        while line := stream.readline().strip():
            if line.startswith(b"HTTP/") and b" 101 " not in line:
                raise ConnectionError(f"the server does not switch to frames: {line!r}")
        return stream  # type: ignore[no-any-return]


def _choose_signer(signature_version: Any, **_: Any) -> Any:
    """Leave requests to the local server unsigned, because signing costs more than sending. Sign presigned URLs as
    usual.
    """
    from botocore import UNSIGNED

    return None if str(signature_version).endswith(("-query", "-presign-post")) else UNSIGNED


def _name_service(request: Any, signing_name: str, region_name: str, signature_version: Any, **_: Any) -> None:
    """Add the name of the service to an unsigned request; in a signed request, the signature contains this name."""
    from botocore import UNSIGNED

    if signature_version is UNSIGNED:
        scope = f"local/-/{region_name}/{signing_name}/aws4_request"
        request.headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}"


def _write(stream: IO[bytes], head: Any, body: bytes | bytearray | Iterable[bytes], size: int | None = None) -> None:
    """Write a frame: a head as a line of JSON, then the body."""
    blocks = (body,) if isinstance(body, bytes | bytearray) else body
    stream.write(json.dumps([head, len(body) if size is None else size]).encode() + b"\n")  # type: ignore[arg-type]
    for block in blocks:
        stream.write(block)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[Any, int]:
    """Read the head of a frame; return the head and the size of the body. Raise EOFError at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the other side is gone")
    head, size = json.loads(line)
    return head, size


def serve(rfile: IO[bytes], wfile: IO[bytes], application: Any, base: Mapping[str, Any]) -> None:
    """Let a WSGI application answer the frames of a connection, until the client closes the connection.

    Args:
        rfile: the stream of requests.
        wfile: the stream for replies.
        application: the application that answers.
        base: the WSGI variables that all requests have.
    """
    while True:
        try:
            (method, target, headers), size = _read(rfile)
        except EOFError:
            return
        environ = {**base, **_variables(method, target, headers), "wsgi.input": io.BytesIO(rfile.read(size))}
        status, answered, blocks = _answer(application, environ)
        length: Any = {name.lower(): one for name, one in answered.items()}.get("content-length")
        if method == "HEAD":
            blocks, length = (), 0
        elif length is None:
            blocks = list(blocks)
            length = sum(map(len, blocks))
        _write(wfile, [int(status.partition(" ")[0]), answered], blocks, int(length))


def _answer(application: Any, environ: Mapping[str, Any]) -> tuple[str, dict[str, str], Iterable[bytes]]:
    heads: list[tuple[str, dict[str, str]]] = []
    blocks = application(environ, lambda status, headers, _=None: heads.append((status, dict(headers))))
    return *heads[0], blocks


def _variables(method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = target.partition("?")
    variables: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote(path).encode().decode("latin-1") or "/",
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "CONTENT_LENGTH": "0",
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        variables[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    return variables
