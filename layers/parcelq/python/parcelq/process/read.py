"""Reads pulled messages: returns the messages that can run, and decisions about all other messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from parcelq.errors import AwsError, MessageError, ParcelqError
from parcelq.process.decide import Decision, Judge, Postponed
from parcelq.process.plan import Work, without_repeats
from parcelq.topics.attributes import DEAD, HEADER
from parcelq.topics.header import Headers
from parcelq.topics.message import Pulled
from parcelq.topics.topic import Topic

_TRIES: Final = 2
"""When a message has been received this often, the message is dead if S3 refuses to return its body."""


def read_messages(
    topic: Topic, pulled: Iterable[Pulled], judge: Judge, headers: Headers
) -> tuple[list[Work], list[Decision | Postponed]]:
    """Return the messages that can run, each once, and decisions about the other messages.

    A message that can never be read is dead. A tombstone or a header goes to the output topic. A message that cannot be
    read now is delivered again.
    """
    works: list[Work] = []
    decisions: list[Decision | Postponed] = []
    for one in pulled:
        try:
            message = topic.read(one)
            is_tombstone = DEAD in message.attributes
            work = None if is_tombstone else Work.of(one, message, headers.read(message.attributes.get(HEADER, "")))
        except ParcelqError as error:
            refused = isinstance(error, AwsError) and not error.server_fault and one.receive_count >= _TRIES
            # guard[False]: a message that nobody can read is dead, with the reason
            if isinstance(error, MessageError) or refused:
                decisions.append(judge.unreadable(one, error))
            else:
                decisions.append(Postponed((one,), str(error)))
        except OSError as error:  # the folder for the header cannot be used
            decisions.append(Postponed((one,), str(error)))
        else:
            if work is None:
                decisions.append(judge.passed_on(one, message))
            elif work.is_only_header:
                decisions.append(judge.header(work))
            else:
                works.append(work)
    return without_repeats(works), decisions
