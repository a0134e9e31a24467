"""What a deployed stack tells its functions."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.config import load, parcel_size_for
from parcelq.errors import SettingsError

LEAST = {"PARCELQ_PREFIX": "parcelq", "PARCELQ_BUCKET": "bucket", "PARCELQ_STAGES": "clean,dock"}


def problems(**changed: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load({**LEAST, **changed})
    return caught.value.problems


def test_the_configuration_requires_few_variables():
    config = load(LEAST)
    assert (config.prefix, config.bucket, config.stages, config.stage) == ("parcelq", "bucket", ("clean", "dock"), "")
    assert (config.parcel_size, config.batch_size, config.max_failures) == (1000, 1000, 2)
    assert config.halving
    assert (config.step_path, config.settings_file, config.workflow_id, config.kms_key_arn) == ("", "", "", "")
    assert config.step_folders == (Path("./steps"), Path("/opt/steps"))


def test_every_variable_of_the_configuration_can_be_set():
    config = load(
        {
            **LEAST,
            "PARCELQ_STAGE": "dock",
            "PARCELQ_PARCEL_SIZE": "10",
            "PARCELQ_BATCH_SIZE": "20",
            "PARCELQ_STEP_PATH": "a/b.py",
            "PARCELQ_SETTINGS_FILE": "a/s.yaml",
            "PARCELQ_STEP_FOLDERS": "/x:/y",
            "PARCELQ_WORKFLOW_ID": "wf",
            "PARCELQ_MAX_FAILURES": "5",
            "PARCELQ_BACK_OFF_SECONDS": "7",
            "PARCELQ_RANGE_BYTES": "1000",
            "PARCELQ_HALVING": "false",
            "PARCELQ_KMS_KEY_ARN": "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d",
        }
    )
    assert (config.stage, config.parcel_size, config.batch_size, config.max_failures) == ("dock", 10, 20, 5)
    assert (config.step_path, config.settings_file, config.workflow_id) == ("a/b.py", "a/s.yaml", "wf")
    assert config.step_folders == (Path("/x"), Path("/y"))
    assert (config.back_off_seconds, config.range_bytes, config.halving) == (7, 1000, False)
    assert config.kms_key_arn == "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d"


def test_the_process_environment_is_read_only_when_asked(monkeypatch):
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    assert load() == load(LEAST)


def test_steps_are_looked_for_beside_the_function_by_default():
    assert load({**LEAST, "LAMBDA_TASK_ROOT": "/var/task"}).step_folders == (
        Path("/var/task/steps"),
        Path("/opt/steps"),
    )


def test_an_empty_variable_is_one_that_is_not_set():
    assert load({**LEAST, "PARCELQ_PARCEL_SIZE": "", "PARCELQ_HALVING": "", "PARCELQ_STEP_FOLDERS": ""}) == load(LEAST)


def test_stages_lead_from_the_first_topic_to_the_output_topic():
    first, second = (load({**LEAST, "PARCELQ_STAGE": stage}) for stage in ("clean", "dock"))
    assert (first.input_topic, first.next_topic) == ("parcelq-clean", "parcelq-dock")
    assert (second.input_topic, second.next_topic) == ("parcelq-dock", "parcelq-output")
    assert load(LEAST).input_topic == "parcelq-clean"
    assert load(LEAST).output_topic == "parcelq-output"
    assert load(LEAST).range_topic == "parcelq-ranges"


def test_the_stacks_own_topics_are_all_of_them_with_dead_letter_topics():
    names = {"parcelq-clean", "parcelq-dock", "parcelq-output", "parcelq-ranges", "parcelq-looks"}
    assert load(LEAST).own_topics == names | {f"{name}-dead-letter" for name in names}


def test_one_error_names_everything_that_is_wrong():
    with pytest.raises(SettingsError) as caught:
        load({"PARCELQ_PARCEL_SIZE": "0", "PARCELQ_BATCH_SIZE": "many", "PARCELQ_HALVING": "yes"})
    assert caught.value.problems == (
        "PARCELQ_STAGES is not set",
        "PARCELQ_PREFIX is not set",
        "PARCELQ_BUCKET is not set",
        "PARCELQ_PARCEL_SIZE is '0', but must be a whole number of at least 1",
        "PARCELQ_BATCH_SIZE is 'many', but must be a whole number of at least 1",
        "PARCELQ_HALVING is 'yes', but must be true or false",
    )
    assert all(problem in str(caught.value) for problem in caught.value.problems)


@pytest.mark.parametrize("value", ["-1", "1.5", "٣", " 3", "1e3"])
def test_numbers_in_the_configuration_must_be_whole_and_positive(value):
    assert problems(PARCELQ_RANGE_BYTES=value) == (
        f"PARCELQ_RANGE_BYTES is {value!r}, but must be a whole number of at least 1",
    )


@pytest.mark.parametrize("name", ["PARCELQ_PREFIX", "PARCELQ_BUCKET", "PARCELQ_STAGES"])
def test_a_required_variable_must_not_be_empty(name):
    assert problems(**{name: ""}) == (f"{name} is not set",)


def test_a_stage_must_be_one_of_the_stages():
    assert problems(PARCELQ_STAGE="other") == ("PARCELQ_STAGE is 'other', but must be one of clean, dock",)


@pytest.mark.parametrize("stages", ["a,a", "a,", ",", "output", "a,ranges", "a,a-dead-letter"])
def test_every_stage_has_a_topic_of_its_own(stages):
    (problem,) = problems(PARCELQ_STAGES=stages)
    assert problem.startswith(f"PARCELQ_STAGES is {stages!r}")


@pytest.mark.parametrize(
    "changed", [{"PARCELQ_STAGES": "a, b"}, {"PARCELQ_PREFIX": "p/q"}, {"PARCELQ_PREFIX": "x" * 80}]
)
def test_topics_must_have_names_that_sqs_takes(changed):
    assert all("topic name" in problem for problem in problems(**changed))


@pytest.mark.parametrize(("batch_size", "parcel_size", "uploaded"), [(2, 1, 2), (1, 2, 2), (5, 5, 5)])
def test_the_uploader_cuts_parcels_of_a_whole_batch(batch_size: int, parcel_size: int, uploaded: int) -> None:
    assert parcel_size_for(batch_size, parcel_size) == uploaded
    sizes = {"PARCELQ_BATCH_SIZE": str(batch_size), "PARCELQ_PARCEL_SIZE": str(parcel_size)}
    assert load({**LEAST, **sizes}).uploaded_parcel_size == uploaded
