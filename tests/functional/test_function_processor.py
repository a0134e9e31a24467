"""The processor's handler: what it does with messages, and what with wrong settings."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from function_world import BUCKET, Stack, event, result_of
from parcelq.errors import SettingsError, TopicNotFoundError
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.cost import COST, Cost
from parcelq.topics.message import Message
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import FailedMessage, Published

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

ELSEWHERE = [
    ("other-bucket", "overflow/0a1b"),
    (BUCKET, "inbox/secret"),
    (BUCKET, "results/secret"),
    (BUCKET, "overflow"),
    (BUCKET, "overflows/0a1b"),
    (BUCKET, "Overflow/0a1b"),
    (BUCKET, "/overflow/0a1b"),
]
"""Buckets and keys that no pointer may lead to."""
WARM = """
import os
from parcelq.steps.function import step

@step
def run(entries):
    for entry in entries:
        if "bad" in entry:
            raise ValueError(entry)
        yield f"{entry} {os.getpid()}"

if __name__ == "__main__":
    run.main()
"""


class TestProcessor:
    def test_the_processor_runs_the_step_and_publishes_its_output(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        settings(WORKFLOW_ID="wf-1")
        assert stack.call("processor", event("sqs_messages")) == {"batchItemFailures": []}
        told = [one for one in stack.take("parcelq-output") if LINEAGE in one.attributes]
        names = [json.loads(line)["name"] for line in result_of(told).splitlines()]
        assert names == ["ethanol", "benzene", "aspirin", "glycine"]
        assert {one.attributes[WORKFLOW] for one in told} == {"wf-1"}

    def test_the_process_of_a_warm_step_serves_one_invocation_after_another(
        self, stack: Stack, settings: Callable[..., None], tmp_path: Path
    ) -> None:
        (tmp_path / "step").mkdir()
        (tmp_path / "step" / "step.py").write_text(WARM)
        (tmp_path / "step" / "settings.yaml").write_text("warm: true\n")
        settings(STEP_FOLDERS=tmp_path)
        for body in (b"one\n", b"a bad one\n", b"two\n", b"three\n"):
            stack.publish("parcelq-step", Message(body))
            assert stack.call("processor", stack.deliver("parcelq-step")) == {"batchItemFailures": []}
        stack.functions.processor.processor().close()
        said = [one.message().body.decode().split() for one in stack.take("parcelq-output")]
        pids = dict(said)
        assert len(pids) == 3
        assert pids["two"] == pids["three"] != pids["one"]
        assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]

    def test_the_cost_of_an_output_includes_the_requests_to_the_bucket(self, stack: Stack, upper: None) -> None:
        stack.call("uploader", stack.put(b"one\ntwo\n"))
        stack.call("processor", stack.deliver("parcelq-step"))
        (output,) = stack.take("parcelq-output")
        assert Cost.parse(output.attributes[COST]).gets == 1  # the record of the job says that it was not stopped

    def test_messages_without_lineage_are_processed_and_stay_without(self, stack: Stack) -> None:
        stack.call("processor", event("sqs_messages"))
        (message,) = (one for one in stack.take("parcelq-output") if LINEAGE not in one.attributes)
        assert json.loads(message.message().body)["name"] == "ethylamine"
        assert SOURCE not in message.attributes

    @pytest.mark.parametrize("given", [{}, {"Records": []}, {"Records": None}])
    def test_an_event_without_records_is_nothing_to_do(self, stack: Stack, given: dict[str, Any]) -> None:
        assert stack.call("processor", given) == {"batchItemFailures": []}
        assert stack.messages() == 0

    def test_only_the_bad_message_has_failed_and_is_delivered_again_with_a_delay(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        settings(BACK_OFF_SECONDS=1)
        stack.publish("parcelq-step", *(Message(body) for body in (b"one\n", b"a bad one\n", b"two\n")))
        delivered = stack.deliver("parcelq-step")
        assert stack.call("processor", delivered) == {"batchItemFailures": []}
        stack.acknowledge("parcelq-step", delivered, {"batchItemFailures": []})
        done = b"".join(one.message().body for one in stack.take("parcelq-output"))
        assert sorted(done.splitlines()) == [b"ONE", b"TWO"]
        time.sleep(1.2)
        (again,) = stack.take("parcelq-step")
        assert (again.message().body, again.attributes[FAILURES]) == (b"a bad one\n", "1")

    def test_only_a_message_whose_output_is_not_published_is_delivered_again(
        self, stack: Stack, upper: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = SqsTopic.publish

        def lose(topic: SqsTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            given = list(messages)
            lost = [
                FailedMessage(one, "InternalError", "", sender_fault=False) for one in given if one.body == b"TWO\n"
            ]
            kept = publish(topic, [one for one in given if one.body != b"TWO\n"], delay_seconds=delay_seconds)
            return Published(kept.published, kept.failed + lost)

        monkeypatch.setattr(SqsTopic, "publish", lose)
        attributes = [{SOURCE: "s", LINEAGE: f"{start}-{start + 4}/12", ENTRIES: "1"} for start in (0, 4, 8)]
        bodies = (b"one\n", b"two\n", b"six\n")
        stack.publish("parcelq-step", *map(Message, bodies, attributes))
        delivered = stack.deliver("parcelq-step")
        (failed,) = (record["messageId"] for record in delivered["Records"] if record["body"] == "two\n")
        assert stack.call("processor", delivered) == {"batchItemFailures": [{"itemIdentifier": failed}]}

    def test_a_message_that_fails_for_good_becomes_a_dead_letter_with_the_reason(
        self, stack: Stack, upper: None
    ) -> None:
        given = event("sqs_messages")
        given["Records"] = given["Records"][:1]
        record = given["Records"][0]
        record["body"] = "a bad one\n"
        record["messageAttributes"]["Lineage"]["stringValue"] = "0-10/10"
        record["messageAttributes"]["Entries"]["stringValue"] = "1"
        record["messageAttributes"]["Failures"] = {"stringValue": "1", "dataType": "Number"}
        assert stack.call("processor", given) == {"batchItemFailures": []}
        (letter,) = stack.take("parcelq-step-dead-letter")
        assert letter.message().body == b"a bad one\n"
        stones = [one.attributes for one in stack.take("parcelq-output")]
        assert {one[LINEAGE] for one in stones} == {"0-10/10"}
        assert any("a bad one" in one[DEAD] for one in stones)

    @pytest.mark.parametrize(("bucket", "key"), ELSEWHERE)
    def test_a_pointer_to_anything_but_what_overflowed_here_is_dead_with_the_reason(
        self, stack: Stack, upper: None, bucket: str, key: str
    ) -> None:
        stack.publish("parcelq-step", stack.pointer(bucket, key), Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        (letter,) = stack.take("parcelq-step-dead-letter")
        assert f"must be under s3://{BUCKET}/overflow/" in letter.attributes["Reason"]
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"ONE\n"]

    def test_a_pointer_to_what_overflowed_here_is_followed(self, stack: Stack, upper: None) -> None:
        stack.publish("parcelq-step", stack.pointer(BUCKET, "overflow/0a1b"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"SECRET\n"]

    def test_without_time_messages_are_delivered_again_and_no_step_is_run(
        self, stack: Stack, upper: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delayed: list[tuple[list[str], float]] = []

        def back_off(_topic: Any, failed: Iterable[Any], seconds: float) -> None:
            delayed.append(([one.message_id for one in failed], seconds))

        monkeypatch.setattr(stack.functions.processor, "back_off", back_off)
        stack.publish("parcelq-step", Message(b"one\n"))
        delivered = stack.deliver("parcelq-step")
        answer = stack.call("processor", delivered, milliseconds=(300_000, 300_000, 1))
        assert answer == {"batchItemFailures": [{"itemIdentifier": delivered["Records"][0]["messageId"]}]}
        assert stack.take("parcelq-output") == []
        assert delayed == [([delivered["Records"][0]["messageId"]], 5)]

    def test_the_first_of_two_stages_publishes_to_the_second(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        stack.make_topic("parcelq-next")
        settings(STAGES="step,next")
        stack.publish("parcelq-step", Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-next")] == [b"ONE\n"]

    @pytest.mark.parametrize(
        ("setting", "value", "told"),
        [
            ("BATCH_SIZE", "0", "PARCELQ_BATCH_SIZE"),
            ("HALVING", "yes", "PARCELQ_HALVING"),
            ("STAGE", "other", "PARCELQ_STAGE"),
            ("STEP_PATH", "../../../bin/sh", "is outside the folders"),
            ("STEP_PATH", "none.py", "no such file"),
            ("STEP_FOLDERS", "/nowhere", "step"),
        ],
    )
    def test_a_wrong_setting_fails_the_invocation_and_is_named(
        self, stack: Stack, settings: Callable[..., None], setting: str, value: str, told: str
    ) -> None:
        settings(**{setting: value})
        with pytest.raises(SettingsError, match=told):
            stack.call("processor", event("sqs_messages"))

    @pytest.fixture
    def poisoned(self, stack: Stack, upper: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Messages of all sorts that are delivered to a function whose step's settings are wrong."""
        (tmp_path / "step" / "settings.yaml").write_text("filtre: true\n")
        monkeypatch.setattr(stack.functions.processor, "sqs_client", lambda: stack.sqs)
        stack.publish(
            "parcelq-step",
            Message(b"one\n", {LINEAGE: "0-4/9", SOURCE: "s", ENTRIES: "1"}),
            Message(b"\xff\n", {LINEAGE: "4-6/9", SOURCE: "s"}),
            Message(b"", {LINEAGE: "0-0/0", SOURCE: "t", ENTRIES: "0"}),
            *(Message(b"by hand %d" % number) for number in range(12)),
        )
        return {"Records": stack.deliver("parcelq-step")["Records"] + stack.deliver("parcelq-step")["Records"]}

    def test_wrong_settings_are_logged_once_and_in_one_line(
        self, stack: Stack, poisoned: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(SettingsError, match="unknown key 'filtre'") as caught:
            stack.call("processor", poisoned)
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[-2:] == ["call", "handler"]
        assert caught.value.__cause__ is None
        (told,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert (told.levelname, told.getMessage()) == ("ERROR", str(caught.value))
        assert told.exc_info is None

    def test_with_wrong_settings_messages_are_delivered_again_as_late_as_possible(
        self, stack: Stack, poisoned: dict[str, Any], requests: Any
    ) -> None:
        with pytest.raises(SettingsError):
            stack.call("processor", poisoned)
        changed = [entry for one in requests.of("ChangeMessageVisibilityBatch") for entry in one["Entries"]]
        assert {one["VisibilityTimeout"] for one in changed} == {900}
        assert {one["ReceiptHandle"] for one in changed} == {one["receiptHandle"] for one in poisoned["Records"]}
        assert requests.of("SendMessageBatch") == requests.of("DeleteMessageBatch") == []

    def test_settings_are_named_even_if_deadlines_cannot_be_set(
        self, stack: Stack, poisoned: dict[str, Any], requests: Any
    ) -> None:
        requests.refuse("ChangeMessageVisibilityBatch", "AccessDenied", 403)
        with pytest.raises(SettingsError, match="filtre"):
            stack.call("processor", poisoned)

    def test_when_the_settings_are_mended_the_same_function_goes_on(
        self, stack: Stack, poisoned: dict[str, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError):
            stack.call("processor", poisoned)
        (tmp_path / "step" / "settings.yaml").write_text("")
        stack.publish("parcelq-step", Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"ONE\n"]

    def test_a_missing_topic_is_an_error_like_a_wrong_setting(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        settings(STAGES="step,next")
        stack.publish("parcelq-step", Message(b"one\n"))
        with pytest.raises(TopicNotFoundError, match="parcelq-next"):
            stack.call("processor", stack.deliver("parcelq-step"))
        assert stack.take("parcelq-step-dead-letter") == []
