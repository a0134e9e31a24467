"""What tests of collecting share: messages of a source, and a topic and a bucket that they go through."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from parcelq.collect.drain import Drained, Drainer
from parcelq.collect.finish import Finisher, SourceState
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.records import LINES as PLAIN_LINES
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.message import Message
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.notes import note_upload
from parcelq.upload.sources import Uploaded

LINES = [b"line %d\n" % number for number in range(6)]
DATA = b"".join(LINES)
RESULT = DATA.upper()
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Killed(BaseException):
    """The function's end in the middle of what it did."""


def source(put: str = "0055", key: str = "inbox/molecules.smi") -> str:
    return str(Source.of_object("bucket", key, etag="e", put=put))


def outputs(put: str = "0055", change: Callable[[bytes], bytes] = bytes.upper) -> list[Message]:
    """What a step published for the lines of a source, one message a line."""
    messages = []
    at = 0
    for line in LINES:
        body = change(line)
        span = Span(0, len(body), len(body))
        child = Lineage(Span(at, at + len(line), len(DATA))).child(span, digest(body))
        told = {SOURCE: source(put), LINEAGE: str(child), ENTRIES: str(PLAIN_LINES.count(body)), WORKFLOW: "wf"}
        messages.append(Message(body, told))
        at += len(line)
    return messages


class Collecting:
    """An output topic and a bucket, and who collects."""

    def __init__(self, sqs: Any, s3: Any, bucket: str, topic: str) -> None:
        self.sqs, self.s3, self.bucket, self.topic = sqs, s3, bucket, topic
        self.store = BucketStore(s3, bucket)

    def publish(self, *messages: Message) -> None:
        for message in messages:
            self.sqs.send_message(QueueUrl=self.topic, **message.wire().request())

    def drain(self, time_left: Callable[[], float] = lambda: float("inf")) -> Drained:
        topic = SqsTopic(self.sqs, self.topic, Overflow(self.s3, self.bucket))
        return Drainer(topic, self.store, receivers=1, now=lambda: WHEN).drain(0, time_left)

    def finish(self) -> list[SourceState]:
        return list(Finisher(self.store, "topic", bucket=self.bucket).finish_all())

    def collect(self, *messages: Message) -> list[SourceState]:
        self.publish(*messages)
        self.drain()
        return self.finish()

    def note(self, put: str = "0055") -> None:
        self.note_of(source(put))

    def note_of(self, text: str) -> None:
        note_upload(self.store, text, 0, Uploaded(6, 6, len(DATA)))

    def result(self, key: str = "results/molecules.smi") -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def report(self) -> dict[str, Any]:
        return json.loads(self.result("results/molecules.smi.report.json"))

    def keys(self, prefix: str = "") -> list[str]:
        return list(self.store.keys(prefix))

    def left(self) -> int:
        """Messages that are on the topic, locked or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.topic, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))


@pytest.fixture
def collecting(sqs: Any, s3: Any, bucket: str, topic: str) -> Collecting:
    return Collecting(sqs, s3, bucket, topic)


class Kill:
    """Ends whatever runs, at the k-th request that a client makes, before or after it was carried out."""

    def __init__(self, client: Any, *, after: bool) -> None:
        self.client, self.count, self.at = client, 0, -1
        self.event = f"{'after' if after else 'before'}-call.{client.meta.service_model.service_name}"

    def __call__(self, **_: Any) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed

    def run(self, what: Callable[[], object], at: int) -> bool:
        """Run, and return whether it was killed."""
        self.count, self.at = 0, at
        self.client.meta.events.register(self.event, self)
        try:
            what()
        except Killed:
            return True
        finally:
            self.client.meta.events.unregister(self.event, self)
        return False


def dead(message: Message, reason: str = "exit code 3") -> Message:
    """The tombstone of what a message is the result of."""
    parent = message.attributes[LINEAGE].partition(">")[0]
    return Message(b"", {SOURCE: message.attributes[SOURCE], LINEAGE: parent, ENTRIES: "1", DEAD: reason})
