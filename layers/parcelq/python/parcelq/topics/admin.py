"""Manages topics: lists, creates, deletes, clears, counts and describes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.aws.replies import incomplete, needed
from parcelq.errors import AwsError, InvalidValueError, TopicBlockedError, TopicError, TopicNotFoundError
from parcelq.limits import DELETED_NAME_SECONDS, MAX_LIST_RESULTS, MAX_RETENTION_SECONDS
from parcelq.names import DEAD_LETTER_SUFFIX, check_topic, dead_letter, is_url, topic_of_url
from parcelq.topics.topic import Counts

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType


_RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one account and region.

    A parameter `topic` is a name or a URL. All methods raise `AwsError` if AWS refuses a request, and
    `TopicNotFoundError` if a needed topic does not exist.
    """

    sqs: SQSClient
    sleep: Callable[[float], None] = time.sleep

    def urls(self, prefix: str = "") -> list[str]:
        """Return the URLs of all topics whose names start with `prefix`, from as many requests as needed."""
        pages = self.sqs.get_paginator("list_queues").paginate(
            QueueNamePrefix=prefix, PaginationConfig={"PageSize": MAX_LIST_RESULTS}
        )
        with translated():
            return [url for page in pages for url in page.get("QueueUrls", [])]

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all topics whose names start with `prefix`."""
        return sorted(map(topic_of_url, self.urls(prefix)))

    def url(self, topic: str) -> str:
        """Return the URL of a topic; a URL is returned unchanged."""
        if is_url(topic):
            return topic
        with translated(topic):
            return str(needed(self.sqs.get_queue_url(QueueName=topic), "GetQueueUrl", "QueueUrl"))

    def attributes(self, topic: str) -> dict[str, str]:
        """Return a dict from SQS's names of attributes to a topic's values."""
        url = self.url(topic)
        with translated(topic):
            reply = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return {str(name): value for name, value in needed(reply, "GetQueueAttributes", "Attributes").items()}

    def count(self, topic: str) -> int:
        """Return the approximate number of messages that can be pulled now.

        The number is about right if no message was sent in the last 60 s, but it is never exact:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        return self.counts(topic).visible

    def counts(self, topic: str) -> Counts:
        """Return approximate numbers of visible, locked and delayed messages. See `count`."""
        url = self.url(topic)
        names: list[QueueAttributeNameType] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        with translated(topic):
            reply = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        attributes = needed(reply, "GetQueueAttributes", "Attributes")
        try:
            return Counts(*(int(needed(attributes, "GetQueueAttributes", name)) for name in names))
        except ValueError:
            raise incomplete("GetQueueAttributes", f"the reply's counts are not numbers: {attributes!r}") from None

    def dead_letter_url(self, topic: str) -> str | None:
        """Return the URL of the dead-letter topic that a topic's RedrivePolicy names, in any account. If the topic has
        no RedrivePolicy, return the URL of the topic with the matching name, or None if no such topic exists.
        """
        url = self.url(topic)
        # guard[policy = None]: a topic's dead-letter topic is the one that its RedrivePolicy names
        policy = self.attributes(url).get("RedrivePolicy")
        if policy is None:
            name = topic_of_url(url)
            return None if name.endswith(DEAD_LETTER_SUFFIX) else self._url_if_there(dead_letter(name))
        try:
            account, name = str(json.loads(policy)["deadLetterTargetArn"]).split(":")[4:]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TopicError(topic, f"its RedrivePolicy names no queue: {policy[:200]!r}") from None
        # SQS requires that both topics are in one region, so their URLs differ only in account and name.
        endpoint = url.rstrip("/").rsplit("/", 2)[0]
        return f"{endpoint}/{account}/{name}"

    def dead_letters_of(self, topic: str) -> str:
        """Return the URL of a topic's dead-letter topic, or of the topic itself if it is named as one. Raises
        TopicError if there is none, and TopicNotFoundError if the topic's RedrivePolicy names a topic that does not
        exist.
        """
        url = self.url(topic)
        dead = self.dead_letter_url(url)
        if dead is None and not topic_of_url(url).endswith(DEAD_LETTER_SUFFIX):
            raise TopicError(
                topic, "it has no dead-letter topic: it has no RedrivePolicy, and no topic has the matching name"
            )
        if dead is None:
            return url
        try:
            self.attributes(dead)
        except AwsError as error:
            if error.status != 403:  # a queue of another account may allow sending without allowing lookups
                raise
        return dead

    def redrive_urls(self, topic: str) -> tuple[str, str]:
        """Return the URLs of a dead-letter topic and of the topic that its messages came from; `topic` is one of the
        two. Raises TopicError if the other is unknown.
        """
        url = self.url(topic)
        dead = self.dead_letters_of(url)
        if dead != url:
            return dead, url
        sources = self.source_urls(dead)
        if not sources and (named := self._url_if_there(topic_of_url(url).removesuffix(DEAD_LETTER_SUFFIX))):
            sources = [named]
        if len(sources) != 1:
            names = ", ".join(sorted(map(topic_of_url, sources))) or "none"
            raise TopicError(topic, f"it must be the dead-letter topic of one topic; those that use it: {names}")
        return dead, sources[0]

    def source_urls(self, topic: str) -> list[str]:
        """Return the URLs of the topics whose RedrivePolicy names this topic."""
        url = self.url(topic)
        pages = self.sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url)
        with translated(topic):
            return [one for page in pages for one in page.get("queueUrls", [])]

    def create_queue(self, name: str, attributes: Mapping[str, str] | None = None) -> str:
        """Send a CreateQueue request and return the URL.

        The attributes are any of
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html. Raises
        TopicBlockedError if a topic of that name was deleted less than 60 s ago, and TopicExistsError if one exists and
        has other attributes.
        """
        with translated(name):
            # SQS checks the keys, so attributes that the type stubs do not know yet work too.
            reply = self.sqs.create_queue(QueueName=name, Attributes=dict(attributes or {}))  # type: ignore[arg-type]
        return str(needed(reply, "CreateQueue", "QueueUrl"))

    def create(
        self,
        name: str,
        max_receive_count: int = 2,
        attributes: Mapping[str, str] | None = None,
        on_wait: Callable[[str, float], None] = lambda _name, _seconds: None,
        both: Mapping[str, str] | None = None,
    ) -> str:
        """Create a topic and its dead-letter topic anew, as `parcelq.Topics.create` does, and return the topic's URL.

        Args:
            attributes: attributes of the topic alone.
            on_wait: a function that is called if SQS still refuses a name. Its arguments are the name and the most
                seconds to wait.
            both: attributes that both the topic and its dead-letter topic get, such as `guarded()`.

        Raises TopicBlockedError if SQS still refused the name after 90 s.
        """
        check_topic(name)
        if name.endswith(DEAD_LETTER_SUFFIX):
            raise InvalidValueError("topic name", name, f"without {DEAD_LETTER_SUFFIX!r}; that topic is made with it")
        if max_receive_count < 1:
            raise InvalidValueError("max_receive_count", max_receive_count, "at least 1")
        self._delete_if_there(name)
        self._delete_if_there(dead_letter(name))
        shared = {"MessageRetentionPeriod": str(MAX_RETENTION_SECONDS), **(both or {})}
        dead_letter_url = self._create_when_free(dead_letter(name), shared, on_wait)
        arn = needed(self.attributes(dead_letter_url), "GetQueueAttributes", "QueueArn")
        redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count})}
        return self._create_when_free(name, {**shared, **(attributes or {}), **redrive}, on_wait)

    def deleted_with(self, topic: str) -> list[str]:
        """Return the URLs of the topics that `delete` deletes: the topic, and its dead-letter topic unless other topics
        use it, or it is in another account and can be deleted only there.
        """
        url = self.url(topic)
        dead = self.dead_letter_url(url)
        if dead is None or _account(dead) != _account(url):
            return [url]
        try:
            users = {topic_of_url(one) for one in self.source_urls(dead)}
        except TopicNotFoundError:
            return [url]
        # guard[return [url, dead]]: a dead-letter topic that other topics use is not deleted
        return [url] if users - {topic_of_url(url)} else [url, dead]

    def delete(self, topic: str) -> list[str]:
        """Delete a topic and its dead-letter topic, with all messages of the two, and return the names of the deleted
        topics; see `deleted_with`. A deletion cannot be undone.
        """
        url, *dead = self.deleted_with(topic)
        with translated(topic):
            self.sqs.delete_queue(QueueUrl=url)
        for one in dead:
            self._delete_if_there(one)
        return [topic_of_url(one) for one in (url, *dead)]

    def clear(self, prefix: str, *, everything: bool = False, keep: Collection[str] = ()) -> list[str]:
        """Delete every topic whose name starts with `prefix`, even dead-letter topics, but not those to `keep`, and
        return their names. A deletion cannot be undone.

        Raises InvalidValueError if the prefix is empty, which means every topic of the account and region, unless
        `everything`.
        """
        if not prefix and not everything:
            raise InvalidValueError("prefix", prefix, "not empty, unless `everything` is set to delete all topics")
        urls = [url for url in self.urls(prefix) if topic_of_url(url) not in keep]
        for _ in in_flight(self._delete_if_there, urls):
            pass
        return sorted(map(topic_of_url, urls))

    def purge(self, topic: str) -> None:
        """Delete all messages of a topic. SQS takes up to 60 s for a purge, and allows one purge in 60 s."""
        url = self.url(topic)
        with translated(topic):
            self.sqs.purge_queue(QueueUrl=url)

    def _url_if_there(self, name: str) -> str | None:
        try:
            return self.url(name)
        except TopicNotFoundError:
            return None

    def _delete_if_there(self, topic: str) -> None:
        try:
            url = self.url(topic)
            with translated(url):
                self.sqs.delete_queue(QueueUrl=url)
        except TopicNotFoundError:
            return  # the topic never existed, was deleted by another process, or is still listed after its deletion

    def _create_when_free(self, name: str, attributes: Mapping[str, str], on_wait: Callable[[str, float], None]) -> str:
        # SQS does not say how long it refuses a name, so this retries for up to 1.5 times 60 s.
        for attempt in range(int(1.5 * DELETED_NAME_SECONDS / _RETRY_SECONDS)):
            try:
                return self.create_queue(name, attributes)
            except TopicBlockedError:
                if attempt == 0:
                    on_wait(name, DELETED_NAME_SECONDS)
                self.sleep(_RETRY_SECONDS)
        return self.create_queue(name, attributes)


def _account(url: str) -> str:
    return url.rstrip("/").split("/")[-2]


def guarded(kms_key_arn: str = "") -> dict[str, str]:
    """Return the attributes with which a topic refuses plain HTTP, and encrypts its messages with SQS's key or a KMS
    key.
    """
    refusal = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": "*",  # the queue with this policy; its ARN is unknown before it exists
        "Condition": {"Bool": {"aws:SecureTransport": False}},
    }
    key = {"KmsMasterKeyId": kms_key_arn} if kms_key_arn else {"SqsManagedSseEnabled": "true"}
    return {**key, "Policy": json.dumps({"Version": "2012-10-17", "Statement": [refusal]})}
