"""The embedded stack is made from the template, and known from what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from parcelq.errors import AwsError
from parcelq_emulator.stack import Clients, EventSource, Notification, deploy

if TYPE_CHECKING:
    from conftest import Deployed

TOPICS = "https://sqs.us-east-1.amazonaws.com/123456789012/"
ARN = "arn:aws:sqs:us-east-1:123456789012:"


def source(topic: str, function: str, batch_size: int, window: int, concurrency: int = 7) -> EventSource:
    return EventSource(TOPICS + topic, ARN + topic, batch_size, window, True, function, concurrency)


def test_functions_are_known_by_name_folder_and_limits(two_stages: Deployed) -> None:
    found = {
        one.name: (one.folder, one.handler, one.timeout, one.memory, one.reserved_concurrency)
        for one in two_stages.stack.functions
    }
    assert found == {
        "parcelq-processor-clean": ("functions/processor", "app.handler", 60, 1769, None),
        "parcelq-processor-score": ("functions/processor", "app.handler", 60, 1769, None),
        "parcelq-uploader": ("functions/uploader", "app.handler", 900, 1769, None),
        "parcelq-downloader": ("functions/downloader", "app.handler", 300, 1769, None),
        "parcelq-topic-admin": ("functions/topic_admin", "app.handler", 300, 512, None),
    }
    assert two_stages.stack.library == "layers/parcelq/python"


def test_environments_are_text_with_every_reference_resolved(two_stages: Deployed) -> None:
    (clean,) = (one for one in two_stages.stack.functions if one.name == "parcelq-processor-clean")
    assert clean.environment == {
        "PARCELQ_PREFIX": "parcelq",
        "PARCELQ_BUCKET": "parcelq-123456789012-us-east-1",
        "PARCELQ_STAGES": "clean,score",
        "PARCELQ_STAGE": "clean",
        "PARCELQ_PARCEL_SIZE": "1000",
        "PARCELQ_BATCH_SIZE": "1000",
        "PARCELQ_STEP_PATH": "",
        "PARCELQ_SETTINGS_FILE": "",
        "PARCELQ_WORKFLOW_ID": "",
        "PARCELQ_MAX_FAILURES": "3",
        "PARCELQ_BACK_OFF_SECONDS": "5",
        "PARCELQ_HALVING": "true",
        "PARCELQ_STORAGE_MIB": "2048",
        "PARCELQ_STEP_ROLE": "",
        "PARCELQ_SECRETS": "",
        "POWERTOOLS_SERVICE_NAME": "parcelq-processor-clean",
        "POWERTOOLS_METRICS_NAMESPACE": "Parcelq",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_the_stack_knows_its_event_source_mappings(two_stages: Deployed) -> None:
    assert two_stages.stack.mappings == (
        source("parcelq-clean", "parcelq-processor-clean", 50, 2),
        source("parcelq-score", "parcelq-processor-score", 50, 2),
        source("parcelq-ranges", "parcelq-uploader", 1, 0, 4),
        source("parcelq-looks", "parcelq-downloader", 10, 0, 3),
    )


def test_the_stack_knows_its_bucket_and_the_function_that_its_events_go_to(two_stages: Deployed) -> None:
    assert two_stages.stack.bucket == "parcelq-123456789012-us-east-1"
    assert two_stages.stack.notifications == (Notification("parcelq-uploader", "s3:ObjectCreated:*", "inbox/"),)


def test_the_stack_knows_the_deadline_of_every_topic(two_stages: Deployed) -> None:
    deadlines = two_stages.stack.deadlines
    assert deadlines.keys() == two_stages.topics.keys()
    own = {topic: seconds for topic, seconds in deadlines.items() if not topic.endswith("-dead-letter")}
    assert own == {
        "parcelq-clean": 660,
        "parcelq-score": 660,
        "parcelq-output": 60,
        "parcelq-ranges": 5700,
        "parcelq-looks": 1800,
    }


def test_a_stack_of_one_stage_has_one_processor(one_stage: Deployed) -> None:
    names = [one.name for one in one_stage.stack.functions]
    assert [name for name in names if "processor" in name] == ["parcelq-processor-step"]
    mapped = [one.function for one in one_stage.stack.mappings]
    assert mapped == ["parcelq-processor-step", "parcelq-uploader", "parcelq-downloader"]


@pytest.mark.filterwarnings("ignore:Tried to parse")
def test_a_stack_that_is_there_already_is_refused(clients: Clients, one_stage: Deployed) -> None:
    deploy(one_stage.template, {}, clients, "twice")
    with pytest.raises(AwsError, match="twice"):
        deploy(one_stage.template, {}, clients, "twice")
