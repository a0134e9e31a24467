"""Keeps messages locked while they are processed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Final

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.topics.message import Pulled
from parcelq.topics.topic import Topic

_log = logging.getLogger(__name__)
_SHORTEST_SECONDS: Final = 2


class Lease:
    """A context manager that renews the acknowledgement deadline of messages until the context ends.

    A thread wakes after each quarter of `timeout` seconds. It sets the deadline of a message to `timeout` seconds again
    before more than half of this time has passed. A message that is held for less than a quarter costs no request. A
    failed renewal is logged and retried after another quarter; at worst a message is delivered twice. Unless `at_once`,
    the messages were just pulled with this deadline, which saves a request. Raises InvalidValueError if the timeout is
    not from 2 seconds to 12 hours.
    """

    def __init__(
        self, topic: Topic, messages: Iterable[Pulled] = (), timeout: int = 300, *, at_once: bool = True
    ) -> None:
        if not _SHORTEST_SECONDS <= timeout <= MAX_DEADLINE_SECONDS:
            wanted = f"{_SHORTEST_SECONDS} to {MAX_DEADLINE_SECONDS} seconds"
            raise InvalidValueError("acknowledgement deadline", timeout, wanted)
        self._topic = topic
        self._timeout = timeout
        self._at_once = at_once
        self._held = {message.receipt_handle: message for message in messages}
        self._due: set[str] = set()  # the messages to renew when the thread wakes next
        self._lock = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._keep, name="parcelq-lease", daemon=True)

    def add(self, messages: Iterable[Pulled]) -> None:
        """Renew the deadlines of more messages, which were pulled just now."""
        with self._lock:
            self._held.update((message.receipt_handle, message) for message in messages)

    def drop(self, messages: Iterable[Pulled]) -> None:
        """Stop renewing the deadlines of messages."""
        with self._lock:
            for message in messages:
                self._held.pop(message.receipt_handle, None)

    def __enter__(self) -> Lease:
        if self._at_once:
            self._refresh(list(self._held.values()))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(self._timeout / 4):
            with self._lock:
                due = [message for handle, message in self._held.items() if handle in self._due]
                self._due = self._held.keys() - self._due
            # guard[failed = ()]: the deadline of held messages is refreshed while work on them goes on
            failed = self._refresh(due)
            self._due.update(message.receipt_handle for message in failed)

    def _refresh(self, messages: list[Pulled]) -> Sequence[Pulled]:
        """Set the deadline of messages, and return the messages whose deadline was not set."""
        try:
            failed = self._topic.refresh_deadline(messages, self._timeout)
        except ParcelqError as error:
            _log.warning("deadlines could not be renewed: %s", error)
            return messages
        if failed:
            _log.warning("%d of %d deadlines could not be renewed", len(failed), len(messages))
        return failed
