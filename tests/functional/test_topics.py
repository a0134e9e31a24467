"""Topics on moto; what it does not do (refusing names for 60 s, losing races) is answered in its place."""

from __future__ import annotations

import json

import pytest
from parcelq.errors import (
    AwsError,
    InvalidValueError,
    TopicBlockedError,
    TopicError,
    TopicExistsError,
    TopicNotFoundError,
)
from parcelq.topics.admin import Topics, guarded
from parcelq.topics.message import Message


@pytest.fixture
def topics(sqs, clock):
    return Topics(sqs, clock.sleep)


def blocked(requests, times: int) -> None:
    requests.refuse("CreateQueue", "AWS.SimpleQueueService.QueueDeletedRecently", times=times)


class TestListing:
    def test_topics_with_a_prefix_are_listed_by_url_and_by_name(self, topics):
        urls = {name: topics.create_queue(name) for name in ("b-2", "a-1", "b-1")}
        assert topics.names() == ["a-1", "b-1", "b-2"]
        assert topics.names("b-") == ["b-1", "b-2"]
        assert sorted(topics.urls("b-")) == sorted([urls["b-1"], urls["b-2"]])
        assert topics.names("c") == topics.urls("c") == []

    def test_more_topics_than_fit_on_a_page_can_be_listed_and_cleared(self, topics, requests, sqs):
        names = sorted(f"many-{number}" for number in range(1005))
        for name in names:
            sqs.create_queue(QueueName=name)
        topics.create_queue("other")
        assert topics.names("many-") == names
        assert [asked["MaxResults"] for asked in requests.of("ListQueues")] == [1000, 1000]
        assert topics.clear("many-") == names
        assert topics.names() == ["other"]


class TestLookingAt:
    def test_a_topic_is_found_by_its_name_and_by_its_url(self, topics, requests):
        url = topics.create_queue("t")
        assert topics.url("t") == url
        assert topics.url(url) == url
        assert requests.names() == ["CreateQueue", "GetQueueUrl"]

    def test_the_attributes_of_a_topic_are_all_that_sqs_has(self, topics):
        url = topics.create_queue("t", {"VisibilityTimeout": "77"})
        for topic in ("t", url):
            attributes = topics.attributes(topic)
            assert attributes["VisibilityTimeout"] == "77"
            assert attributes["QueueArn"].endswith(":t")

    def test_the_count_of_a_topic_is_of_messages_that_can_be_pulled(self, topics, sqs):
        url = topics.create_queue("t")
        assert topics.count("t") == 0
        for _ in range(3):
            sqs.send_message(QueueUrl=url, MessageBody="x")
        assert topics.count("t") == topics.count(url) == 3
        sqs.receive_message(QueueUrl=url)
        assert topics.count("t") == 2

    def test_a_topic_that_is_not_there_is_an_error_with_its_name(self, topics):
        url = topics.create_queue("t")
        topics.delete("t")
        for topic in ("t", url):
            for look in (topics.attributes, topics.count, topics.delete, topics.purge):
                with pytest.raises(TopicNotFoundError) as caught:
                    look(topic)
                assert caught.value.topic == "t"
        with pytest.raises(TopicNotFoundError):
            topics.url("t")

    def test_a_refusal_of_aws_is_an_error_with_its_words(self, topics, requests):
        requests.refuse("ListQueues", "AccessDenied", 403)
        with pytest.raises(AwsError, match="ListQueues failed with AccessDenied"):
            topics.names()


