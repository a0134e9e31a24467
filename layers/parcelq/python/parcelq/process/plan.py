"""Plans what to do with messages that were read, before any of them runs. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from parcelq.errors import LineageError
from parcelq.lineage.lineage import Lineage, joined
from parcelq.records import LINES, Format
from parcelq.topics.attributes import DEAD, FAILURES, LINEAGE, SOURCE, count_told, format_of
from parcelq.topics.message import Message, Pulled


class Work(NamedTuple):
    """A message that was read.

    Attributes:
        message: the message, decoded.
        deliveries: the deliveries to acknowledge when the message is done: the one that was read, and others of this
            invocation with the same lineage.
        lineage: its lineage; None if it has no lineage or an invalid one.
        entries: its number of entries.
        failures: number of its failed runs.
        format: the record format of its body.
        header: the header that the step gets before the body.
    """

    message: Message
    deliveries: tuple[Pulled, ...]
    lineage: Lineage | None
    entries: int
    failures: int = 0
    format: Format = LINES
    header: bytes = b""

    @classmethod
    def of(cls, pulled: Pulled, message: Message, header: bytes = b"") -> Work:
        """Read the attributes. An invalid lineage counts as none, because the body is still worth processing.

        Raises:
            MessageError: the attribute `Format` is invalid.
        """
        text = message.attributes.get(LINEAGE, "")
        try:
            lineage = Lineage.parse(text) if SOURCE in message.attributes else None
            if lineage and DEAD not in message.attributes and len(lineage.span) != len(message.body):
                lineage = None
        except LineageError:
            lineage = None
        failures = count_told(message.attributes.get(FAILURES, "")) or 0
        return cls(message, (pulled,), lineage, message.entries, failures, format_of(message.attributes), header)

    @property
    def pulled(self) -> Pulled:
        """The delivery that was read."""
        return self.deliveries[0]

    @property
    def is_header(self) -> bool:
        """Whether the body is the header of the source."""
        return self.lineage is not None and not (self.lineage.outputs or self.entries) and self.message.body != b""

    @property
    def is_only_header(self) -> bool:
        """Whether the body is the header of a source that is not empty; other messages bring the header to the step."""
        return self.is_header and self.lineage is not None and self.lineage.root.end != self.lineage.root.total

    @property
    def receive_count(self) -> int:
        """How often the message was received, including this time."""
        return max(one.receive_count for one in self.deliveries)

    @property
    def source(self) -> str:
        """The attribute `Source`; empty if there is no lineage."""
        return self.message.attributes[SOURCE] if self.lineage else ""

    @property
    def place(self) -> str:
        """A key for the bytes of the message: its source and lineage; or, without lineage, the message's id."""
        return f"{self.source} {self.lineage}" if self.lineage else self.pulled.message_id

    @property
    def about(self) -> dict[str, str]:
        """The fields for a log line about it."""
        return {
            "source": self.source,
            "lineage": str(self.lineage or ""),
            "message_id": self.pulled.message_id,
            "receive_count": str(self.receive_count),
            "failures": str(self.failures),
        }


_NONE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class Evidence(NamedTuple):
    """What marks of earlier invocations say about messages, by `Work.place`.

    Attributes:
        killed: messages whose own run killed a function, each with the marks that show it.
        suspects: messages that ran with others when a function died.
        doubts: marks of suspects' own runs; they become invalid when a run of that message ends.
        waiting: messages that must not run next to a suspect, because they can be delivered only a few more times.
    """

    killed: Mapping[str, tuple[str, ...]] = _NONE
    suspects: frozenset[str] = frozenset()
    doubts: Mapping[str, tuple[str, ...]] = _NONE
    waiting: frozenset[str] = frozenset()


