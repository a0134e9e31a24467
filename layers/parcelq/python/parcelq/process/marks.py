"""Marks: small objects in the store that show that a run killed its Lambda function.

A mark is written before a run and deleted as soon as the run has ended, before anything is published. So if a mark
still exists after its `end`, the invocation that wrote the mark died while the step ran. All data of a mark is in its
key. Only if the mark covers several messages, their names are in the object:

    marks/<topic>/<end>-<invocation>-<name>     of one message that runs alone
    marks/<topic>/<end>-<invocation>            of several messages; the object is a JSON list of their names

`end` is the time when the invocation must end, in seconds since the epoch. A name is a digest of a message's `place`
(its source and lineage, or its id) and its number of failed runs. So a mark does not apply to the copy of the message
that is published after a failure.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from parcelq.errors import NotFoundError, ParcelqError
from parcelq.names import MARKS
from parcelq.process.plan import Evidence, Work
from parcelq.process.rules import Rules
from parcelq.store.store import Store

_log = logging.getLogger(__name__)
_KEY: Final = re.compile(r"(\d{1,12})-([^-/]+)(?:-([0-9a-f]+))?")
_KEPT_SECONDS: Final = 24 * 60 * 60
"""How many seconds a mark of several messages is kept, because each message may be delivered again at another time."""


def name_of(work: Work) -> str:
    """Return the name that identifies a message in marks."""
    return hashlib.blake2b(f"{work.failures} {work.place}".encode(), digest_size=8).hexdigest()


class Marks:
    """Writes, reads and deletes the marks of one topic in a store."""

    def __init__(self, store: Store, topic: str) -> None:
        self._store = store
        self._folder = f"{MARKS}{topic}/"
        self._left: list[str] = []
        self._read: dict[str, frozenset[str]] = {}

    def put(self, works: Collection[Work], invocation: str, end: float, *, alone: bool) -> str:
        """Write a mark about messages that are about to run, and return its key. Raises ParcelqError if
        the store fails; the messages must not run in this case.
        """
        names = [name_of(work) for work in works]
        key = f"{self._folder}{int(end) + 1:d}-{invocation.replace('-', '')}" + (f"-{names[0]}" if alone else "")
        try:
            self._store.put(key, json.dumps(names).encode())
        except (ParcelqError, OSError):
            # guard[pass]: a mark whose put failed is deleted, as it may still be there
            self._left.append(key)  # the mark may have been written although the reply was lost
            raise
        return key

    def delete(self, keys: Iterable[str]) -> None:
        """Delete marks, and also marks that could not be deleted earlier. A remaining mark may later count as a failure
        of its message, but a single mark never makes a message dead.
        """
        if keys := [*keys, *self._left]:
            self._left[:] = keys
            try:
                self._store.delete(keys)
            except (ParcelqError, OSError) as error:
                _log.warning("marks could not be deleted: %s", error)
            else:
                self._left.clear()

    def evidence(self, works: Iterable[Work], now: float, rules: Rules) -> Evidence:
        """Return what the marks show about messages that were received before.

        A Lambda function may die for other reasons while a mark exists, and a mark may remain because deleting the mark
        failed. So only two marks in a row make a message dead. If there is one mark, the message runs alone again.
        Raises ParcelqError if the store fails.
        """
        names = {name_of(work): work for work in works if work.receive_count > 1}
        if not names:
            return Evidence()
        own: dict[str, tuple[str, ...]] = {}
        suspects: set[str] = set()
        spent = []
        for key in self._store.keys(self._folder):
            found = _KEY.fullmatch(key.removeprefix(self._folder))
            # guard[not found]: a mark counts only when its time is over
            if not found or int(found[1]) > now:
                continue
            if int(found[1]) + _KEPT_SECONDS < now:
                spent.append(key)
            elif found[3]:
                if found[3] in names:
                    own[found[3]] = (*own.get(found[3], ()), key)
            else:
                suspects |= self._names(key) & names.keys()
        self.delete(spent)
        # guard[killed = own]: no message dies of one mark alone
        killed = {name: keys for name, keys in own.items() if len(keys) > 1 or not rules.would_die(names[name])}
        doubts = {name: keys for name, keys in own.items() if name not in killed}

        def by_place(keys: dict[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
            return MappingProxyType({names[name].place: keys[name] for name in keys})

        accused = frozenset(names[name].place for name in suspects | doubts.keys())
        return Evidence(by_place(killed), accused, by_place(doubts))

    def _names(self, key: str) -> frozenset[str]:
        """Return the names in a mark of several messages. A mark never changes, so each mark is read only once."""
        if key not in self._read:
            names: object = None
            with suppress(NotFoundError, ValueError, RecursionError):
                names = json.loads(self._store.read(key))
            self._read[key] = frozenset(map(str, names)) if isinstance(names, list) else frozenset()
        return self._read[key]


def receives_as_evidence(works: Iterable[Work], rules: Rules) -> Evidence:
    """Return evidence without a store: a message that was received before counts as a message that killed its worker.

    A message that would be dead by this rule is still run, so that only a failed run can make the message dead. Because
    such a message may kill the worker, only one such message runs at a time. The others are published again, so that
    SQS does not move them to the dead-letter topic too.
    """
    received = [work for work in works if work.receive_count > 1]
    killed: dict[str, tuple[str, ...]] = {work.place: () for work in received if not rules.would_die(work)}
    # guard[last = []]: without a store, a message on its last run may kill the worker and runs alone
    last = [work.place for work in received if rules.would_die(work)]
    return Evidence(MappingProxyType(killed), frozenset(last[:1]), waiting=frozenset(last[1:]))