class TestCreating:
    def test_a_raw_queue_takes_any_attributes_that_sqs_takes(self, topics):
        topics.create_queue("t", {"DelaySeconds": "5"})
        assert topics.attributes("t")["DelaySeconds"] == "5"
        assert topics.names() == ["t"]

    def test_a_raw_queue_that_is_there_with_other_attributes_is_an_error(self, topics):
        topics.create_queue("t", {"DelaySeconds": "5"})
        with pytest.raises(TopicExistsError):
            topics.create_queue("t", {"DelaySeconds": "6"})

    def test_a_topic_comes_with_a_dead_letter_topic(self, topics):
        url = topics.create("t")
        assert topics.url("t") == url
        assert topics.names() == ["t", "t-dead-letter"]
        redrive = json.loads(topics.attributes("t")["RedrivePolicy"])
        assert redrive == {"deadLetterTargetArn": topics.attributes("t-dead-letter")["QueueArn"], "maxReceiveCount": 2}
        for name in ("t", "t-dead-letter"):
            assert topics.attributes(name)["MessageRetentionPeriod"] == str(14 * 24 * 60 * 60)

    def test_a_message_received_more_than_max_receive_count_times_is_a_dead_letter(self, topics, sqs):
        url = topics.create("t", 3, {"VisibilityTimeout": "0"})
        sqs.send_message(QueueUrl=url, MessageBody="x")
        received = [len(sqs.receive_message(QueueUrl=url).get("Messages", [])) for _ in range(4)]
        assert received == [1, 1, 1, 0]
        assert topics.count("t-dead-letter") == 1

    def test_attributes_can_be_chosen_except_the_redrive_policy(self, topics):
        topics.create("t", attributes={"VisibilityTimeout": "9", "MessageRetentionPeriod": "60", "RedrivePolicy": "{}"})
        attributes = topics.attributes("t")
        assert (attributes["VisibilityTimeout"], attributes["MessageRetentionPeriod"]) == ("9", "60")
        assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 2

    @pytest.mark.parametrize("key", ["", "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d"])
    def test_both_topics_can_be_encrypted_and_refuse_plain_http(self, topics, key):
        topics.create("t", both=guarded(key))
        for name in ("t", "t-dead-letter"):
            attributes = topics.attributes(name)
            assert attributes.get("KmsMasterKeyId", "") == key
            assert key or attributes["SqsManagedSseEnabled"] == "true"
            (statement,) = json.loads(attributes["Policy"])["Statement"]
            assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
            assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}
        assert json.loads(topics.attributes("t")["RedrivePolicy"])["maxReceiveCount"] == 2

    @pytest.mark.parametrize("there", ["t", "t-dead-letter"])
    def test_creating_a_topic_replaces_it_and_its_dead_letter_topic_if_either_exists(self, topics, sqs, there):
        url = topics.create_queue(there, {"DelaySeconds": "7"})
        sqs.send_message(QueueUrl=url, MessageBody="old")
        topics.create("t")
        assert [topics.attributes(name)["DelaySeconds"] for name in ("t", "t-dead-letter")] == ["0", "0"]
        assert [topics.count(name) for name in ("t", "t-dead-letter")] == [0, 0]

    def test_creating_a_topic_replaces_it_and_its_dead_letter_topic_if_both_exist(self, topics, requests):
        topics.create("t")
        requests.asked.clear()
        topics.create("t")
        assert requests.names().count("DeleteQueue") == 2
        assert topics.names() == ["t", "t-dead-letter"]

    def test_creating_a_topic_waits_while_sqs_refuses_its_name_after_a_delete_and_says_so(
        self, topics, requests, clock
    ):
        blocked(requests, 13)
        waits = []
        topics.create("t", on_wait=lambda name, seconds: waits.append((name, seconds)))
        assert waits == [("t-dead-letter", 60)]
        assert sum(clock.slept) >= 60
        assert max(clock.slept) <= 5
        assert topics.names() == ["t", "t-dead-letter"]

    def test_creating_a_topic_may_have_to_wait_for_both_names(self, topics, requests):
        blocked(requests, 2)
        requests.let_pass("CreateQueue")
        blocked(requests, 3)
        waits = []
        topics.create("t", on_wait=lambda name, _seconds: waits.append(name))
        assert waits == ["t-dead-letter", "t"]

    def test_a_name_that_sqs_refuses_far_beyond_a_minute_is_an_error(self, topics, requests, clock):
        blocked(requests, 1000)
        with pytest.raises(TopicBlockedError, match="60 seconds"):
            topics.create("t")
        assert 60 < sum(clock.slept) <= 120

    @pytest.mark.parametrize("name", ["", "a b", "x" * 69, "t-dead-letter"])
    def test_impossible_names_are_refused_before_anything_is_deleted(self, topics, requests, name):
        with pytest.raises(InvalidValueError):
            topics.create(name)
        assert requests.asked == []

    def test_an_impossible_receive_count_is_refused_before_anything_is_deleted(self, topics, requests):
        with pytest.raises(InvalidValueError, match="max_receive_count"):
            topics.create("t", 0)
        assert requests.asked == []


def policy(topics: Topics, dead_letter_url: str) -> dict[str, str]:
    arn = topics.attributes(dead_letter_url)["QueueArn"]
    return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})}


