"""The worker loop: processes messages on any machine outside Lambda, with the same processor as on Lambda."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from operator import add
from typing import Final, NamedTuple

from parcelq.limits import MAX_DEADLINE_SECONDS, MAX_LONG_POLL_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.process.apply import Outcome
from parcelq.process.processor import Processor
from parcelq.topics.lease import Lease

_MOST_PULLED: Final = 100
"""How many messages are processed in one round, at most: 100 MiB."""


class RoundProgress(NamedTuple):
    """What a worker did, in one round or in total.

    Attributes:
        messages_processed: how many messages were acknowledged.
        failed: how many messages will be delivered again.
    """

    rounds: int = 0
    messages_processed: int = 0
    entries_processed: int = 0
    messages_published: int = 0
    failed: int = 0
    dead: int = 0

    def plus(self, outcome: Outcome) -> RoundProgress:
        """Return the sum of this progress and one more round with this outcome."""
        done, failed = len(outcome.done), len(outcome.failed)
        new = 1, done, outcome.entries, outcome.published, failed, outcome.dead
        return RoundProgress(*map(add, self, new))


def process(
    processor: Processor,
    *,
    receive_message_timeout: float = math.inf,
    deadline: int = 30,
    on_progress: Callable[[RoundProgress, RoundProgress], None] = lambda _round, _total: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, int]:
    """Do what `parcelq.Worker.run` says. A round may take up to 12 hours, the longest time that SQS keeps a message
    locked. After 12 hours, a hanging step is killed.

    Args:
        deadline: how many seconds messages are locked. The lock is renewed as long as this process works on the
            messages. So after a crash of this process, other processes get the messages after about this time.
    """
    topic = processor.route.input
    total = RoundProgress()
    most = MAX_REQUEST_MESSAGES
    quiet_since = clock()
    while True:
        timeout = min(MAX_LONG_POLL_SECONDS, receive_message_timeout - (clock() - quiet_since))
        until = clock() + MAX_DEADLINE_SECONDS
        pulled = topic.pull(1, most, max(0.0, timeout), deadline=deadline)
        if not pulled:
            if clock() - quiet_since >= receive_message_timeout:
                return total.messages_processed, total.messages_published
            continue
        with Lease(topic, pulled, deadline, at_once=False):
            outcome = processor.handle(pulled, lambda until=until: until - clock(), acknowledges=True)  # type: ignore[misc]
        processor.back_off([one for one, _ in outcome.failed])  # the lease has ended, so the delay stays
        this = RoundProgress().plus(outcome)
        total = total.plus(outcome)
        on_progress(this, total)
        # How many messages fill a batch for each parallel run, if they have as many entries as earlier messages had.
        mean = max(1.0, total.entries_processed / max(1, total.messages_processed))
        most = max(1, min(_MOST_PULLED, math.ceil(processor.rules.batch_size * processor.workers / mean)))
        quiet_since = clock()
