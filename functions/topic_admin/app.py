"""Looks after the topics of a stack: one request for each action, and a bad one is told what is wrong with it."""

from __future__ import annotations

from functools import cache
from typing import Any

from actions import App, Request
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.config import load
from parcelq.errors import ParcelqError
from parcelq.store.stores import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.overflow import Overflow
from pydantic import TypeAdapter, ValidationError

logger = Logger()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def app() -> App:
    """The same for all invocations of one instance."""
    config = load()
    s3 = s3_client()
    return App(config, Topics(sqs_client()), Overflow(s3, config.bucket, only_own=True), BucketStore(s3, config.bucket))


@cache
def requests() -> TypeAdapter[Any]:
    """What checks requests."""
    return TypeAdapter(Request)


@logger.inject_lambda_context
def handler(event: Any, _context: LambdaContext) -> dict[str, Any]:
    """Do what a request asks for, or say what is wrong."""
    try:
        request = requests().validate_python(event)
        answer = request.run(app())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'request'}: {one['msg']}" for one in error.errors())
        return _refused("BadRequest", problems)
    except ParcelqError as error:
        return _refused(type(error).__name__, str(error))
    logger.info("done", action=request.action)
    return answer


def _refused(kind: str, message: str) -> dict[str, Any]:
    logger.warning("refused: %s", message)
    return {"error": {"type": kind, "message": message}}
