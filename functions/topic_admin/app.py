"""Manages the topics of a stack: each request names an action."""

from __future__ import annotations

from functools import cache
from typing import Any

from actions import answer
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.errors import ParcelqError
from parcelq.topics.deployed import Deployed

logger = Logger()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def own() -> Deployed:
    """Return the function's configuration, topics and bucket."""
    return Deployed.connect()


@logger.inject_lambda_context
def handler(event: Any, _context: LambdaContext) -> dict[str, Any]:
    """Carry out a request, or return an answer that says what is wrong with the request."""
    try:
        answered = answer(own(), event)
    except ParcelqError as error:
        return _refused(type(error).__name__, str(error))
    logger.info("done", action=event["action"])
    return answered


def _refused(kind: str, message: str) -> dict[str, Any]:
    logger.warning("refused: %s", message)
    return {"error": {"type": kind, "message": message}}
