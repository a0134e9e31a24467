"""The Python interface besides `run`: topics, uploading and downloading files, and workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_LONG_POLL_SECONDS
from parcelq.topics.sqs import SqsTopic

if TYPE_CHECKING:
    from parcelq.collect.download import Downloaded
    from parcelq.process.processor import Processor
    from parcelq.process.worker import RoundProgress
    from parcelq.topics import admin
    from parcelq.topics.overflow import Overflow


def connect(*, bucket: str = "") -> Topics:
    """Connect to the topics (SQS queues) of the account and region for which boto3 is configured.

    Args:
        bucket: the bucket for entries that are too large for a message of 1 MiB; without a bucket such entries are
            refused.

    Raises:
        AwsError: if no region is configured.
    """
    from parcelq.aws.clients import s3_client, sqs_client
    from parcelq.topics import admin
    from parcelq.topics.overflow import Overflow

    return Topics(admin.Topics(sqs_client()), Overflow(s3_client(), bucket))


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of an account and region; `connect` returns this object."""

    _admin: admin.Topics
    _overflow: Overflow

    def create(self, name: str, *, max_receive_count: int = 2) -> Topic:
        """Create a topic and its dead-letter topic `<name>-dead-letter`.

        If one of the two topics exists, both are deleted first, with all messages. SQS then refuses their names for 60
        s; this method waits that long.

        Args:
            name: the topic's name, up to 68 letters, digits, hyphens and underscores.
            max_receive_count: how often a message is delivered before SQS moves the message to the dead-letter topic.

        Raises:
            InvalidValueError: if the name is not allowed, or `max_receive_count` is below 1.
            AwsError: if SQS refused a request.
        """
        return self._topic(self._admin.create(name, max_receive_count))

    def topic(self, name: str) -> Topic:
        """Return the topic with the given name or URL. Raises TopicNotFoundError if the topic does not exist."""
        return self._topic(self._admin.url(name))

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of all topics that start with `prefix`, sorted."""
        return self._admin.names(prefix)

    def delete(self, topic: Topic | str) -> list[str]:
        """Delete a topic, and its dead-letter topic unless other topics use it. Return the deleted topics' names."""
        return self._admin.delete(topic if isinstance(topic, str) else topic.url)

    def clear(self, prefix: str) -> list[str]:
        """Delete every topic whose name starts with `prefix`, including dead-letter topics. Return the deleted names.

        Raises:
            InvalidValueError: if the prefix is empty.
        """
        return self._admin.clear(prefix)

    def _topic(self, url: str) -> Topic:
        return Topic(self._admin.sqs, url, self._overflow)


class Topic(SqsTopic):
    """A topic, which is an SQS queue. Messages may arrive in any order, and more than once."""

    __slots__ = ()

    def upload(self, *paths: str | Path, parcel_size: int = 1000) -> int:
        """Publish the lines of files as messages, and return the number of messages.

        Args:
            paths: the paths of the files.
            parcel_size: the most lines of a message.

        Raises:
            ParcelqError: if a file cannot be read.
            PublishError: if SQS refused some messages; all other messages are published.
            AwsError: if SQS refused a request.
        """
        from parcelq.upload.files import upload_files

        if parcel_size < 1:
            raise InvalidValueError("parcel_size", parcel_size, "at least 1")
        return upload_files(self, paths, parcel_size)

    def download(self, path: str | Path, *, idle: float = MAX_LONG_POLL_SECONDS) -> Downloaded:
        """Write the entries of all messages into a new file, in the order of their source, and acknowledge the
        messages.

        Args:
            path: the path of the new file, which must not exist yet.
            idle: after how many seconds without a message the topic counts as empty.

        Returns:
            The numbers of written messages and entries, and the incomplete sources. While a source is incomplete, the
            folder `<path>.parts` stays, and another download into the same file adds the messages that arrived since.

        Raises:
            ParcelqError: if the file already exists.
            AwsError, OSError: if SQS or the disk failed. No message is lost.
        """
        from parcelq.collect.download import download

        return download(self, Path(path), receive_message_timeout=idle)


@dataclass(frozen=True, slots=True)
class Worker:
    """Runs a step over the messages of a topic and publishes the step's output on another topic.

    Attributes:
        input: the topic with the messages. Messages that fail for good go to the dead-letter topic of this topic.
        output: the topic for the step's output.
        step: the path of a file or a folder, or the name of a program on the PATH.
        settings: the path of the step's settings file; empty if the step has no settings.
        workflow_id: the value that the step gets as `--workflow-id`.
        batch_size: how many entries each run of the step should get.
        parcel_size: the most entries of a published message.
    """

    input: Topic
    output: Topic
    step: str | Path
    settings: str | Path = ""
    workflow_id: str = ""
    batch_size: int = 1000
    parcel_size: int = 1000

    def run(
        self,
        *,
        idle: float = math.inf,
        on_progress: Callable[[RoundProgress, RoundProgress], None] = lambda _round, _total: None,
    ) -> tuple[int, int]:
        """Pull messages, run the step, publish its output and acknowledge, until no message arrives for `idle` seconds.

        Args:
            idle: after how many seconds without a message this method returns; by default it never returns.
            on_progress: a function that is called after each round of work with the counts of the round and the total
                counts.

        Returns:
            The numbers of messages processed and published.

        Raises:
            SettingsError: if the step or its settings do not exist or are invalid.
            TopicError: if the input topic has no dead-letter topic.
            AwsError: if SQS refused a request.
        """
        from parcelq.process.worker import process

        with closing(self._processor()) as processor:
            return process(processor, receive_message_timeout=idle, on_progress=on_progress)

    def _processor(self) -> Processor:
        from parcelq.process.apply import Route
        from parcelq.process.processor import Processor
        from parcelq.process.rules import Rules
        from parcelq.steps.find import local_step
        from parcelq.topics.admin import Topics as Admin

        for name in ("batch_size", "parcel_size"):
            if getattr(self, name) < 1:
                raise InvalidValueError(name, getattr(self, name), "at least 1")
        step = local_step(str(self.step), str(self.settings), self.workflow_id)
        dead = Admin(self.input.sqs).dead_letters_of(self.input.url)
        route = Route(self.input, self.output, replace(self.input, url=dead), self.output)
        return Processor(route, step, Rules(self.batch_size, self.parcel_size))
