"""The input and the outcome of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.simulation.world import Topic, Used


@dataclass(slots=True)
class Requests:
    """How many requests to S3 there were."""

    puts: float = 0.0
    gets: float = 0.0


@dataclass(frozen=True, slots=True)
class Topics:
    """The simulated topics of a stack with one stage."""

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
        account: how many concurrent invocations the account allows.
        lost: the share of invocations that die before they do any work.
        deadline: the acknowledgement deadline of the processor's topic, in seconds.
        collecting: the timeout of the downloader, in seconds.
        seed: the seed of the random numbers.
    """

    account: int = 1000
    lost: float = 0.0
    deadline: float = 2100.0
    collecting: float = 300.0
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """The outcome of a simulated job. Times are in seconds after the upload of the file.

    Attributes:
        sqs: how many requests SQS bills.
        fair: how many requests to SQS publish with a MessageGroupId.
        locked: the most messages of a topic that were locked at a time.
        most: the most concurrent invocations.
        throttled: how many invocations were refused, because the account had no free invocation.
        too_long: sentences about work that one invocation must do, but that exceeds its timeout.
        series: points in time, each with the shares uploaded, processed and collected so far, from 0 to 1.
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
        """How many seconds pass from the last output message to the result."""
        return self.result - self.processed