class Plan(NamedTuple):
    """A plan for messages; every message is in exactly one of these lists.

    Attributes:
        too_large: messages with more entries than a batch; they are cut, not run.
        killers: messages whose last run killed a function; that run counts as a failure.
        put_back: messages to publish again unchanged.
        alone: messages to run one after the other, each with a mark of its own and nothing else running.
        watched: groups to run in parallel under one mark, because they were received before.
        fresh: groups to run in parallel.
    """

    too_large: tuple[Work, ...] = ()
    killers: tuple[Work, ...] = ()
    put_back: tuple[Work, ...] = ()
    alone: tuple[Work, ...] = ()
    watched: tuple[tuple[Work, ...], ...] = ()
    fresh: tuple[tuple[Work, ...], ...] = ()


def make_plan(works: Iterable[Work], evidence: Evidence, batch_size: int, *, joins: bool = True) -> Plan:
    """Plan what to do with messages.

    Messages that were received most often come first, so that every message eventually runs.

    Args:
        evidence: what marks say about their earlier runs.
        joins: whether adjacent messages of one source or output run together; messages without lineage always do.
    """
    too_large, killers, put_back, alone = [], [], [], []
    watched, fresh = [], []
    # guard[works]: messages that were received most often run first
    for work in sorted(works, key=lambda one: -one.receive_count):
        # guard[False]: a message whose run killed the function is not run again as it is
        if work.place in evidence.killed:
            killers.append(work)
        elif work.entries > batch_size:
            too_large.append(work)
        # guard[False]: without a store, only one message that may kill the worker runs at a time
        elif work.place in evidence.waiting:
            put_back.append(work)
        # guard[False]: a message that failed before runs alone
        elif work.failures or work.place in evidence.suspects:
            alone.append(work)
        # guard[False]: a message that was received before runs under a mark
        elif work.receive_count > 1:
            watched.append(work)
        else:
            fresh.append(work)
    return Plan(
        tuple(too_large),
        tuple(killers),
        tuple(put_back),
        tuple(alone),
        tuple(_groups(watched, batch_size, joins=joins)),
        tuple(_groups(fresh, batch_size, joins=joins)),
    )


def without_repeats(works: Iterable[Work]) -> list[Work]:
    """Merge messages with the same lineage into one, which is acknowledged with all of their deliveries.

    If one of them is the copy published after a failure of another, the copy is kept.
    """
    by_place: dict[str, Work] = {}
    for work in works:
        twin = by_place.get(work.place)
        # guard[True]: the same bytes in one invocation are run once
        if twin is None:
            by_place[work.place] = work
        else:
            later, earlier = (work, twin) if work.failures > twin.failures else (twin, work)
            by_place[work.place] = later._replace(deliveries=later.deliveries + earlier.deliveries)
    return list(by_place.values())


def _groups(works: Iterable[Work], batch_size: int, *, joins: bool) -> Iterator[tuple[Work, ...]]:
    """Group messages that run together: adjacent messages of one source or output, or messages without lineage."""
    sources: defaultdict[tuple[str, Format, bytes], list[Work]] = defaultdict(list)
    for work in works:
        if work.lineage and not joins:
            yield (work,)
        else:
            sources[work.source, work.format, work.header].append(work)
    for messages in sources.values():
        messages.sort(key=lambda one: one.lineage.order if one.lineage else ())
        yield from _together(messages, batch_size)


def _together(works: Iterable[Work], batch_size: int) -> Iterator[tuple[Work, ...]]:
    group: list[Work] = []
    lineage: Lineage | None = None
    entries = 0
    for work in works:
        both = joined(lineage, work.lineage) if lineage and work.lineage else None
        if group and (entries >= batch_size or (work.lineage and both is None)):
            yield tuple(group)
            group, entries, both = [], 0, None
        group.append(work)
        lineage = both or work.lineage
        entries += work.entries
    if group:
        yield tuple(group)


def lineage_of(group: Iterable[Work]) -> Lineage | None:
    """The joined lineage of a group's messages."""
    whole: Lineage | None = None
    for work in group:
        whole = (joined(whole, work.lineage) if work.lineage else None) if whole else work.lineage
    return whole
