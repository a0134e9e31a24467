"""Workflows in the deployed functions: resolved by the uploader, loaded and run by the processor, one version a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from function_world import BUCKET, UPPER, Stack, result_of
from parcelq.errors import SettingsError
from parcelq.jobs.version import version_of
from parcelq.jobs.versions import bundle_key
from parcelq.lineage.source import Source
from parcelq.steps.bundles import write_bundle
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import DEAD, LINEAGE, REASON, SOURCE, WORKFLOW
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.notes import noted_sources
from parcelq.upload.objects import ObjectUploader
from parcelq_emulator.pipeline import noted_problems

MARK = '#!/bin/sh\nsed "s/$/!/" < "$2" > "$4"\n'
LINES = b"one\ntwo\nthree\nfour\nfive\n"
pytest_plugins = ["function_world", "workflow_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


@pytest.fixture
def upload(stack: Stack) -> Callable[..., None]:
    def upload_(key: str, data: bytes = LINES, **more: str) -> None:
        stack.call("uploader", stack.put(data, key=f"inbox/{key}", **more))

    return upload_


def outputs(stack: Stack) -> list[Any]:
    return stack.take("parcelq-output")


def test_a_folder_of_the_inbox_names_the_workflow(stack, put, upload):
    version = put("shout", "steps: [{run: step}]\nparcel_size: 2\n", step=UPPER)
    upload("shout/lines.txt")
    messages = stack.take("parcelq-step")
    assert {one.attributes[WORKFLOW] for one in messages} == {version.attribute}
    assert len(messages) == 3
    stack.publish("parcelq-step", *(one.message() for one in messages))
    stack.run("processor", "parcelq-step")
    made = outputs(stack)
    assert result_of(made) == LINES.upper()
    assert {one.attributes[WORKFLOW] for one in made} == {version.attribute}


def test_a_job_keeps_its_version_while_others_get_the_new_one(stack, put, upload):
    old = put("shout", "steps: [{run: step}]", step=UPPER)
    upload("shout/old.txt")
    new = put("shout", "steps: [{run: step}]", step=MARK)
    upload("shout/new.txt")
    stack.run("processor", "parcelq-step")
    made = outputs(stack)
    by_version = {
        name: [one for one in made if one.attributes[WORKFLOW] == name] for name in (old.attribute, new.attribute)
    }
    assert result_of(by_version[old.attribute]) == LINES.upper()
    assert result_of(by_version[new.attribute]) == LINES.replace(b"\n", b"!\n")


def test_an_event_that_comes_twice_gets_the_version_of_the_first_time(stack, put, upload, versions):
    old = put("shout", "steps: [{run: step}]", step=UPPER)
    event = stack.put(LINES, key="inbox/shout/lines.txt")
    stack.call("uploader", event)
    put("shout", "steps: [{run: step}]", step=MARK)
    stack.call("uploader", event)
    assert {one.attributes[WORKFLOW] for one in stack.take("parcelq-step")} == {old.attribute}


def test_steps_in_a_row_run_in_one_invocation_without_a_topic_between(stack, put, upload):
    put("both", "steps: [{run: up}, {run: mark}, {run: up}]", up=UPPER, mark=MARK)
    upload("both/lines.txt")
    delivered = stack.deliver("parcelq-step")
    stack.acknowledge("parcelq-step", delivered, stack.call("processor", delivered))
    assert stack.take("parcelq-step") == []
    made = outputs(stack)
    assert {one.attributes[LINEAGE].count(">") for one in made} == {3}
    assert result_of(made) == LINES.upper().replace(b"\n", b"!\n")


def test_a_message_that_was_received_before_goes_over_the_topic_between_steps(stack, put, upload):
    put("both", "steps: [{run: up}, {run: mark}]", up=UPPER, mark=MARK)
    upload("both/lines.txt")
    delivered = stack.deliver("parcelq-step")
    for record in delivered["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = "2"
    answer = stack.call("processor", delivered)
    assert answer == {"batchItemFailures": []}
    stack.acknowledge("parcelq-step", delivered, answer)
    assert outputs(stack) == []
    stack.run("processor", "parcelq-step")
    made = outputs(stack)
    assert {one.attributes[LINEAGE].count(">") for one in made} == {2}
    assert result_of(made) == LINES.upper().replace(b"\n", b"!\n")


def test_only_the_bad_entry_of_a_later_step_dies(stack, put, upload, settings):
    settings(MAX_FAILURES=1)
    put("both", "steps: [{run: mark}, {run: up}]", up=UPPER, mark=MARK)
    upload("both/lines.txt", b"one\ntwo bad\nthree\n")
    stack.run("processor", "parcelq-step")
    dead = stack.take("parcelq-step-dead-letter")
    assert [one.message().body for one in dead] == [b"two bad!\n"]
    assert "a bad one" in dead[0].attributes[REASON]
    made = outputs(stack)
    assert [one.attributes[DEAD] for one in made if DEAD in one.attributes]
    assert sorted(one.message().body for one in made if DEAD not in one.attributes) == [b"ONE!\n", b"THREE!\n"]


def test_a_stage_runs_its_steps_and_leaves_the_others_to_theirs(stack, put, upload, settings):
    settings(STAGES="step,heavy", STAGE="step")
    stack.make_topic("parcelq-heavy")
    put("both", "steps: [{run: up}, {run: mark, stage: heavy}, {run: up}]", up=UPPER, mark=MARK)
    upload("both/lines.txt")
    stack.run("processor", "parcelq-step")
    assert outputs(stack) == []
    settings(STAGE="heavy")
    stack.functions.processor = stack.load("processor")
    stack.run("processor", "parcelq-heavy")
    assert result_of(outputs(stack)) == LINES.upper().replace(b"\n", b"!\n")


def test_headers_of_steps_in_a_row_do_not_mix(stack, put, upload):
    header = '#!/bin/sh\nsed "1s/$/,{0}/; 2,\\$s/$/,{0}{0}/" < "$2" > "$4"\n'
    names = ("a", "b", "c")
    files = {name: header.replace("{0}", name) for name in names}
    put("columns", f"format: csv\nsteps: [{', '.join(f'{{run: {name}}}' for name in names)}]", **files)
    upload("columns/table.csv", b"id\n1\n2\n3\n4\n5\n")
    stack.run("processor", "parcelq-step")
    made = list(outputs(stack))
    bodies = b"".join(sorted(one.message().body for one in made))
    assert bodies == b"".join(b"%d,aa,bb,cc\n" % number for number in range(1, 6))


def test_the_workflow_decides_the_format_and_the_sizes_of_parcels(stack, put, upload):
    put(
        "few",
        "format: {lines: 2}\nbatch_size: 1\nparcel_size: 3\nsteps: [{run: step}]",
        step="#!/bin/sh\nwc -l < $2 > $4\n",
    )
    upload("few/x.csv", b"a\nb\nc\nd\n")
    stack.run("processor", "parcelq-step")
    assert b"".join(one.message().body for one in outputs(stack)) == b"2\n2\n"


@pytest.mark.parametrize("name", ["nothing", "shout@0123456789abcdef", "Shout"])
def test_a_workflow_that_does_not_exist_is_refused_and_nothing_is_published(stack, upload, name):
    upload(f"{name}/lines.txt")
    assert stack.messages() == 0
    ((source, reason),) = noted_problems(BucketStore(stack.s3, BUCKET)).items()
    assert Source.parse(source).name == f"{name}/lines.txt"
    assert reason.startswith(f"workflow '{name}")


def test_a_wrong_format_of_the_stack_fails_the_invocation_and_ends_no_job(stack, put, upload, settings):
    put("shout", "steps: [{run: step}]", step=UPPER)
    settings(FORMAT="nothing")
    with pytest.raises(SettingsError, match="PARCELQ_FORMAT"):
        upload("shout/lines.txt")
    assert noted_problems(BucketStore(stack.s3, BUCKET)) == {}
    assert list(BucketStore(stack.s3, BUCKET).keys("jobs/")) == []


def test_large_sources_carry_the_workflow_through_ranges(stack, put, settings):
    settings(RANGE_BYTES=1024)
    version = put("shout", "parcel_size: 50\nsteps: [{run: step}]", step=UPPER)
    data = b"".join(b"line %d\n" % number for number in range(500))
    stack.call("uploader", stack.put(data, key="inbox/shout/large.txt"))
    stack.run("uploader", "parcelq-ranges")
    messages = stack.take("parcelq-step")
    assert {one.attributes[WORKFLOW] for one in messages} == {version.attribute}
    stack.publish("parcelq-step", *(one.message() for one in messages))
    stack.run("processor", "parcelq-step")
    assert result_of(outputs(stack)) == data.upper()
    (notes,) = noted_sources(BucketStore(stack.s3, BUCKET)).values()
    assert {one.workflow for one in notes} == {version.attribute}


def test_messages_of_a_deleted_workflow_become_dead_letters_with_the_reason(stack, put, upload, versions):
    put("shout", "steps: [{run: step}]", step=UPPER)
    upload("shout/lines.txt")
    versions.delete("shout")
    stack.run("processor", "parcelq-step")
    dead = stack.take("parcelq-step-dead-letter")
    assert result_of(dead) == LINES
    assert {"this version was deleted; put the workflow again" in one.attributes[REASON] for one in dead} == {True}
    assert all(one.attributes[DEAD] for one in outputs(stack))


def test_a_bundle_that_is_damaged_is_never_run(stack, put, upload, versions):
    version = put("shout", "steps: [{run: step}]", step=UPPER)
    evil = versions.store.read(bundle_key(version.code)).replace(b"step", b"evil")
    versions.store.put(bundle_key(version.code), evil)
    upload("shout/lines.txt")
    stack.run("processor", "parcelq-step")
    dead = stack.take("parcelq-step-dead-letter")
    assert {"not the one in its name" in one.attributes[REASON] for one in dead} == {True}


def test_a_bundle_that_cannot_be_read_now_is_waited_for(stack, put, upload, monkeypatch):
    put("shout", "steps: [{run: step}]", step=UPPER)
    upload("shout/lines.txt")
    read = BucketStore.read

    def fails(self, key, *arguments):
        if key.startswith("workflows/"):
            raise ConnectionError("the network is down")
        return read(self, key, *arguments)

    delivered = stack.deliver("parcelq-step")
    monkeypatch.setattr(BucketStore, "read", fails)
    answer = stack.call("processor", delivered)
    assert len(answer["batchItemFailures"]) == len(delivered["Records"]) == 3
    monkeypatch.undo()
    assert stack.call("processor", delivered) == {"batchItemFailures": []}
    assert result_of(outputs(stack)) == LINES.upper()


def test_packages_for_another_python_are_refused_by_name(stack, put, upload, versions):
    version = put("shout", "steps: [{run: step}]", step=UPPER)
    other = version_of("shout", version.workflow, version.code, [(version.code, "lock")], "2.7")
    versions.put(other)
    versions.make_current(other)
    upload("shout/lines.txt")
    stack.run("processor", "parcelq-step")
    (reason,) = {one.attributes[REASON] for one in stack.take("parcelq-step-dead-letter")}
    assert "its packages are for Python 2.7" in reason


PYTHON = """
import sys
import greeting
from parcelq.step import step

