"""The requests that topic_admin takes: one class for each action, which checks its members and does it.

What only one or two actions need they import themselves, so that the others start sooner.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from parcelq.config import Config
from parcelq.errors import InvalidValueError, MessageError
from parcelq.names import dead_letter, topic_within
from parcelq.store.stores import Store
from parcelq.topics.admin import Topics, guarded
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from pydantic import BaseModel, Field

MOST_PEEKED = 100
MOST_TOLD = 100
MOST_OF_EACH = 20
"""Holes and deaths that are told of a source: with the longest names and reasons the answer fits into Lambda's 6 MB."""


@dataclass(frozen=True, slots=True)
class App:
    """What the actions work with."""

    config: Config
    topics: Topics
    overflow: Overflow
    store: Store

    def name(self, topic: str) -> str:
        """Name of a topic given by name or URL, if it is one of the stack's prefix."""
        return topic_within(self.config.prefix, topic)

    def others(self, topic: str) -> str:
        """The same, if the stack itself does not own the topic: what CloudFormation made, it alone deletes."""
        name = self.name(topic)
        if name in self.config.own_topics:
            raise InvalidValueError("topic", topic, "none of the stack's own, which only deleting the stack deletes")
        return name


class _Request(BaseModel):
    # Deferred, so that a cold start does not build the checks of each class, and those of all of them once more.
    model_config: ClassVar = {"extra": "forbid", "defer_build": True}


class List(_Request):
    """Names of the topics that start with a prefix."""

    action: Literal["list"]
    prefix: str = ""

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        prefix = app.name(self.prefix) if self.prefix else f"{app.config.prefix}-"
        return {"topics": app.topics.names(prefix)}


class Create(_Request):
    """Create a topic and its dead-letter topic, anew."""

    action: Literal["create"]
    topic: str
    max_receive_count: int = Field(default=2, ge=1, le=1000)

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        name = app.others(self.topic)
        # As the template's own topics are.
        return {"url": app.topics.create(name, self.max_receive_count, both=guarded(app.config.kms_key_arn))}


class Delete(_Request):
    """Delete a topic and its dead-letter topic."""

    action: Literal["delete"]
    topic: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        name = app.others(self.topic)
        app.topics.delete(name)
        return {"deleted": name}


class Clear(_Request):
    """Delete every topic that starts with a prefix, but for the stack's own."""

    action: Literal["clear"]
    prefix: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        return {"deleted": app.topics.clear(app.name(self.prefix), keep=app.config.own_topics)}


class Url(_Request):
    """URL of a topic."""

    action: Literal["url"]
    topic: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        return {"url": app.topics.url(app.name(self.topic))}


class Attributes(_Request):
    """All attributes of a topic."""

    action: Literal["attributes"]
    topic: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        return {"attributes": app.topics.attributes(app.name(self.topic))}


class Count(_Request):
    """Approximate number of messages that can be pulled."""

    action: Literal["count"]
    topic: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        return {"approximate_count": app.topics.count(app.name(self.topic))}


class NewMessage(_Request):
    """A message to publish."""

    body: str = Field(min_length=1)
    attributes: dict[str, str] = Field(default_factory=dict)


class Publish(_Request):
    """Publish messages."""

    action: Literal["publish"]
    topic: str
    messages: list[NewMessage] = Field(min_length=1)

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        from parcelq.topics.sqs import SqsTopic

        topic = SqsTopic(app.topics.sqs, app.topics.url(app.name(self.topic)), app.overflow)
        messages = [Message(one.body.encode("utf-8", "surrogatepass"), one.attributes) for one in self.messages]
        published, failed = topic.publish(messages)
        return {"published": published, "failed": [{"code": one.code, "reason": one.reason} for one in failed]}


class Peek(_Request):
    """Look at messages without taking them; SQS counts it as a receive."""

    action: Literal["peek"]
    topic: str
    most: int = Field(default=10, ge=1, le=MOST_PEEKED)

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        from parcelq.process.redrive import peek

        seen = peek(app.topics.sqs, app.topics.url(app.name(self.topic)), self.most)
        return {"messages": [_shown(one, app.overflow) for one in seen]}


class Redrive(_Request):
    """Send dead letters back to their topic."""

    action: Literal["redrive"]
    topic: str
    message_ids: list[str] | None = Field(default=None, min_length=1)

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        from parcelq.process.redrive import redrive

        name = app.name(self.topic)
        dead = app.topics.url(dead_letter(name))
        only = None if self.message_ids is None else frozenset(self.message_ids)
        return {"redriven": redrive(app.topics.sqs, dead, app.topics.url(name), only)}


class Purge(_Request):
    """Delete all messages of a topic."""

    action: Literal["purge"]
    topic: str

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        name = app.name(self.topic)
        app.topics.purge(name)
        return {"purged": name}


class Status(_Request):
    """How far the sources are that have no whole result yet."""

    action: Literal["status"]
    source: str = ""

    def run(self, app: App) -> dict[str, Any]:
        """Do it."""
        from parcelq.collect.status import statuses

        found = [one for one in statuses(app.store, app.config.output_topic) if one.has_in_name(self.source)]
        return {"sources": [one.document(MOST_OF_EACH) for one in found[:MOST_TOLD]], "count": len(found)}


Request = Annotated[
    List | Create | Delete | Clear | Url | Attributes | Count | Publish | Peek | Redrive | Purge | Status,
    Field(discriminator="action"),
]


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
