"""What running a file asks of SQS and S3: pure arithmetic, counted as the functions make the requests."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from parcelq.collect.assembly import CACHE_BYTES, LARGEST_WINDOW, SMALLEST_WINDOW
from parcelq.collect.drain import PULLED_TOGETHER, RECEIVERS, SEGMENT_BYTES, SEGMENT_MESSAGES
from parcelq.collect.results import part_bytes
from parcelq.limits import BILLING_UNIT_BYTES, MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES

from parcelq_cli.estimate.duration import COLLECT_SECONDS, LONGEST_SECONDS, REQUEST_SECONDS, Duration
from parcelq_cli.estimate.work import Work, in_invocation

_RANGE_TASK_BYTES: Final = 300
_LISTED: Final = 1_000
IN_VAIN_AFTER_FEW: Final = 1
IN_VAIN_AFTER_MANY: Final = ceil(PULLED_TOGETHER / MAX_REQUEST_MESSAGES)
"""Having received something, a receiver of the downloader asks for more, in the end in vain: once where little came, so
often in parallel where at least half of what could come did."""
_MANY: Final = MAX_REQUEST_MESSAGES / 2
_AT_ONCE: Final = 0.6 * LONGEST_SECONDS / COLLECT_SECONDS
"""Downloaders that drain at a time while results keep coming: each drains for so long, and begins so often."""
LOOKED_UP: Final = {"uploader": 1, "processor": 4, "downloader": 2}
"""What functions ask SQS about topics: at every invocation, a processor only at its first."""


class Requests(NamedTuple):
    """Requests, and the units of 64 KiB that they are billed as."""

    requests: int
    units: int

    def plus(self, *others: Requests) -> Requests:
        """All of them together."""
        return Requests(*map(sum, zip(self, *others, strict=True)))

    def times(self, count: int) -> Requests:
        """The same, so often."""
        return Requests(self.requests * count, self.units * count)


def small(count: int) -> Requests:
    """Requests that are one unit each."""
    return Requests(count, count)


def units(size: float) -> int:
    """How many requests SQS bills for one whose payload has so many bytes: https://aws.amazon.com/sqs/pricing/"""
    return max(1, ceil(size / BILLING_UNIT_BYTES))


