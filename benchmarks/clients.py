"""AWS clients for a server on this machine: Parcelq's client, and a plain client for the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from parcelq.aws.bodies import write_bodies_fast
from parcelq.aws.clients import CONNECTIONS

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def our_sqs(url: str) -> SQSClient:
    """Return an SQS client for `url`, made by `parcelq.aws.clients.sqs_client`."""
    sqs = bare_sqs(url)
    write_bodies_fast(sqs)
    return sqs


def bare_sqs(url: str) -> SQSClient:
    """Return a plain SQS client of boto3, with as many connections as Parcelq's client."""
    session = boto3.Session("bench", "bench", region_name="us-east-1")
    config: Any = Config(max_pool_connections=CONNECTIONS, read_timeout=60, retries={"mode": "standard"})
    return session.client("sqs", endpoint_url=url, config=config)
