"""Checks all jobs when the schedule or a user sends a request to the downloader, and parses such requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from parcelq.checks import Check, checked, number, optional, shown, text
from parcelq.collect.looks import Looker
from parcelq.collect.seeing import SourceState
from parcelq.config import Config
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.names import RESULTS, topic_within

_log = logging.getLogger(__name__)
_SEEN_SECONDS: Final = 24 * 3600
"""Lost looks are found only if the job changed within this many seconds. A running job changes at least hourly."""
_KEYS: Final[Mapping[str, Check]] = {
    "topic": optional(text),
    "destination": optional(text),
    "receive_message_timeout": number(0, 600),
}


class Request(NamedTuple):
    """The members of a request to the downloader. A request that the schedule sends has no members."""

    topic: str | None = None
    destination: str | None = None
    receive_message_timeout: float = 1

    @classmethod
    def parse(cls, event: object) -> Request:
        """Parse the request of an event. Raises ValueError that names all mistakes in the request."""
        if not isinstance(event, dict):
            raise ValueError(f"request is {shown(event)}, but must be a JSON object")
        values, problems = checked(event, _KEYS)
        if problems:
            raise ValueError("; ".join(problems))
        return cls(**values)

    def topic_in(self, config: Config) -> str:
        """Return the name of the topic to drain. Raises InvalidValueError if the topic does not belong to the stack."""
        return config.output_topic if self.topic is None else topic_within(config.prefix, self.topic)

    def destination_in(self, config: Config) -> str:
        """Return the prefix of the results' keys. Raises InvalidValueError if the prefix is not below `results/`."""
        root = f"s3://{config.bucket}/{RESULTS}"
        wanted = self.destination or root
        if not wanted.endswith("/"):
            wanted += "/"
        if not wanted.startswith(root) or "/../" in wanted or "/./" in wanted:
            raise InvalidValueError("destination", self.destination, f"a folder under {root}")
        return wanted.removeprefix(f"s3://{config.bucket}/")


def look_at_all(looker: Looker, may_go_on: Callable[[], bool]) -> list[SourceState]:
    """Check every job that has new messages. Publish looks (messages that ask to check a job) again if they were lost.

    If a look at a job fails, the other jobs are still checked.
    """
    states = looker.finisher.finish_without_lineage()
    for keys in looker.finisher.unfinished():
        state: SourceState | None = SourceState(keys[0], looked_at=False)
        if may_go_on():
            try:
                state = looker.look_now(keys)
            except (ParcelqError, OSError) as error:
                _log.error("%s", error, extra={"source": keys[0]})
                state = SourceState(keys[0], problem=str(error))
        if state:
            states.append(state)
    for record in looker.jobs.overdue(looker.jobs.now() - _SEEN_SECONDS):
        _log.warning("the look of job %s was lost and is published again", record.id)
        looker.jobs.publish(record)
    return states
