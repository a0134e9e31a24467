"""Errors: one root, texts for users, data for callers, and AWS's words turned into ours in one place."""

from __future__ import annotations

import inspect

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ReadTimeoutError,
)
from parcelq import errors
from parcelq.aws.clients import sqs_client, translated
from parcelq.errors import (
    AwsError,
    InvalidValueError,
    LineageError,
    MessageError,
    ParcelqError,
    PublishError,
    SettingsError,
    StepError,
    TopicBlockedError,
    TopicExistsError,
    TopicNotFoundError,
)


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "SendMessageBatch",
    )


def translate(error: Exception) -> ParcelqError:
    with pytest.raises(ParcelqError) as caught, translated("my-topic"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def test_every_error_class_has_the_one_root():
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    assert len(classes) > 10
    assert all(issubclass(one, ParcelqError) for one in classes)


@pytest.mark.parametrize("wrong", [InvalidValueError, LineageError, MessageError, SettingsError])
def test_errors_of_wrong_values_are_value_errors_too(wrong):
    assert issubclass(wrong, ValueError)


def test_errors_say_what_they_are_about_and_carry_it():
    invalid = InvalidValueError("parcel_size", 0, "at least 1")
    assert str(invalid) == "parcel_size is 0, but must be at least 1"
    assert (invalid.name, invalid.value) == ("parcel_size", 0)
    publish = PublishError("t", ["too large", "other"])
    assert str(publish) == "2 message(s) could not be published to 't'; reason of the first: too large"
    assert publish.reasons == ("too large", "other")
    settings = SettingsError("file x", ["one", "two"])
    assert str(settings) == "file x: one; two"
    assert settings.problems == ("one", "two")
    step = StepError("tr", "exited with 2", exit_code=2, stderr_tail=" no such file\n")
    assert str(step) == "step 'tr' exited with 2: no such file"
    assert (step.exit_code, step.timed_out, step.stderr_tail) == (2, False, " no such file\n")
    assert str(StepError("tr", "exited with 2", stderr_tail=" \n")) == "step 'tr' exited with 2"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", TopicNotFoundError),
        ("QueueDoesNotExist", TopicNotFoundError),
        ("AWS.SimpleQueueService.QueueDeletedRecently", TopicBlockedError),
        ("QueueNameExists", TopicExistsError),
        ("QueueAlreadyExists", TopicExistsError),
    ],
)
def test_an_error_of_sqs_about_a_topic_becomes_an_error_with_its_name(code, kind):
    error = translate(refusal(code))
    assert type(error) is kind
    assert error.topic == "my-topic"
    assert "my-topic" in str(error)


def test_an_error_of_aws_that_nobody_knows_keeps_the_words_of_aws():
    error = translate(refusal("AWS.SimpleQueueService.AccessDenied", 403))
    assert isinstance(error, AwsError)
    assert (error.operation, error.code, error.status) == ("SendMessageBatch", "AccessDenied", 403)
    assert str(error) == "SendMessageBatch failed with AccessDenied: words"


@pytest.mark.parametrize(
    ("code", "status", "server"),
    [
        ("InternalError", 500, True),
        ("ServiceUnavailable", 503, True),
        ("RequestThrottled", 400, True),
        ("ThrottlingException", 400, True),
        ("OverLimit", 403, True),
        ("TooMany", 429, True),
        ("AccessDenied", 403, False),
        ("InvalidMessageContents", 400, False),
    ],
)
def test_only_what_a_retry_may_cure_counts_as_the_servers_fault(code, status, server):
    error = translate(refusal(code, status))
    assert isinstance(error, AwsError)
    assert error.server_fault is server


@pytest.mark.parametrize(
    ("cause", "server"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (ReadTimeoutError(endpoint_url="http://x"), True),
        (NoCredentialsError(), False),
        (NoRegionError(), False),
        (ParamValidationError(report="bad"), False),
    ],
)
def test_no_answer_may_be_cured_but_a_request_that_cannot_be_made_may_not(cause, server):
    error = translate(cause)
    assert isinstance(error, AwsError)
    assert (error.status, error.server_fault) == (None, server)


def test_missing_configuration_says_where_to_put_it(monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(AwsError, match="aws configure"):
        sqs_client()


def test_errors_that_do_not_come_from_aws_are_raised_unchanged():
    with pytest.raises(KeyError), translated("t"):
        raise KeyError("x")
