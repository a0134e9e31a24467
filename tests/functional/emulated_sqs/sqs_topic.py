"""A clock that jumps, and a queue with the requests that the tests make most."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "eu-west-1"
ACCOUNT = "123456789012"
SESSION = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name=REGION)
CONFIG = Config(max_pool_connections=50, retries={"total_max_attempts": 1})


class Clock:
    """Real time, plus the jumps that a test makes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


class Topic:
    """A queue, and the requests that the tests make most."""

    def __init__(self, sqs: Any, name: str = "topic", **attributes: object) -> None:
        self.sqs = sqs
        texts = {key: str(value) for key, value in attributes.items()}
        self.url = sqs.create_queue(QueueName=name, Attributes=texts)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def send(self, *bodies: str, **options: Any) -> list[str]:
        return [self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **options)["MessageId"] for body in bodies]

    def send_batch(self, *entries: dict[str, Any]) -> dict[str, Any]:
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        return self.sqs.send_message_batch(QueueUrl=self.url, Entries=numbered)

    def receive(self, count: int = 10, **options: Any) -> list[dict[str, Any]]:
        return self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=count, **options).get("Messages", [])

    def bodies(self, count: int = 10, **options: Any) -> list[str]:
        return [message["Body"] for message in self.receive(count, **options)]

    def delete(self, message: dict[str, Any]) -> None:
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, message: dict[str, Any], seconds: int) -> None:
        self.sqs.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def counts(self) -> tuple[int, int, int]:
        """Messages that are visible, in flight and delayed."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        name = "ApproximateNumberOfMessages"
        return int(attributes[name]), int(attributes[f"{name}NotVisible"]), int(attributes[f"{name}Delayed"])


def dead_letter_pair(sqs: Any, max_receive_count: int) -> tuple[Topic, Topic]:
    dead_letters = Topic(sqs, "topic-dead-letter")
    return Topic(sqs, "topic", RedrivePolicy=redrive_to(dead_letters, max_receive_count)), dead_letters


def redrive_to(dead_letters: Topic, max_receive_count: int) -> str:
    return json.dumps({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": max_receive_count})


def text(value: str, kind: str = "String") -> dict[str, str]:
    return {"DataType": kind, "StringValue": value}


@contextmanager
def refused(code: str, saying: str | None = None) -> Iterator[None]:
    with pytest.raises(ClientError, match=saying) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


# What moto and ours have in common.
