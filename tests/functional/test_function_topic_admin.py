"""The topic administrator's handler: one request for each action."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from function_world import ALIKE, NAMES, Stack, event
from parcelq.names import DEAD_LETTER_SUFFIX
from parcelq.topics.message import Message

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


class TestTopicAdmin:
    @pytest.fixture
    def admin(self, stack: Stack) -> Callable[..., Any]:
        """Hands an action's event, changed, to the function."""
        stack.make_topic("parcelq-extra")

        def ask(action: str, **changed: Any) -> Any:
            return stack.call("topic_admin", {**event(f"topic_admin_{action}"), **changed})

        return ask

    def names(self, stack: Stack) -> set[str]:
        return {url.rpartition("/")[2] for url in stack.sqs.list_queues().get("QueueUrls", [])}

    def test_topic_admin_lists_only_the_topics_of_the_stack(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.make_topic("other")
        expected = sorted(name for name in stack.urls if name.startswith("parcelq-"))
        assert admin("list") == {"topics": expected}
        assert stack.call("topic_admin", {"action": "list"}) == {"topics": expected}
        assert admin("list", prefix="parcelq-ex") == {"topics": ["parcelq-extra", "parcelq-extra-dead-letter"]}

    def test_topic_admin_creates_a_topic_with_a_dead_letter_topic(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        answer = admin("create", topic="parcelq-fresh", max_receive_count=3)
        attributes = stack.sqs.get_queue_attributes(QueueUrl=answer["url"], AttributeNames=["All"])["Attributes"]
        policy = json.loads(attributes["RedrivePolicy"])
        assert int(policy["maxReceiveCount"]) == 3
        assert policy["deadLetterTargetArn"].endswith(":parcelq-fresh-dead-letter")

    def test_topic_admin_protects_new_topics_like_those_of_the_stack(
        self, stack: Stack, admin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d"
        monkeypatch.setenv("PARCELQ_KMS_KEY_ARN", key)
        url = admin("create", topic="parcelq-fresh")["url"]
        for one in (url, url + DEAD_LETTER_SUFFIX):
            attributes = stack.sqs.get_queue_attributes(QueueUrl=one, AttributeNames=["All"])["Attributes"]
            assert attributes["KmsMasterKeyId"] == key
            assert "aws:SecureTransport" in attributes["Policy"]

    def test_topic_admin_deletes_the_dead_letter_topic_with_its_topic(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        assert admin("delete") == {"deleted": "parcelq-extra"}
        assert self.names(stack) == set(stack.urls) - {"parcelq-extra", "parcelq-extra-dead-letter"}

    def test_topic_admin_clears_topics_by_prefix_and_leaves_those_of_the_stack(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        stack.make_topic("other")
        stack.make_topic("parcelq-step-two")
        extra = {"parcelq-extra", "parcelq-extra-dead-letter"}
        two = {"parcelq-step-two", "parcelq-step-two-dead-letter"}
        assert set(admin("clear")["deleted"]) == extra
        assert set(admin("clear", prefix="parcelq-")["deleted"]) == two
        assert self.names(stack) == set(stack.urls) - extra - two

    def test_topic_admin_gives_the_url_the_attributes_and_the_count_of_a_topic(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        stack.publish("parcelq-step", Message(b"one\n"), Message(b"two\n"))
        url = stack.urls["parcelq-step"]
        assert admin("url") == {"url": url}
        assert admin("attributes")["attributes"]["QueueArn"].endswith(":parcelq-step")
        assert admin("count") == {"approximate_count": 2}
        assert admin("count", topic=url) == {"approximate_count": 2}

    def test_topic_admin_publishes_messages_on_a_topic(self, stack: Stack, admin: Callable[..., Any]) -> None:
        wanted = [{"body": "one\n"}, {"body": "two\x00\n", "attributes": {"Colour": "red"}}]
        assert admin("publish", messages=wanted) == {"published": 2, "failed": []}
        one, two = sorted((pulled.message() for pulled in stack.take("parcelq-step")), key=lambda sent: sent.body)
        assert (one.body, two.body) == (b"one\n", b"two\x00\n")
        assert two.attributes["Colour"] == "red"

    def test_topic_admin_says_which_message_was_refused_and_why(self, stack: Stack, admin: Callable[..., Any]) -> None:
        many = {f"Name{number}": "x" for number in range(11)}
        answer = admin("publish", messages=[{"body": "one\n", "attributes": many}, {"body": "two\n"}])
        assert answer["published"] == 1
        assert len(answer["failed"]) == 1
        assert answer["failed"][0]["reason"]

    def test_topic_admin_shows_messages_and_leaves_them_on_the_topic(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        dead = "parcelq-step-dead-letter"
        stack.publish(dead, Message(b"one\n", {"Reason": "why"}))
        (seen,) = admin("peek")["messages"]
        assert seen["body"] == "one\n"
        assert seen["attributes"]["Reason"] == "why"
        assert [one.message_id for one in stack.take(dead)] == [seen["message_id"]]

    def test_topic_admin_shows_messages_that_are_no_text_or_cannot_be_read(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        dead = "parcelq-step-dead-letter"
        stack.publish(dead, Message(b"\xff\n"))
        assert [one["body_base64"] for one in admin("peek")["messages"]] == ["/wo="]
        stack.take(dead)
        stack.publish(dead, Message(b"odd", {"Encoding": "rot13"}))
        (seen,) = admin("peek")["messages"]
        assert seen["body"] == "odd"
        assert "rot13" in seen["problem"]

    def test_topic_admin_does_not_show_a_body_that_lies_in_another_bucket(
        self, stack: Stack, admin: Callable[..., Any]
    ) -> None:
        stack.publish("parcelq-step-dead-letter", stack.pointer("other-bucket", "overflow/0a1b"))
        (seen,) = admin("peek")["messages"]
        assert "must be under" in seen["problem"]
        assert "secret" not in seen["body"]

    def test_topic_admin_sends_dead_letters_back(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-step-dead-letter", Message(b"one\n", {"Reason": "why"}), Message(b"two\n"))
        chosen = next(one["message_id"] for one in admin("peek")["messages"] if one["body"] == "two\n")
        assert admin("redrive", message_ids=[chosen]) == {"redriven": 1}
        (back,) = stack.take("parcelq-step")
        assert back.message().body == b"two\n"
        assert admin("redrive") == {"redriven": 1}
        (back,) = stack.take("parcelq-step")
        assert back.message().body == b"one\n"
        assert "Reason" not in back.attributes
        assert stack.messages() == 0

    def test_topic_admin_empties_a_topic(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-extra", Message(b"one\n"))
        stack.publish("parcelq-step", Message(b"two\n"))
        assert admin("purge") == {"purged": "parcelq-extra"}
        assert stack.messages() == 1

    @pytest.mark.parametrize(
        "action", ["create", "delete", "url", "attributes", "count", "publish", "peek", "redrive", "purge"]
    )
    def test_topic_admin_touches_no_topic_outside_the_prefix_of_the_stack(
        self, stack: Stack, admin: Callable[..., Any], action: str
    ) -> None:
        stack.make_topic("other")
        stack.publish("other", Message(b"one\n"))
        before = self.names(stack)
        for topic in ("other", "parcelq", "https://sqs.eu-central-1.amazonaws.com/1/other", *ALIKE):
            answer = admin(action, topic=topic)
            assert answer["error"]["type"] == "InvalidValueError"
            assert repr(topic) in answer["error"]["message"] or "topic name" in answer["error"]["message"]
        assert self.names(stack) == before
        assert stack.messages() == 1

    @pytest.mark.parametrize("action", ["list", "clear"])
    def test_topic_admin_takes_no_prefix_outside_that_of_the_stack(
        self, stack: Stack, admin: Callable[..., Any], action: str
    ) -> None:
        before = self.names(stack)
        for prefix in ("par", "parcelq", *ALIKE):
            assert admin(action, prefix=prefix)["error"]["type"] == "InvalidValueError"
        assert self.names(stack) == before

    def test_topic_admin_clears_nothing_without_a_prefix(self, stack: Stack, admin: Callable[..., Any]) -> None:
        before = self.names(stack)
        assert "error" in admin("clear", prefix="")
        assert "error" in stack.call("topic_admin", {"action": "clear"})
        assert self.names(stack) == before

    @pytest.mark.parametrize("action", ["create", "delete"])
    def test_topic_admin_neither_deletes_nor_replaces_topics_of_the_stack(
        self, stack: Stack, admin: Callable[..., Any], action: str
    ) -> None:
        before = self.names(stack)
        own = [*NAMES, "parcelq-step-dead-letter"]
        for name in own + [stack.urls[topic] for topic in own]:
            answer = admin(action, topic=name)
            assert answer["error"]["type"] == "InvalidValueError"
            assert "own" in answer["error"]["message"]
        assert self.names(stack) == before

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"action": "explode"}, "explode"),
            ({"action": "delete"}, "topic"),
            ({"action": "delete", "topic": "parcelq-extra", "force": True}, "force"),
            ({"action": "create", "topic": "parcelq-x", "max_receive_count": 0}, "max_receive_count"),
            ({"action": "publish", "topic": "parcelq-step", "messages": []}, "messages"),
            ({"action": "publish", "topic": "parcelq-step", "messages": [{"body": ""}]}, "body"),
            ({"action": "peek", "topic": "parcelq-step", "most": 1000}, "most"),
            ({"action": "publish", "topic": "parcelq-step", "messages": [{"body": "a", "colour": 1}]}, "colour"),
            (
                {"action": "publish", "topic": "parcelq-step", "messages": [{"body": "a", "attributes": []}]},
                "attributes",
            ),
            ({"action": "redrive", "topic": "parcelq-step", "message_ids": []}, "message_ids"),
            ({"action": ["list"]}, "action"),
            ({}, "action"),
            ("list", "request"),
            ([], "request"),
            (None, "request"),
        ],
    )
    def test_a_bad_request_gets_an_error_that_says_what_is_wrong(self, stack: Stack, given: Any, told: str) -> None:
        answer = stack.call("topic_admin", given)
        assert set(answer) == {"error"}
        assert answer["error"]["type"] == "BadRequest"
        assert told in answer["error"]["message"]
        assert stack.messages() == 0

    def test_everything_that_is_wrong_with_a_request_is_named_at_once(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "peek", "topic": 7, "most": 0, "fast": True})
        for name in ("topic", "most", "fast"):
            assert name in answer["error"]["message"]

    def test_a_name_that_sqs_would_not_take_is_refused(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "create", "topic": "parcelq-" + "x" * 80})
        assert answer["error"]["type"] == "InvalidValueError"

    def test_topic_admin_names_a_topic_that_is_missing(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "count", "topic": "parcelq-none"})
        assert answer["error"]["type"] == "TopicNotFoundError"

    def test_topic_admin_names_wrong_settings_in_its_error(self, stack: Stack, settings: Callable[..., None]) -> None:
        settings(PARCEL_SIZE=0)
        answer = stack.call("topic_admin", event("topic_admin_list"))
        assert answer["error"]["type"] == "SettingsError"
        assert "PARCELQ_PARCEL_SIZE" in answer["error"]["message"]
