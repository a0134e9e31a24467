"""A step between topics in memory, by a clock that a test moves."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from parcelq.lineage.lineage import Lineage, Span
from parcelq.process.apply import Outcome, Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.find import Step
from parcelq.steps.settings import StepSettings
from parcelq.store.folder import FolderStore
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled

UPPER = 'tr a-z A-Z < "$2" > "$4"'
PICKY = f'if grep bad "$2" >&2; then exit 3; fi; {UPPER}'
"""Fails if any of its entries is bad."""
FAILS = "echo why >&2; exit 3"


class FunctionDied(BaseException):
    """The end of the function in the middle of its work."""


class Clock:
    """Seconds since the epoch, which pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, _condition: object, seconds: float) -> None:
        self.now += seconds


@dataclass
class Stage:
    """A step's topics, and what a test wants to know of them.

    Attributes:
        make_step: makes an executable of a shell script.
        folder: where the log of runs and the store of marks are.
        last: whether the step's output goes to the output topic.
    """

    make_step: Callable[..., Path]
    folder: Path
    last: bool = False
    clock: Clock = field(default_factory=Clock)
    deadline: float = 60

    def __post_init__(self) -> None:
        self.input, self.following, self.dead_letters, self.output = map(
            self.topic, ("in", "following", "in-dead-letter", "output")
        )
        self.store = FolderStore(self.folder / "store")
        self.log = self.folder / "log"

    def topic(self, name: str, **options: Any) -> MemoryTopic:
        """A topic by the test's clock."""
        return MemoryTopic(name, deadline_seconds=self.deadline, clock=self.clock, wait=self.clock.wait, **options)

    @property
    def route(self) -> Route:
        """The topics; the step's output goes to a following stage unless it is the last."""
        return Route(self.input, self.output if self.last else self.following, self.dead_letters, self.output)

    def processor(
        self,
        script: str = UPPER,
        *,
        timeout: float | None = None,
        workflow: str = "wf@1",
        marks: bool = True,
        workers: int = 1,
        rejects: bool = False,
        **rules: Any,
    ) -> Processor:
        """A processor as it is deployed, with marks, or a worker's without them. `rules` are those of Rules."""
        path = self.make_step(f'wc -l < "$2" >> {self.log}\n{script}', "step")
        step = Step(path, StepSettings(timeout=timeout, **({"rejects": True} if rejects else {})), workflow)
        chosen = Rules(**{"batch_size": 10, "joins": not marks, **rules})
        return Processor(self.route, step, chosen, self.store if marks else None, workers=workers, now=self.clock)

    def publish(self, *messages: Message) -> None:
        """Publish messages for the step."""
        assert self.input.publish(messages).failed == []

    def receive(self, most: int = 1000) -> list[Pulled]:
        """Pull what can be pulled now."""
        return self.input.pull(1, most, 0)

    def handle(self, processor: Processor, pulled: Sequence[Pulled] | None = None, **options: Any) -> Outcome:
        """Process what can be pulled now and do with it as Lambda does; what failed can be pulled at once."""
        given = self.receive() if pulled is None else pulled
        outcome = processor.handle(given, **options)
        self.input.acknowledge(outcome.done)
        self.input.refresh_deadline([one for one, _ in outcome.failed], 0)
        return outcome

    def until_done(self, processor: Processor, most: int = 40) -> list[Outcome]:
        """Process until the input topic is empty; delays and deadlines pass by."""
        outcomes: list[Outcome] = []
        while any(self.input.counts()):
            outcomes.append(self.handle(processor))
            if not self.input.counts().visible:
                self.clock.now += 1000
            assert len(outcomes) < most
        return outcomes

    def die(self, times: int = 1) -> None:
        """Let all messages be received by functions that never answer; their deadlines pass."""
        for _ in range(times):
            assert self.receive()
            self.clock.now += self.deadline + 1

    @property
    def outputs(self) -> list[Message]:
        """The messages for the following stage, in order of lineage."""
        return sorted(messages_of(self.following), key=place)

    @property
    def result(self) -> bytes:
        """What the messages for the following stage have, each piece once."""
        return b"".join(one.body for one in unique(self.outputs))

    @property
    def dead(self) -> list[Message]:
        """The dead letters."""
        return messages_of(self.dead_letters)

    @property
    def tombstones(self) -> list[Message]:
        """The messages of the output topic."""
        return messages_of(self.output)

    @property
    def runs(self) -> list[int]:
        """How many line ends each run of the step got, in order."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    @property
    def marks(self) -> list[str]:
        """Keys of the marks that are there."""
        return list(self.store.keys("marks/"))


def messages_of(topic: MemoryTopic) -> list[Message]:
    """Look at the messages of a topic that can be pulled."""
    pulled = topic.pull(1, 10_000, 0)
    topic.refresh_deadline(pulled, 0)
    return [topic.read(one) for one in pulled]


def unique(messages: list[Message]) -> list[Message]:
    """Messages in order, each lineage once: what is published twice is there once in the result."""
    return list({place(one): one for one in sorted(messages, key=place)}.values())


def place(message: Message) -> tuple[Any, ...]:
    """Sorts messages as they lie in the result."""
    text = message.attributes.get(LINEAGE)
    return (message.attributes[SOURCE], Lineage.parse(text).order) if text else ("", message.body)


def parcel(*entries: str, start: int = 0, source: str = "s", total: int = 1000, **attributes: str) -> Message:
    """A message of these entries, cut from a source at byte `start`."""
    body = "".join(f"{one}\n" for one in entries).encode()
    span = Span(start, start + len(body), total)
    return Message(body, {SOURCE: source, LINEAGE: str(Lineage(span)), ENTRIES: str(len(entries)), **attributes})


def neighbours(*parcels: Sequence[str], source: str = "s") -> list[Message]:
    """Parcels one after another in their source."""
    messages: list[Message] = []
    for entries in parcels:
        start = sum(len(one.body) for one in messages)
        messages.append(parcel(*entries, start=start, source=source))
    return messages


def forever() -> float:
    """No limit of time."""
    return math.inf


@pytest.fixture
def stage(make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    made = Stage(make_step, tmp_path)
    yield made
    assert [one for one in folder.rglob("*") if not one.is_dir()] == [], "a run left a file behind"
