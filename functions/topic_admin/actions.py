"""The actions of the Lambda function topic_admin, and a table with one line for each action.

A module that few actions need is imported only when such an action runs, so that other actions start sooner.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from parcelq.checks import Check, Wrong, checked, filled, optional, shown, text, texts, whole
from parcelq.errors import InvalidValueError, MessageError, ParcelqError
from parcelq.names import topic_within
from parcelq.topics.admin import guarded
from parcelq.topics.deployed import Deployed
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow

MOST_PEEKED = 100
MOST_SOURCES = 100
MOST_OF_EACH = 20
"""The most holes and dead ranges that are listed for a source, so that the answer always fits into Lambda's 6 MB."""


class BadRequest(ParcelqError):  # noqa: N818 - the name is what callers see
    """Members of a request are missing, unknown or wrong. The error message names all such members."""


class Action(NamedTuple):
    """An action: the function that carries out the action, and the required and optional members of a request."""

    run: Callable[..., dict[str, Any]]
    needs: Mapping[str, Check] = {}
    takes: Mapping[str, Check] = {}


def answer(stack: Deployed, request: object) -> dict[str, Any]:
    """Carry out a request. Raises BadRequest that names all mistakes, or ParcelqError if the action failed."""
    if not isinstance(request, dict):
        raise BadRequest(f"request is {shown(request)}, but must be a JSON object")
    name = request.get("action")
    action = ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise BadRequest(f"action is {shown(name)}, but must be one of {', '.join(ACTIONS)}")
    given = {key: value for key, value in request.items() if key != "action"}
    values, problems = checked(given, {**action.needs, **action.takes}, required=action.needs)
    if problems:
        raise BadRequest("; ".join(problems))
    return action.run(stack, **values)


def _name(stack: Deployed, topic: str) -> str:
    """Return the name of a topic from its name or URL. Raises InvalidValueError without the stack's prefix."""
    return topic_within(stack.config.prefix, topic)


def _others(stack: Deployed, topic: str) -> str:
    """Return the name of a topic. Raises InvalidValueError for a topic that CloudFormation manages."""
    name = _name(stack, topic)
    if name in stack.config.own_topics:
        raise InvalidValueError("topic", topic, "none of the stack's own, which only deleting the stack deletes")
    return name


def _list(stack: Deployed, prefix: str = "") -> dict[str, Any]:
    return {"topics": stack.topics.names(_name(stack, prefix) if prefix else f"{stack.config.prefix}-")}


def _create(stack: Deployed, topic: str, max_receive_count: int = 2) -> dict[str, Any]:
    guards = guarded(stack.config.kms_key_arn)  # the template's topics have the same setting
    return {"url": stack.topics.create(_others(stack, topic), max_receive_count, both=guards)}


def _clear(stack: Deployed, prefix: str) -> dict[str, Any]:
    return {"deleted": stack.topics.clear(_name(stack, prefix), keep=stack.config.own_topics)}


def _delete(stack: Deployed, topic: str) -> dict[str, Any]:
    stack.topics.delete(name := _others(stack, topic))
    return {"deleted": name}


def _purge(stack: Deployed, topic: str) -> dict[str, Any]:
    stack.topics.purge(name := _name(stack, topic))
    return {"purged": name}


def _publish(stack: Deployed, topic: str, messages: list[Message]) -> dict[str, Any]:
    from parcelq.jobs.look import Look
    from parcelq.topics.topic import publish_all

    published, failed = stack.topic(_name(stack, topic)).publish(messages)
    publish_all(stack.topic(stack.config.looks_topic), [Look()])  # so that the stack collects the messages' results
    return {"published": published, "failed": [{"code": one.code, "reason": one.reason} for one in failed]}


def _peek(stack: Deployed, topic: str, most: int = 10) -> dict[str, Any]:
    from parcelq.process.redrive import peek

    seen = peek(stack.topic(_name(stack, topic)), most)
    return {"messages": [_shown(one, stack.overflow) for one in seen]}


def _redrive(stack: Deployed, topic: str, message_ids: list[str] | None = None) -> dict[str, Any]:
    from parcelq.process.redrive import redrive

    only = None if message_ids is None else frozenset(message_ids)
    dead_letters, source = map(stack.topic, stack.topics.redrive_urls(_name(stack, topic)))
    return {"redriven": redrive(dead_letters, source, only, looks=stack.topic(stack.config.looks_topic))}


def _status(stack: Deployed, source: str = "") -> dict[str, Any]:
    from parcelq.collect.status import statuses

    found = [one for one in statuses(stack.store, stack.config.output_topic) if one.has_in_name(source)]
    return {"sources": [one.document(MOST_OF_EACH) for one in found[:MOST_SOURCES]], "count": len(found)}


def _messages(value: object) -> list[Message]:
    """Check that a value is a list of messages with bodies and attributes, and return the messages."""
    wanted = "a list of one or more objects, each with a non-empty body and attributes that are texts"
    if not isinstance(value, list) or not value:
        raise Wrong(wanted)
    messages = []
    for one in value:
        values, problems = checked(one, _MESSAGE, ["body"]) if isinstance(one, dict) else ({}, [""])
        if problems:
            raise Wrong("; ".join([wanted, *filter(None, problems)]))
        messages.append(Message(values["body"].encode("utf-8", "surrogatepass"), values.get("attributes", {})))
    return messages


def _attributes(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise Wrong("an object of texts")
    return value


def _shown(one: Pulled, overflow: Overflow) -> dict[str, Any]:
    shown = {"message_id": one.message_id, "receive_count": one.receive_count, "attributes": dict(one.attributes)}
    try:
        body = overflow.load(one).message().body
    except MessageError as error:
        return {**shown, "body": one.wire.text, "problem": str(error)}
    try:
        return {**shown, "body": body.decode()}
    except UnicodeDecodeError:
        return {**shown, "body_base64": base64.b64encode(body).decode()}


_MESSAGE: Mapping[str, Check] = {"body": filled, "attributes": _attributes}
_TOPIC: Mapping[str, Check] = {"topic": text}


ACTIONS: Mapping[str, Action] = {
    "list": Action(_list, {}, {"prefix": text}),
    "create": Action(_create, _TOPIC, {"max_receive_count": whole(1, 1000)}),
    "delete": Action(_delete, _TOPIC),
    "clear": Action(_clear, {"prefix": text}),
    "url": Action(lambda stack, topic: {"url": stack.topics.url(_name(stack, topic))}, _TOPIC),
    "attributes": Action(lambda stack, topic: {"attributes": stack.topics.attributes(_name(stack, topic))}, _TOPIC),
    "count": Action(lambda stack, topic: {"approximate_count": stack.topics.count(_name(stack, topic))}, _TOPIC),
    "publish": Action(_publish, {**_TOPIC, "messages": _messages}),
    "peek": Action(_peek, _TOPIC, {"most": whole(1, MOST_PEEKED)}),
    "redrive": Action(_redrive, _TOPIC, {"message_ids": optional(texts)}),
    "purge": Action(_purge, _TOPIC),
    "status": Action(_status, {}, {"source": text}),
}
