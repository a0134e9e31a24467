"""Every event in `events/` is taken by the function that it is for."""

from __future__ import annotations

import pytest
from function_world import BUCKET, EVENTS, MOLECULES, Stack, event
from parcelq.names import DEAD_LETTER_SUFFIX

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

FUNCTIONS = {"s3": "uploader", "sqs_ranges": "uploader", "sqs_messages": "processor", "topic_admin": "topic_admin"}


def function_of(name: str) -> str:
    """The function that an event's file is for."""
    return next((function for start, function in FUNCTIONS.items() if name.startswith(start)), "downloader")


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_every_event_is_taken_by_its_function(stack: Stack, name: str) -> None:
    stack.make_topic("parcelq-extra")
    stack.s3.put_object(Bucket=BUCKET, Key="inbox/molecules.smi", Body=MOLECULES)
    given = event(name)
    if name == "topic_admin_create":
        stack.sqs.delete_queue(QueueUrl=stack.urls["parcelq-extra"])
        stack.sqs.delete_queue(QueueUrl=stack.urls["parcelq-extra" + DEAD_LETTER_SUFFIX])
        given["topic"] = "parcelq-fresh"
    if name == "schedule":
        given["receive_message_timeout"] = 0
    answer = stack.call(function_of(name), given)
    assert "error" not in (answer or {})
    assert not (answer or {}).get("batchItemFailures")
