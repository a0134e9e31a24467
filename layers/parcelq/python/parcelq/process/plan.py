"""Plans what to do with messages that were read, before any of the messages runs. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from parcelq.errors import LineageError
from parcelq.lineage.lineage import Lineage, joined
from parcelq.records import LINES, Format
from parcelq.topics.attributes import DEAD, FAILURES, LINEAGE, SOURCE, format_of, parse_count
from parcelq.topics.message import Message, Pulled


class Work(NamedTuple):
    """A message that was read, and the facts that its attributes contain.

    Attributes:
        deliveries: the deliveries to acknowledge when the message is done: the delivery that was read, and other
            deliveries with the same lineage in this invocation.
        lineage: the lineage of the message; None if the message has no lineage or an invalid lineage.
        header: the header that the step gets before the body; empty if there is none.
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
        """Read the attributes of a message. An invalid lineage counts as none, because the body is still worth
        processing. Raises MessageError if the attribute `Format` is invalid.
        """
        text = message.attributes.get(LINEAGE, "")
        try:
            lineage = Lineage.parse(text) if SOURCE in message.attributes else None
            if lineage and DEAD not in message.attributes and len(lineage.span) != len(message.body):
                lineage = None
        except LineageError:
            lineage = None
        failures = parse_count(message.attributes.get(FAILURES, "")) or 0
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
        """Whether the body is the header of a source with more bytes, whose other messages bring the header too."""
        return self.is_header and self.lineage is not None and self.lineage.root.end != self.lineage.root.total

    @property
    def receive_count(self) -> int:
        """How often the message was received, this time included."""
        return max(one.receive_count for one in self.deliveries)

    @property
    def source(self) -> str:
        """The attribute `Source` of the message; empty if the message has no lineage."""
        return self.message.attributes[SOURCE] if self.lineage else ""

    @property
    def place(self) -> str:
        """A key of the message's bytes: the source and lineage, or the message's id if there is no lineage."""
        return f"{self.source} {self.lineage}" if self.lineage else self.pulled.message_id

    @property
    def about(self) -> dict[str, str]:
        """The fields that describe the message in a log line."""
        return {
            "source": self.source,
            "lineage": str(self.lineage or ""),
            "message_id": self.pulled.message_id,
            "receive_count": str(self.receive_count),
            "failures": str(self.failures),
        }


_NONE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class Evidence(NamedTuple):
    """What the marks of earlier invocations show about messages. Messages are identified by `Work.place`.

    Attributes:
        killed: maps a message that killed a Lambda function, when the message ran alone, to the keys of the marks that
            show this.
        suspects: messages that ran when a Lambda function died, if it is unknown whether the messages killed the
            function.
        doubts: maps a suspect to the marks of runs in which the suspect ran alone. These marks become invalid when the
            suspect's next run ends.
        waiting: messages that must not run at the same time as a suspect, because these messages can be delivered only
            a few more times.
    """

    killed: Mapping[str, tuple[str, ...]] = _NONE
    suspects: frozenset[str] = frozenset()
    doubts: Mapping[str, tuple[str, ...]] = _NONE
    waiting: frozenset[str] = frozenset()


class Plan(NamedTuple):
    """A plan for messages. Every message is in exactly one of the lists below.

    Attributes:
        too_large: messages with more entries than a batch, which are cut into parcels and not run.
        killers: messages that killed a Lambda function in their last run. This run counts as a failure.
        put_back: messages that are published again unchanged.
        alone: messages that run one after the other, each with its own mark and with no other run at the same time.
        watched: groups of messages that run in parallel under one mark, because the messages were received before.
        fresh: groups of messages that run in parallel.
    """

    too_large: tuple[Work, ...] = ()
    killers: tuple[Work, ...] = ()
    put_back: tuple[Work, ...] = ()
    alone: tuple[Work, ...] = ()
    watched: tuple[tuple[Work, ...], ...] = ()
    fresh: tuple[tuple[Work, ...], ...] = ()


def make_plan(works: Iterable[Work], evidence: Evidence, batch_size: int, *, joins: bool = True) -> Plan:
    """Plan what to do with messages. Those that were received most often come first, so that every message eventually
    runs.

    If `joins`, adjacent messages of one source or output run together. Messages without lineage always run together.
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
    """Merge messages with the same lineage into one message, which is acknowledged with all of their deliveries.

    If one message is the copy that was published after a failure of another, the copy is kept.
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
    """Return the joined lineage of a group's messages."""
    whole: Lineage | None = None
    for work in group:
        whole = (joined(whole, work.lineage) if work.lineage else None) if whole else work.lineage
    return whole
