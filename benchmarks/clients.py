"""AWS clients for a server on this machine: Parcelq's, and the plain client that it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from parcelq.aws.bodies import write_bodies_fast
from parcelq.aws.clients import CONNECTIONS

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def our_sqs(url: str) -> SQSClient:
    """An SQS client that talks to `url`, as `parcelq.aws.clients.sqs_client` makes it."""
    sqs = bare_sqs(url)
    write_bodies_fast(sqs)
    return sqs


def bare_sqs(url: str) -> SQSClient:
    """An SQS client as boto3 makes it, with as many connections as Parcelq's."""
    session = boto3.Session("bench", "bench", region_name="us-east-1")
    config: Any = Config(max_pool_connections=CONNECTIONS, read_timeout=60, retries={"mode": "standard"})
    return session.client("sqs", endpoint_url=url, config=config)
