"""How many requests this process made to AWS."""

from __future__ import annotations

from itertools import count
from typing import Any


class Requests:
    """Counts requests of clients, from the moment that they are watched."""

    def __init__(self) -> None:
        self._count = count()
        self._asked = count()

    def watch(self, *clients: Any) -> None:
        """Count the requests of clients; a client that is watched already is counted once."""
        for client in clients:
            client.meta.events.register("before-call", self._note, unique_id="parcelq-requests")

    def so_far(self) -> int:
        """How many there were. Retries of one request count once."""
        return next(self._count) - next(self._asked)  # `next` itself counts, so earlier readings are subtracted

    def _note(self, **_: Any) -> None:
        next(self._count)


REQUESTS = Requests()
"""Of this process: a function's instance has one set of clients."""