class TestDeleting:
    @pytest.mark.parametrize("by_url", [False, True])
    def test_deleting_a_topic_deletes_its_dead_letter_topic(self, topics, by_url):
        url = topics.create("t")
        topics.create("t2")
        topics.delete(url if by_url else "t")
        assert topics.names() == ["t2", "t2-dead-letter"]

    def test_a_topic_without_a_dead_letter_topic_can_be_deleted(self, topics):
        topics.create_queue("t")
        topics.delete("t")
        assert topics.names() == []

    def test_the_dead_letter_topic_is_the_one_that_the_redrive_policy_names(self, topics):
        topics.create_queue("t-dead-letter")
        graveyard = topics.create_queue("graveyard")
        topics.create_queue("t", policy(topics, graveyard))
        assert topics.dead_letter_url("t") == topics.dead_letters_of("t") == graveyard
        assert topics.delete("t") == ["t", "graveyard"]
        assert topics.names() == ["t-dead-letter"]

    def test_a_dead_letter_topic_that_others_use_stays(self, topics):
        graveyard = topics.create_queue("graveyard")
        for name in ("t", "t2"):
            topics.create_queue(name, policy(topics, graveyard))
        assert topics.delete("t") == ["t"]
        assert topics.names() == ["graveyard", "t2"]
        assert topics.delete("t2") == ["t2", "graveyard"]

    def test_a_dead_letter_topic_of_another_account_is_named_and_never_deleted(self, topics, requests):
        url = topics.create_queue("t")
        theirs = "arn:aws:sqs:eu-central-1:210987654321:graveyard"
        attributes = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": theirs, "maxReceiveCount": 2})}
        requests.reply("GetQueueAttributes", {"Attributes": attributes})
        expected = url.replace("123456789012/t", "210987654321/graveyard")
        assert topics.dead_letter_url(url) == expected
        requests.reply("GetQueueAttributes", {"Attributes": attributes})
        requests.refuse("GetQueueAttributes", "AccessDenied", 403)
        assert topics.dead_letters_of(url) == expected
        requests.reply("GetQueueAttributes", {"Attributes": attributes})
        assert topics.delete("t") == ["t"]

    def test_a_dead_letter_topic_has_none_of_its_own(self, topics):
        topics.create("t")
        assert topics.dead_letter_url("t-dead-letter") is None
        assert topics.dead_letters_of("t-dead-letter") == topics.url("t-dead-letter")
        assert topics.delete("t-dead-letter") == ["t-dead-letter"]

    def test_a_redrive_knows_both_topics_from_either(self, topics):
        graveyard = topics.create_queue("graveyard")
        url = topics.create_queue("t", policy(topics, graveyard))
        assert topics.redrive_urls("t") == (graveyard, url)
        topics.create_queue("named-dead-letter")
        named = topics.create_queue("named")
        expected = (topics.url("named-dead-letter"), named)
        assert topics.redrive_urls(named) == topics.redrive_urls("named-dead-letter") == expected
        topics.create("t2")
        assert topics.redrive_urls("t2-dead-letter") == topics.redrive_urls(topics.url("t2"))

    def test_dead_letters_that_came_from_nobody_knows_where_stay(self, topics):
        topics.create_queue("lonely-dead-letter")
        with pytest.raises(TopicError, match="those that use it: none"):
            topics.redrive_urls("lonely-dead-letter")

    def test_a_topic_without_a_dead_letter_topic_has_nowhere_to_look(self, topics):
        topics.create_queue("t")
        assert topics.dead_letter_url("t") is None
        with pytest.raises(TopicError, match="'t': it has no dead-letter topic"):
            topics.dead_letters_of("t")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"deadLetterTargetArn": "graveyard"}', "[" * 100_000])
    def test_a_redrive_policy_that_names_no_queue_is_an_error(self, topics, requests, text):
        topics.create_queue("t")
        requests.reply("GetQueueAttributes", {"Attributes": {"RedrivePolicy": text}})
        with pytest.raises(TopicError, match="RedrivePolicy names no queue"):
            topics.dead_letter_url("t")

    def test_clearing_deletes_topics_by_prefix_with_their_dead_letter_topics(self, topics):
        for name in ("p-a", "p-b", "q"):
            topics.create(name)
        assert topics.clear("p-") == ["p-a", "p-a-dead-letter", "p-b", "p-b-dead-letter"]
        assert topics.names() == ["q", "q-dead-letter"]

    def test_clearing_with_an_empty_prefix_deletes_all_and_must_be_asked_for(self, topics, requests):
        topics.create("t")
        requests.asked.clear()
        with pytest.raises(InvalidValueError, match="prefix"):
            topics.clear("")
        assert requests.asked == []
        assert topics.clear("", everything=True) == ["t", "t-dead-letter"]
        assert topics.names() == []

    def test_clearing_goes_on_when_somebody_else_deleted_a_topic_meanwhile(self, topics, requests):
        for name in ("p-a", "p-b", "p-c"):
            topics.create_queue(name)
        requests.refuse("DeleteQueue", "AWS.SimpleQueueService.NonExistentQueue")
        assert topics.clear("p-") == ["p-a", "p-b", "p-c"]
        assert len(requests.of("DeleteQueue")) == 3

    def test_purging_a_topic_deletes_its_messages_and_not_the_topic(self, topics, publish_raw):
        url = topics.create_queue("t")
        publish_raw(url, Message(b"a\n"), Message(b"b\n"))
        topics.purge("t")
        assert topics.count("t") == 0
        assert topics.names() == ["t"]
