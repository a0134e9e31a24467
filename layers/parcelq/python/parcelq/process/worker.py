"""The worker loop: runs the same processor on any machine outside Lambda."""

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
"""Most messages of one round: 100 MiB."""
_FOREVER: Final = float("inf")


class RoundProgress(NamedTuple):
    """What a worker did, in one round or in total.

    Attributes:
        rounds: number of rounds.
        messages_processed: messages that were acknowledged.
        entries_processed: successfully processed entries.
        messages_published: messages that were published.
        failed: messages that will be delivered again.
        dead: messages that went to the dead-letter topic.
    """

    rounds: int = 0
    messages_processed: int = 0
    entries_processed: int = 0
    messages_published: int = 0
    failed: int = 0
    dead: int = 0

    def plus(self, outcome: Outcome) -> RoundProgress:
        """Return the sum with one more round."""
        done, failed = len(outcome.done), len(outcome.failed)
        new = 1, done, outcome.entries, outcome.published, failed, outcome.dead
        return RoundProgress(*map(add, self, new))


def process(
    processor: Processor,
    *,
    receive_message_timeout: float = _FOREVER,
    deadline: int = 30,
    on_progress: Callable[[RoundProgress, RoundProgress], None] = lambda _round, _total: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, int]:
    """Pull messages, run the step over them, publish its output and acknowledge, until no more messages arrive.

    A round may take up to 12 hours, the longest time that SQS keeps a message locked; then a hanging step is killed.

    Args:
        receive_message_timeout: seconds without a message after which the topic counts as empty.
        deadline: seconds for which messages are locked; renewed while this process works on them. So after a crash,
            others get them after about this time.
        on_progress: called after every round with its counts and the total.

    Returns:
        The numbers of messages processed and published.

    Raises:
        AwsError, TopicNotFoundError: the topic refuses to deliver or delete messages.
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
        processor.back_off([one for one, _ in outcome.failed])  # after the lease, which would overwrite it
        this = RoundProgress().plus(outcome)
        total = total.plus(outcome)
        on_progress(this, total)
        # As many as are needed to fill a batch for each run, if messages have as many entries as earlier ones.
        mean = max(1.0, total.entries_processed / max(1, total.messages_processed))
        most = max(1, min(_MOST_PULLED, math.ceil(processor.rules.batch_size * processor.workers / mean)))
        quiet_since = clock()