@step(each=True)
def greet(entry):
    return f"{greeting.WORD} {entry}"

if __name__ == "__main__":
    greet.main()
"""


def test_workflows_with_different_packages_run_on_one_warm_instance(stack, put, upload, versions, tmp_path, temporary):
    made = {}
    for word in ("hello", "goodbye", "welcome"):
        package = tmp_path / word
        package.mkdir()
        (package / "greeting.py").write_text(f"WORD = {word!r}\n")
        archive = tmp_path / "packages.zip"
        bundle = write_bundle({"greeting.py": package / "greeting.py"}, archive)
        versions.store.put(bundle_key(bundle), archive.read_bytes())
        version = put(word, "steps: [{run: step.py}]", step__py=PYTHON)
        here = ".".join(map(str, __import__("sys").version_info[:2]))
        made[word] = version_of(word, version.workflow, version.code, [(bundle, word)], here)
        versions.put(made[word])
        versions.make_current(made[word])
    for turn in range(2):
        for word in made:
            upload(f"{word}/{turn}.txt", b"you\n")
            stack.run("processor", "parcelq-step")
            assert [one.message().body for one in outputs(stack)] == [f"{word} you\n".encode()]
    stack.functions.processor.workflows()._loaded.popitem()[1][1].close()


def test_a_bundle_that_another_workflow_changed_is_not_run(stack, put, upload, temporary):
    put("good", "steps: [{run: step}]", step=UPPER)
    put(
        "evil",
        "steps: [{run: evil}]",
        evil=f'#!/bin/sh\nfor f in {temporary}/*/*/step; do echo "exit 9" > "$f"; done; cat "$2" > "$4"\n',
    )
    for name in ("good", "evil", "good"):
        upload(f"{name}/lines.txt", sequencer=os.urandom(8).hex())
        stack.run("processor", "parcelq-step")
        made = outputs(stack)
        assert stack.take("parcelq-step-dead-letter") == []
        assert result_of(made) == (LINES.upper() if name == "good" else LINES)


def test_messages_that_are_published_again_carry_the_workflow_of_their_source(stack, put, upload):
    version = put("shout", "parcel_size: 2\nsteps: [{run: step}]", step=UPPER)
    upload("shout/lines.txt")
    lost = stack.take("parcelq-step")
    store = BucketStore(stack.s3, BUCKET)
    topic = SqsTopic(stack.sqs, stack.urls["parcelq-step"])
    source = Source.parse(lost[0].attributes[SOURCE])
    for start, end in ((0, 8), (8, len(LINES))):
        ObjectUploader(store, store, 2).upload_part(source, start, end, len(LINES), topic)
    stack.run("processor", "parcelq-step")
    made = outputs(stack)
    assert {one.attributes[WORKFLOW] for one in made} == {version.attribute}
    assert result_of(made) == LINES.upper()
