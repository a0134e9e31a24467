"""A server that replaces SQS and answers each request at once.

`python -m benchmarks.stub` prints its URL and runs until its standard input ends.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.tools import own_module

_BUFFER_BYTES: Final = 1 << 20
_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


@contextmanager
def stub_server() -> Iterator[str]:
    """Run the server in a separate process, and yield its URL."""
    process = subprocess.Popen(own_module("benchmarks.stub"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield (process.stdout.readline() if process.stdout else "").strip()
    finally:
        process.communicate()


def _reply() -> bytes:
    """Return the reply to SendMessageBatch, which says that ten messages with numbers as ids were accepted."""
    taken = [{"Id": str(number), "MessageId": "0" * 36, "MD5OfMessageBody": "0" * 32} for number in range(10)]
    body = json.dumps({"Successful": taken}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _serve(connection: socket.socket) -> None:
    reply = _reply()
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    with connection:
        while True:
            got = end = 0
            while not end:
                came = connection.recv_into(view[got:])
                if not came:
                    return
                got += came
                end = buffer.find(_END_OF_HEAD, 0, got) + 1
            head = bytes(view[:end]).lower()
            length = int(head.partition(_LENGTH)[2].partition(b"\r\n")[0])
            left = length - (got - (end - 1 + len(_END_OF_HEAD)))
            while left:
                came = connection.recv_into(view[: min(left, _BUFFER_BYTES)])
                if not came:
                    return
                left -= came
            connection.sendall(reply)


def main() -> None:
    """Answer requests until standard input ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
