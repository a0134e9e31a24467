"""Sets the acknowledgement deadlines of messages that a Lambda function holds, or that must be delivered again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.topics.message import Pulled
from parcelq.topics.topic import Topic

_log = logging.getLogger(__name__)
DEADLINE_MARGIN: Final = 20
"""How many seconds pass between the end of an invocation and the next delivery of its messages: clocks differ, and
sending the answer takes time.
"""
_MOST_DOUBLINGS: Final = 5


def back_off(topic: Topic, failed: Sequence[Pulled], first_seconds: float) -> None:
    """Set when messages that are not done are delivered again. The delay grows with each delivery, up to a limit."""
    by_seconds: defaultdict[float, list[Pulled]] = defaultdict(list)
    for one in failed:
        by_seconds[first_seconds * 2 ** min(one.receive_count - 1, _MOST_DOUBLINGS)].append(one)
    for seconds, messages in by_seconds.items():
        set_deadlines(topic, messages, seconds)


def set_deadlines(topic: Topic, messages: Sequence[Pulled], seconds: float) -> None:
    """Set the acknowledgement deadline of messages; failures are only logged."""
    try:
        lost = topic.refresh_deadline(messages, int(max(0, min(seconds, MAX_DEADLINE_SECONDS))))
    except ParcelqError as error:  # the messages become visible at another time
        _log.warning("acknowledgement deadlines could not be set: %s", error)
    else:
        if lost:
            _log.warning("acknowledgement deadlines could not be set for %d of %d messages", len(lost), len(messages))
