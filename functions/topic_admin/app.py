"""Manages the topics of a stack: each request names an action."""

from __future__ import annotations

from functools import cache
from typing import Any

from actions import App, answer
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.config import load
from parcelq.errors import ParcelqError
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.overflow import Overflow

logger = Logger()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def app() -> App:
    """Return the objects that all invocations of an instance share."""
    config = load()
    s3 = s3_client()
    return App(config, Topics(sqs_client()), Overflow(s3, config.bucket, only_own=True), BucketStore(s3, config.bucket))


@logger.inject_lambda_context
def handler(event: Any, _context: LambdaContext) -> dict[str, Any]:
    """Carry out a request, or return an answer that says what is wrong with the request."""
    try:
        answered = answer(app(), event)
    except ParcelqError as error:
        return _refused(type(error).__name__, str(error))
    logger.info("done", action=event["action"])
    return answered


def _refused(kind: str, message: str) -> dict[str, Any]:
    logger.warning("refused: %s", message)
    return {"error": {"type": kind, "message": message}}
