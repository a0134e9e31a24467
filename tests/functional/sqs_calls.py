"""Requests to one SQS queue, as its topic makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

from parcelq.topics.message import Message, Pulled
from parcelq.topics.publish import REQUESTS_IN_FLIGHT
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import Published


def publish_one(sqs: Any, url: str, message: Message, **options: Any) -> str:
    return SqsTopic(sqs, url, **options).publish_one(message)


def publish_many(
    sqs: Any, url: str, messages: Iterable[Message], requests_in_flight: int = REQUESTS_IN_FLIGHT, **options: Any
) -> Published:
    with patch("parcelq.topics.publish.REQUESTS_IN_FLIGHT", requests_in_flight):
        return SqsTopic(sqs, url, **options).publish(messages)


def pull(sqs: Any, url: str, *numbers: Any, **options: Any) -> list[Pulled]:
    times = {name: options.pop(name) for name in ("clock", "sleep") if name in options}
    return SqsTopic(sqs, url, **times).pull(*numbers, **options)


def acknowledge(sqs: Any, url: str, messages: Iterable[Pulled]) -> list[Pulled]:
    return SqsTopic(sqs, url).acknowledge(messages)


def refresh_deadline(sqs: Any, url: str, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
    return SqsTopic(sqs, url).refresh_deadline(messages, timeout)
