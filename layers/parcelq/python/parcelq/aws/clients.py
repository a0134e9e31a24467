"""Creates AWS clients, and converts the errors of AWS to Parcelq's; no other module does so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from parcelq.aws.bodies import write_bodies_fast
from parcelq.aws.replies import check_replies
from parcelq.errors import AwsError, ParcelqError, TopicBlockedError, TopicExistsError, TopicNotFoundError
from parcelq.names import topic_of_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_AGENT: Final = "parcelq"
"""A short user agent. Building botocore's longer text takes a tenth of the time of each request."""
CONNECTIONS: Final = 32
"""How many connections a client keeps open, which is more than the parallel requests of any operation."""

_REGEX: Final = re.compile(r":[^:]*must (?:match the regex|be an ARN matching the regex).*", re.DOTALL)
"""The end of botocore's error for an invalid bucket name: a regular expression, which does not help a user."""
_TOPIC_ERRORS: Final = {
    **dict.fromkeys(("QueueDoesNotExist", "NonExistentQueue"), TopicNotFoundError),
    **dict.fromkeys(("QueueNameExists", "QueueAlreadyExists"), TopicExistsError),
    "QueueDeletedRecently": TopicBlockedError,
}


def sqs_client() -> SQSClient:
    """Return an SQS client with boto3's standard configuration. Raises AwsError if no region is configured."""
    # Long polls last 20 s, so the read timeout must be clearly longer.
    sqs: SQSClient = _client("sqs", max_pool_connections=CONNECTIONS, read_timeout=60, user_agent=_AGENT)
    write_bodies_fast(sqs)
    check_replies(sqs)
    return sqs


def s3_client() -> S3Client:
    """Return an S3 client; see `sqs_client`."""
    s3: S3Client = _client("s3", max_pool_connections=CONNECTIONS, user_agent=_AGENT)
    return s3


def other_client(service: str) -> Any:
    """Return a client of a rarely used service; see `sqs_client`."""
    return _client(service)


def _client(service: str, **options: Any) -> Any:
    """Return a client. boto3 raises ValueError if, for example, the endpoint is not a URL."""
    try:
        with translated():
            return boto3.client(service, config=Config(retries={"mode": "standard"}, **options))  # type: ignore[call-overload]
    except ValueError as error:
        hint = "check AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS and ~/.aws/config"
        raise AwsError("making a client of AWS", type(error).__name__, f"{error} ({hint})") from error


@contextmanager
def translated(topic: str = "") -> Iterator[None]:
    """Convert boto3's exceptions to Parcelq's exceptions while the context lasts.

    Raises:
        TopicNotFoundError, TopicBlockedError, TopicExistsError: if SQS reports an error about the topic.
        AwsError: if AWS reports any other error, or the connection fails.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _translate(error, topic_of_url(topic)) from error


def _translate(error: ClientError | BotoCoreError, topic: str) -> ParcelqError:
    if not isinstance(error, ClientError):
        hint = ""
        if isinstance(error, NoCredentialsError | NoRegionError):
            hint = " (see `aws configure`, AWS_PROFILE and AWS_DEFAULT_REGION)"
        return AwsError("the request", type(error).__name__, f"{_REGEX.sub('', str(error))}{hint}")
    answer = error.response.get("Error", {})
    code = answer.get("Code", "")
    name = code.rpartition(".")[2]  # SQS's codes look like AWS.SimpleQueueService.NonExistentQueue
    if name in _TOPIC_ERRORS:
        return _TOPIC_ERRORS[name](topic)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return AwsError(error.operation_name, name, answer.get("Message", ""), status)
