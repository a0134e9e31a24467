"""Clients of AWS for a server on this machine: the same for Parcelq and for what it is measured beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from parcelq.aws import CONNECTIONS

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def sqs_of(url: str) -> SQSClient:
    """An SQS client that talks to `url`, and keeps as many connections as Parcelq's own."""
    session = boto3.Session("bench", "bench", region_name="us-east-1")
    config: Any = Config(max_pool_connections=CONNECTIONS, read_timeout=60, retries={"mode": "standard"})
    return session.client("sqs", endpoint_url=url, config=config)
