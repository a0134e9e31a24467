"""Messages that a receiver has pulled but not stored yet, and the memory that receivers share for messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Condition
from typing import Final

from parcelq.collect.segments import JobKey
from parcelq.lineage.source import NO_SOURCE, Source, workflow_name
from parcelq.topics.attributes import SOURCE, WORKFLOW
from parcelq.topics.cost import COST, Cost
from parcelq.topics.message import Message, Pulled
from parcelq.topics.pieces import Piece, pieces_of

_ROW_BYTES: Final = 400
"""About how many bytes of memory a message needs in addition to its texts."""


class Room:
    """An amount of memory that several threads share. A thread that needs memory waits until enough is free."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes while the context lasts; if `size` exceeds the memory, reserve all memory."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


@dataclass(slots=True)
class Held:
    """Messages that a receiver has pulled but not stored yet, without the texts in which the messages arrived."""

    since: float
    first: datetime
    pulled: list[Pulled] = field(default_factory=list)
    pieces: defaultdict[JobKey, list[Piece]] = field(default_factory=lambda: defaultdict(list))
    versions: defaultdict[JobKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    costs: defaultdict[JobKey, Cost] = field(default_factory=lambda: defaultdict(Cost))
    size: int = 0
    count: int = 0

    def add(self, one: Pulled, message: Message) -> None:
        """Add a message. If the message cannot be read, add nothing and raise MessageError."""
        source, version = message.attributes.get(SOURCE, ""), message.attributes.get(WORKFLOW, "")
        pieces = list(pieces_of(message))
        if not Source.is_one(source):
            source = NO_SOURCE
        job = JobKey(source, workflow_name(version))
        nowhere = JobKey(NO_SOURCE)
        for number, piece in enumerate(pieces):
            if source and piece.lineage:
                self.pieces[job].append(piece)
            elif not piece.dead:
                self.pieces[nowhere].append(piece._replace(lineage=f"{one.message_id} {number}"))
            self.size += _ROW_BYTES + len(piece.body) + len(piece.lineage) + len(piece.dead)
        self.count += len(pieces)
        if version and job in self.pieces:
            self.versions[job].add(version)
        if COST in message.attributes:
            self.costs[job] += Cost.parse(message.attributes[COST])
        self.pulled.append(one.receipt())
