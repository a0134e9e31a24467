"""The input and the outcome of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.simulation.world import Topic, Used


@dataclass(slots=True)
class Requests:
    """Requests to S3."""

    puts: float = 0.0
    gets: float = 0.0


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of a stack with one stage."""

    ranges: Topic
    step: Topic
    output: Topic
    looks: Topic

    @property
    def are_empty(self) -> bool:
        """Whether the downloader would find the topics empty."""
        return all(one.is_empty for one in (self.ranges, self.step, self.output))


@dataclass(frozen=True, slots=True)
class Case:
    """The settings of a simulation, in addition to those of `parcelq estimate`.

    Attributes:
        account: concurrent invocations of the account.
        lost: the share of invocations that die before they do anything.
        deadline: acknowledgement deadline of the processor's topic, in seconds.
        collecting: timeout of the downloader, in seconds.
        seed: of the random numbers.
    """

    account: int = 1000
    lost: float = 0.0
    deadline: float = 2100.0
    collecting: float = 300.0
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """The outcome of a job. Times are seconds from the put until the last message or the result exists.

    Attributes:
        sqs: requests to SQS, as it bills them.
        fair: the requests to SQS that publish with a MessageGroupId.
        locked: the most messages of a topic that were locked at a time.
        most: the most concurrent invocations.
        throttled: invocations that were refused.
        too_long: work that one invocation must do and that exceeds its timeout.
        series: times, with the shares uploaded, processed and collected by then, from 0 to 1.
    """

    messages: int = 0
    collected_messages: int = 0
    uploaded: float = 0.0
    processed: float = 0.0
    collected: float = 0.0
    result: float = 0.0
    looks: int = 0
    healings: int = 0
    used: dict[str, Used] = field(default_factory=dict)
    sqs: float = 0.0
    fair: float = 0.0
    s3: Requests = field(default_factory=Requests)
    locked: int = 0
    most: int = 0
    throttled: int = 0
    too_long: list[str] = field(default_factory=list)
    series: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def writing(self) -> float:
        """Seconds from the last output message to the result."""
        return self.result - self.processed
