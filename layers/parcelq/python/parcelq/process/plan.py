"""Deciding what is done with pulled messages: split, run together, or run alone. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parcelq.errors import LineageError
from parcelq.lineage.lineage import Lineage, joined
from parcelq.topics.message import ALONE, DEAD, HALVED, LINEAGE, SOURCE, Message, Pulled, count_told


@dataclass(frozen=True, slots=True)
class Work:
    """A pulled message that was read.

    Attributes:
        pulled: what is to be acknowledged.
        message: what it says.
        lineage: which bytes it stands for; None where it says nothing, or nothing sane, of that.
        entries: how many entries it has.
    """

    pulled: Pulled
    message: Message
    lineage: Lineage | None
    entries: int

    @classmethod
    def of(cls, pulled: Pulled, message: Message) -> Work:
        """Read the lineage. One that cannot be right counts as none: the body is worth processing all the same."""
        text = message.attributes.get(LINEAGE, "")
        try:
            lineage = Lineage.parse(text) if SOURCE in message.attributes else None
            body_fits = DEAD in message.attributes or (lineage and len(lineage.span) == len(message.body))
            if lineage and not body_fits:
                lineage = None
        except LineageError:
            lineage = None
        return cls(pulled, message, lineage, message.entries)

    @property
    def source(self) -> str:
        """The attribute `Source`; empty where there is no lineage."""
        return self.message.attributes[SOURCE] if self.lineage else ""

    @property
    def place(self) -> str:
        """What the message stands for, as text; empty where it has no lineage."""
        return f"{self.source} {self.lineage}" if self.lineage else ""

    @property
    def about(self) -> dict[str, str]:
        """What a log line says of it."""
        return {
            "source": self.source,
            "lineage": str(self.lineage or ""),
            "message_id": self.pulled.message_id,
            "receive_count": str(self.pulled.receive_count),
        }


@dataclass(frozen=True, slots=True)
class Split:
    """A message that is to be re-parcelled.

    Attributes:
        work: the message.
        size: entries of each parcel.
        halved: how often it was halved then; 0 if it is split only because it is too large.
    """

    work: Work
    size: int
    halved: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        splits: messages to re-parcel; no step runs over them.
        groups: messages to run the step over, those of a group together.
        suspects: messages that may take the function down; each needs an invocation of its own.
        lost: messages that did, with an invocation of their own; they are not run any more.
    """

    splits: list[Split]
    groups: list[list[Work]]
    suspects: list[Work]
    lost: list[Work]


def make_plan(work: Iterable[Work], batch_size: int, max_receive_count: int, *, halving: bool) -> Plan:
    """Decide what is done with messages.

    - One that comes for the last time it may and has several entries is split into halves, without another run.
    - One with more than `batch_size` entries is split into parcels of `batch_size`.
    - One that failed before, or is half of one that did, runs alone, so that it fails nothing else; and before the
      others, lest there is never the time to see it fail.
    - One that comes after its last time was not settled then, so the function died, of it or of another: it is a
      suspect. Was it one already, it is lost.
    - Others of one source that follow one another run together until they have `batch_size` entries.

    Args:
        work: the messages.
        batch_size: how many entries the step should get at a time.
        max_receive_count: how often a message is run; SQS may give it out oftener.
        halving: whether to split at the last time; otherwise the message is run once more.
    """
    splits: list[Split] = []
    suspects: list[Work] = []
    lost: list[Work] = []
    alone: list[list[Work]] = []
    fresh: defaultdict[str, list[Work]] = defaultdict(list)
    for one in work:
        receives, attributes = one.pulled.receive_count, one.message.attributes
        if halving and receives >= max(2, max_receive_count) and one.entries > 1:
            splits.append(halves(one, batch_size))
        elif one.entries > batch_size:
            splits.append(Split(one, batch_size))
        elif receives > max_receive_count + (ALONE not in attributes):
            lost.append(one)
        elif receives > max_receive_count or ALONE in attributes:
            suspects.append(one)
        elif receives > 1 or HALVED in attributes:
            alone.append([one])
        else:
            fresh[one.source].append(one)
    together = [group for messages in fresh.values() for group in _groups(messages, batch_size)]
    return Plan(splits, alone + together, suspects, lost)


def halves(work: Work, batch_size: int) -> Split:
    """Split a message that kept failing into two, or more if halves would have more than `batch_size` entries."""
    times = (count_told(work.message.attributes.get(HALVED, "")) or 0) + 1
    return Split(work, min(batch_size, (work.entries + 1) // 2), times)


def without_repeats(work: Iterable[Work]) -> tuple[list[Work], dict[str, list[Pulled]]]:
    """Take out messages that stand for the same bytes as an earlier one.

    Returns:
        The others, and those taken out by the receipt handle of the one that they repeat.
    """
    first: dict[str, Work] = {}
    repeats: defaultdict[str, list[Pulled]] = defaultdict(list)
    kept = []
    for one in work:
        twin = first.setdefault(one.place, one) if one.lineage else one
        if twin is one:
            kept.append(one)
        else:
            repeats[twin.pulled.receipt_handle].append(one.pulled)
    return kept, dict(repeats)


def _groups(messages: list[Work], batch_size: int) -> Iterator[list[Work]]:
    """Messages of one source that follow one another, until they reach `batch_size` entries.

    What is put out for a group lies in one place of the result, so others in between would end up in the wrong order.
    """
    group: list[Work] = []
    entries = 0
    for one in sorted(messages, key=lambda one: one.lineage.order if one.lineage else ()):
        if group and (entries >= batch_size or not _goes_on(group[-1], one)):
            yield group
            group, entries = [], 0
        group.append(one)
        entries += one.entries
    if group:
        yield group


def _goes_on(one: Work, other: Work) -> bool:
    if one.lineage and other.lineage:
        return joined(one.lineage, other.lineage) is not None
    return one.lineage is other.lineage  # without lineage, there is no order to keep