def publish(full: int, size: int, last: int = 0) -> Requests:
    """Requests that publish messages.

    Args:
        full: messages of `size` bytes.
        size: that.
        last: bytes of one more message, which has no more than those; 0 for none.
    """
    most = max(1, min(MAX_REQUEST_MESSAGES, MAX_REQUEST_BYTES // size))
    batches, rest = divmod(full, most)
    if last and not rest and batches and most < MAX_REQUEST_MESSAGES and most * size + last <= MAX_REQUEST_BYTES:
        batches, rest = batches - 1, most
    left = rest * size + last
    return Requests(batches + bool(left), batches * units(most * size) + (units(left) if left else 0))


def receive(count: int, size: int, together: int) -> Requests:
    """Requests that receive messages, so many an invocation, and delete them."""
    full, rest = divmod(count, together)
    deletes = small(full * ceil(together / MAX_REQUEST_MESSAGES) + bool(rest))
    last = [Requests(1, units(rest * size))] if rest else []
    return deletes.plus(Requests(full, full * units(together * size)), *last)


def turned_into(count: int, together: int, pieces: int, size: int) -> Requests:
    """Requests with which invocations that get so many messages each publish what becomes of them.

    Args:
        count: messages that come in.
        together: of them, in one invocation.
        pieces: messages that each turns into.
        size: bytes of each of these.
    """
    full, rest = divmod(count, together)
    return publish(together * pieces, size).times(full).plus(publish(rest * pieces, size))


def sqs(work: Work, duration: Duration) -> dict[str, Requests]:
    """Requests to SQS, by what they are for."""
    came, run, together = work.came, work.run, work.together
    asked = {"input topic, publish": publish(came.full, came.size, came.last).times(came.parts)}
    if work.ranges:
        asked["range topic"] = publish(work.ranges, _RANGE_TASK_BYTES).plus(small(2 * work.ranges))
    if work.splits:
        whole = in_invocation(work.known, came.size)
        cut = turned_into(came.count, whole, ceil(came.entries / run.entries), run.size)
        asked["input topic, re-parcel"] = cut.plus(receive(came.count, came.size, whole))
    asked["input topic, receive and delete"] = receive(run.count, run.size, together)
    asked["output topic, publish"] = turned_into(run.count, together, work.pieces, work.piece_bytes)
    asked["output topic, receive and delete"] = drained(work, duration)
    if work.again.runs:
        asked["failures"] = failures(work)
    instances = min(work.setup.concurrency, work.invocations)
    looked_up = LOOKED_UP["uploader"] * (1 + work.ranges) + LOOKED_UP["processor"] * instances
    asked["looking up topics"] = small(looked_up + LOOKED_UP["downloader"] * duration.collections)
    return asked


def drained(work: Work, duration: Duration) -> Requests:
    """Requests of the downloader, which asks on while results keep coming, most often in vain where they are few."""
    count = work.output_messages
    turns_per_second = RECEIVERS * _AT_ONCE / (2 * REQUEST_SECONDS)
    turns = max(1, min(count, ceil(turns_per_second * duration.processed)))
    each = IN_VAIN_AFTER_MANY if count / turns >= _MANY else IN_VAIN_AFTER_FEW
    in_vain = each * turns + RECEIVERS * (IN_VAIN_AFTER_MANY + duration.collections)
    return receive(count, work.piece_bytes, MAX_REQUEST_MESSAGES).plus(small(in_vain))


def failures(work: Work) -> Requests:
    """Requests for entries that fail.

    What fails becomes visible sooner (1), is received again, is published in halves, and deleted (1); each half is
    received, its output published, and it is deleted (1). A dead entry is told in three more messages.
    """
    again, count = work.again, work.run.count
    runs, failed, dead = (ceil(one * count) for one in (again.runs, again.failures, again.dead))
    mean = again.entries / again.runs
    half = mean * work.run.size / work.run.entries
    out = mean * work.known.out_bytes
    return small(2 * failed + runs + 3 * dead).plus(
        Requests(2 * failed, failed * 2 * units(2 * half)), Requests(2 * runs, runs * (units(half) + units(out)))
    )


def s3(work: Work, duration: Duration) -> tuple[int, int]:
    """Requests of the uploader and the downloader that S3 bills as PUT, and those that it bills as GET."""
    count, size, result_bytes = work.output_messages, work.piece_bytes, work.output_bytes
    collections = duration.collections
    segments = min(count, ceil(count / min(ceil(SEGMENT_BYTES / size), SEGMENT_MESSAGES)) + RECEIVERS * collections)
    notes = max(1, work.ranges)
    part = part_bytes(ceil(result_bytes))
    # Of a result of several parts, every turn looks for the note of what is there, reads it, and leaves another.
    turns = duration.turns if result_bytes > part else 0
    result = 2 + ceil(result_bytes / part) + 2 * turns if turns else 1
    lists = collections * ceil(segments / _LISTED) + 2 * ceil(notes / _LISTED)
    report = 1
    window = min(LARGEST_WINDOW, max(SMALLEST_WINDOW, CACHE_BYTES // segments))
    # Where not all windows are kept, one is forgotten before its segment's next message is wanted.
    kept = segments * window <= CACHE_BYTES
    reads = ceil(result_bytes / window) + segments if kept else count * ceil(size / window)
    looks = collections + 2 * report + ceil(segments * (collections + 1) / 2)
    puts = notes + segments + duration.writers * result + report + lists
    return puts, max(1, work.ranges) + notes + looks + duration.writers * (reads + turns)
