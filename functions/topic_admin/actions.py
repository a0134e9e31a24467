"""The actions of the Lambda function topic_admin, and a table with one line for each action.

A module that few actions need is imported only when such an action runs, so that other actions start sooner.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from parcelq.checks import Check, Wrong, checked, filled, optional, shown, text, texts, whole
from parcelq.config import Config
from parcelq.errors import InvalidValueError, MessageError, ParcelqError
from parcelq.names import topic_within
from parcelq.store.store import Store
from parcelq.topics.admin import Topics
from parcelq.topics.guarded import guarded
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow

if TYPE_CHECKING:
    from parcelq.topics.sqs import SqsTopic

MOST_PEEKED = 100
MOST_SOURCES = 100
MOST_OF_EACH = 20
"""The most holes and dead ranges that are listed for a source, so that the answer always fits into Lambda's 6 MB."""


class BadRequest(ParcelqError):  # noqa: N818 - the name is what callers see
    """Members of a request are missing, unknown or wrong. The error message names all such members."""


class App(NamedTuple):
    """The objects that the actions work with."""

    config: Config
    topics: Topics
    overflow: Overflow
    store: Store

    def name(self, topic: str) -> str:
        """Return the name of a topic from its name or URL. Raises InvalidValueError without the stack's prefix."""
        return topic_within(self.config.prefix, topic)

    def url(self, topic: str) -> str:
        """Return the URL of a topic whose name begins with the stack's prefix."""
        return self.topics.url(self.name(topic))

    def topic(self, url: str) -> SqsTopic:
        """Return the topic with a URL."""
        from parcelq.topics.sqs import SqsTopic

        return SqsTopic(self.topics.sqs, url, self.overflow)

    @property
    def looks(self) -> SqsTopic:
        """The stack's topic of looks (scheduled checks of jobs)."""
        return self.topic(self.url(self.config.looks_topic))

    def others(self, topic: str) -> str:
        """Return the name of a topic. Raises InvalidValueError for a topic that CloudFormation manages."""
        name = self.name(topic)
        if name in self.config.own_topics:
            raise InvalidValueError("topic", topic, "none of the stack's own, which only deleting the stack deletes")
        return name


class Action(NamedTuple):
    """An action: the function that carries out the action, and the required and optional members of a request."""

    run: Callable[..., dict[str, Any]]
    needs: Mapping[str, Check] = {}
    takes: Mapping[str, Check] = {}


def answer(app: App, request: object) -> dict[str, Any]:
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
    return action.run(app, **values)


def _list(app: App, prefix: str = "") -> dict[str, Any]:
    return {"topics": app.topics.names(app.name(prefix) if prefix else f"{app.config.prefix}-")}


def _create(app: App, topic: str, max_receive_count: int = 2) -> dict[str, Any]:
    guards = guarded(app.config.kms_key_arn)  # the template's topics have the same setting
    return {"url": app.topics.create(app.others(topic), max_receive_count, both=guards)}


def _clear(app: App, prefix: str) -> dict[str, Any]:
    return {"deleted": app.topics.clear(app.name(prefix), keep=app.config.own_topics)}


def _delete(app: App, topic: str) -> dict[str, Any]:
    app.topics.delete(name := app.others(topic))
    return {"deleted": name}


def _purge(app: App, topic: str) -> dict[str, Any]:
    app.topics.purge(name := app.name(topic))
    return {"purged": name}


def _publish(app: App, topic: str, messages: list[Message]) -> dict[str, Any]:
    from parcelq.jobs.look import Look
    from parcelq.topics.topic import publish_all

    published, failed = app.topic(app.url(topic)).publish(messages)
    publish_all(app.looks, [Look()])  # so that the stack collects the messages' results
    return {"published": published, "failed": [{"code": one.code, "reason": one.reason} for one in failed]}


def _peek(app: App, topic: str, most: int = 10) -> dict[str, Any]:
    from parcelq.process.redrive import peek

    seen = peek(app.topic(app.url(topic)), most)
    return {"messages": [_shown(one, app.overflow) for one in seen]}


def _redrive(app: App, topic: str, message_ids: list[str] | None = None) -> dict[str, Any]:
    from parcelq.process.redrive import redrive

    only = None if message_ids is None else frozenset(message_ids)
    dead_letters, source = map(app.topic, app.topics.redrive_urls(app.name(topic)))
    return {"redriven": redrive(dead_letters, source, only, looks=app.looks)}


def _status(app: App, source: str = "") -> dict[str, Any]:
    from parcelq.collect.status import statuses

    found = [one for one in statuses(app.store, app.config.output_topic) if one.has_in_name(source)]
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
    "url": Action(lambda app, topic: {"url": app.url(topic)}, _TOPIC),
    "attributes": Action(lambda app, topic: {"attributes": app.topics.attributes(app.name(topic))}, _TOPIC),
    "count": Action(lambda app, topic: {"approximate_count": app.topics.count(app.name(topic))}, _TOPIC),
    "publish": Action(_publish, {**_TOPIC, "messages": _messages}),
    "peek": Action(_peek, _TOPIC, {"most": whole(1, MOST_PEEKED)}),
    "redrive": Action(_redrive, _TOPIC, {"message_ids": optional(texts)}),
    "purge": Action(_purge, _TOPIC),
    "status": Action(_status, {}, {"source": text}),
}
