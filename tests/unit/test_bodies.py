"""Bodies written into requests by hand mean what botocore's would."""

import json
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.bodies import write_bodies_fast

LEGAL = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]) | st.sampled_from("\t\n\r\\\"\x7f'/<"))


@pytest.fixture(scope="module")
def sent():
    """A client that sends nothing, and the list of bodies that it would have sent."""
    client = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    write_bodies_fast(client)
    bodies = []

    def keep(params, **_):
        bodies.append(params["body"])
        return SimpleNamespace(status_code=200), {}

    for operation in ("SendMessage", "SendMessageBatch"):
        client.meta.events.register_last(f"before-call.sqs.{operation}", keep)
    return client, bodies


def send(sent, entries):
    client, bodies = sent
    client.send_message_batch(QueueUrl="https://sqs/1/topic", Entries=entries)
    return json.loads(bodies.pop())["Entries"]


@given(st.lists(LEGAL, min_size=1, max_size=10))
def test_every_body_comes_out_as_it_went_in(sent, bodies):
    attributes = {"Source": {"DataType": "String", "StringValue": 'a "name" \\ \n'}}
    entries = [
        {"Id": str(number), "MessageBody": body, "MessageAttributes": attributes} for number, body in enumerate(bodies)
    ]
    assert send(sent, entries) == entries


def test_a_body_that_is_no_text_is_still_refused_by_botocore(sent):
    with pytest.raises(ParamValidationError, match=r"Entries\[0\].MessageBody"):
        send(sent, [{"Id": "0", "MessageBody": b"bytes"}])
    with pytest.raises(ParamValidationError, match=r'Missing required parameter in Entries\[0\]: "MessageBody"'):
        send(sent, [{"Id": "0"}])


def test_a_request_leaves_the_parameters_of_its_caller_unchanged(sent):
    entries = [{"Id": "0", "MessageBody": "text"}]
    send(sent, entries)
    assert entries == [{"Id": "0", "MessageBody": "text"}]


def test_requests_with_other_parameters_are_serialized_by_botocore(sent):
    client, bodies = sent
    client.send_message(QueueUrl="https://sqs/1/topic", MessageBody="one\n")
    assert json.loads(bodies.pop())["MessageBody"] == "one\n"
