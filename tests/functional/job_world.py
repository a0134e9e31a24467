"""What tests of jobs share: topics in memory, a store, a clock, and looks at the jobs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from memory_store import Objects
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.looks import Looker
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.look import Look
from parcelq.jobs.record import JobRecord, read_job
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source, job_id
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.upload.notes import note_upload
from parcelq.upload.ranges import task_of
from parcelq.upload.sources import Uploaded

BUCKET = "bucket"
LINES = [b"one\n", b"two, which is longer\n", b"three\n", b"four\n", b"five\n", b"six"]
DATA = b"".join(LINES)
EDGES = [sum(map(len, LINES[:number])) for number in range(len(LINES) + 1)]
HOUR = 3600.0


def source(name: str = "a.txt") -> str:
    return str(Source.of_object(BUCKET, f"inbox/{name}", etag="e", put="0055"))


def output(first: int, last: int, of: str = "", *, dead: str = "") -> Message:
    """What a step made of lines, which it was given in one message; or the tombstone of a line."""
    lineage = Lineage(Span(EDGES[first], EDGES[last], len(DATA)))
    body = b"".join(LINES[first:last])
    told = {SOURCE: of or source(), ENTRIES: str(last - first)}
    if dead:
        return Message(body, {**told, LINEAGE: str(lineage), DEAD: dead})
    body = body.upper()
    return Message(body, {**told, LINEAGE: str(lineage.child(Span(0, len(body), len(body)), digest(body)))})


@dataclass
class Cloud:
    """A stack without processors, whose time passes only while it waits for a look.

    Attributes:
        now: the time.
        told: kinds and details of the events that were put.
        looked: when looks were taken.
        is_looking: whether one is being taken.
    """

    now: float = 1_800_000_000.0
    store: Objects = field(default_factory=Objects)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    looked: list[float] = field(default_factory=list)
    is_looking: bool = False

    def __post_init__(self) -> None:
        names = ("step", "output", "ranges", "looks")
        self.step, self.output, self.ranges, self.looks = (
            MemoryTopic(name, deadline_seconds=300, clock=lambda: self.now) for name in names
        )
        self.jobs = Jobs(self.store, self.looks, lambda: self.now)
        self.finisher = Finisher(self.store, "output", bucket=BUCKET, now=lambda: datetime.fromtimestamp(self.now, UTC))
        topics = (self.step, self.ranges, self.output)
        self.looker = Looker(self.jobs, self.finisher, topics, self.ranges, BUCKET, "step", self.tell)

    def tell(self, kind: str, detail: Any) -> None:
        self.told.append((kind, json.loads(json.dumps(detail))))

    def begin(self, name: str = "a.txt", *, uploaded: bool = True) -> str:
        """Begin a job, and perhaps end its upload; return its id."""
        of = source(name)
        record = self.jobs.begin(of, "", "step")
        if uploaded:
            parts = tuple((len(line), 1) for line in LINES)
            told = Uploaded(len(LINES), len(LINES), len(DATA), parts)
            note_upload(self.store, of, 0, told, total=len(DATA), topic="step", output="output")
        return record.id

    def record(self, name: str = "a.txt") -> JobRecord:
        found = read_job(self.store, job_id(source(name), ""))
        assert found
        return found[0]

    def came(self, *messages: Message) -> None:
        """Have messages come to the output topic."""
        self.output.publish(messages)

    def drain(self) -> None:
        drainer = Drainer(self.output, self.store, receivers=1, now=lambda: datetime.fromtimestamp(self.now, UTC))
        for job in drainer.drain(0).jobs:
            self.jobs.notice(job.source, job.workflow)

    def look(self) -> bool:
        """Take the next look there is, waiting for it; False if there is none."""
        for _ in range(2000):
            if pulled := self.looks.pull(1, 1, 0, deadline=60):
                break
            if not sum(self.looks.counts()):
                return False
            self.now += 0.5
        (one,) = pulled
        self.looked.append(self.now)
        self.is_looking = True
        try:
            self.drain()
            taken = self.looker.take(Look.parse(one.message().body.decode()))
        finally:
            self.is_looking = False
        if taken.again is None:
            self.looks.acknowledge([one])
        else:
            self.looks.refresh_deadline([one], int(max(1, taken.again)))
        return True

    def run(self, most: int = 300) -> int:
        """Take looks until there are none any more; return how many."""
        for count in range(most):
            if not self.look():
                return count
        raise AssertionError(f"{most} looks, and no end: {self.record()}")

    def tasks(self) -> list[tuple[int, int]]:
        """Parts that the uploader is asked to publish again; they are taken."""
        pulled = self.ranges.pull(1, 100, 0)
        self.ranges.acknowledge(pulled)
        tasks = [task_of(one.message().body.decode()) for one in pulled]
        assert all(one.part and one.source == source() and one.topic == "step" for one in tasks)
        return sorted((one.start, one.end) for one in tasks)

    def result(self, name: str = "a.txt") -> bytes | None:
        return self.store.objects.get(f"results/{name}")

    def report(self, name: str = "a.txt") -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.store.objects[f"results/{name}.report.json"])
        return report


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()
