"""Reads and validates the environment variables of the Lambda functions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.checks import Check, Wrong, checked, text
from parcelq.errors import InvalidValueError, SettingsError
from parcelq.names import DEAD_LETTER_SUFFIX, OUTPUT, check_topic, dead_letter

RANGES: Final = "ranges"
LOOKS: Final = "looks"
_OWN: Final = (OUTPUT, RANGES, LOOKS)
"""The names of the stack's topics that do not belong to a stage."""


class Config(NamedTuple):
    """The configuration that a deployed stack gives to its functions.

    Attributes:
        prefix: the beginning of the names of all topics of the stack, which are `<prefix>-…`.
        bucket: the bucket with the inbox, results, segments and large message bodies.
        stages: the names of the stages in order; the first stage's topic is the stack's input topic.
        stage: the name of this function's stage; empty if the function has no stage.
        parcel_size: the most entries of a published message.
        record_format: the record format of all sources; empty if each source's name decides.
        batch_size: how many entries each run of the step should get.
        step_path: the path of the step; empty if the step is in the stage's folder.
        settings_file: the path of the step's settings file; empty for the file in the stage's folder, if there is such
            a file.
        step_folders: the folders that may contain a step and its settings.
        workflow_id: the value that the step gets as `--workflow-id`.
        max_failures: how many runs over a message may fail before the message is halved or dead.
        back_off_seconds: how many seconds a message is delayed after its first failure; each further failure doubles
            the delay.
        range_bytes: the size in bytes above which an object is uploaded in ranges, by several invocations.
        halving: whether a message that fails for the last time is split instead of dead-lettered as a whole.
        storage_mib: the size of a processor's disk in MiB; half of the disk may be filled with bundles of workflows.
        step_role: the ARN of the role whose credentials steps get; empty if steps get no credentials.
        secrets: the ARNs of the secrets that workflows may use.
        kms_key_arn: the ARN of the key that encrypts the topics; empty for SQS's own key.
        quiet_seconds: after how many seconds without a message of a job its missing records are published again.
    """

    prefix: str
    bucket: str
    stages: tuple[str, ...]
    stage: str
    parcel_size: int
    record_format: str
    batch_size: int
    step_path: str
    settings_file: str
    step_folders: tuple[Path, ...]
    workflow_id: str
    max_failures: int
    back_off_seconds: int
    range_bytes: int
    halving: bool
    storage_mib: int
    step_role: str
    secrets: tuple[str, ...]
    kms_key_arn: str
    quiet_seconds: int

    def topic(self, stage: str) -> str:
        """Return the name of a stage's input topic."""
        return f"{self.prefix}-{stage}"

    @property
    def input_topic(self) -> str:
        """The name of the input topic of this function's stage, or of the first stage if the function has no stage."""
        return self.topic(self.stage or self.stages[0])

    @property
    def output_topic(self) -> str:
        """The name of the topic with the output messages from which results are put together."""
        return self.topic(OUTPUT)

    @property
    def next_topic(self) -> str:
        """The name of the topic to which this function's stage publishes: the topic of the next stage, or the output
        topic if there is no next stage.
        """
        following = self.stages[self.stages.index(self.stage) + 1 :]
        return self.topic(following[0]) if following else self.output_topic

    @property
    def range_topic(self) -> str:
        """The name of the topic with the uploader's tasks, which are ranges of large objects."""
        return self.topic(RANGES)

    @property
    def looks_topic(self) -> str:
        """The name of the topic of looks (scheduled checks of jobs), which triggers the downloader."""
        return self.topic(LOOKS)

    @property
    def uploaded_parcel_size(self) -> int:
        """The most entries of a message that is cut from a source."""
        return parcel_size_for(self.batch_size, self.parcel_size)

    @property
    def own_topics(self) -> frozenset[str]:
        """The names of all topics that the stack created, including dead-letter topics. No such topic may be deleted
        alone.
        """
        topics = {self.topic(name) for name in (*self.stages, *_OWN)}
        return frozenset(topics | {dead_letter(topic) for topic in topics})


def parcel_size_for(batch_size: int, parcel_size: int) -> int:
    """Return how many entries the uploader puts into a message: at least a batch, so that one message fills a run."""
    return max(batch_size, parcel_size)


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration of a Lambda function.

    Args:
        environ: the environment variables; by default the variables of this process.

    Raises:
        SettingsError: if a variable is missing or wrong; the error message names every such variable.
    """
    variables = os.environ if environ is None else environ
    given = {name: variables[name] for name in _VARIABLES if variables.get(name)}
    values, problems = checked(given, _VARIABLES, required=("PARCELQ_STAGES", "PARCELQ_PREFIX", "PARCELQ_BUCKET"))
    read = values.get
    task_root = read("LAMBDA_TASK_ROOT", ".")
    folders = read("PARCELQ_STEP_FOLDERS", f"{task_root}/steps:/opt/steps")
    stages = tuple(read("PARCELQ_STAGES", "").split(","))
    config = Config(
        prefix=read("PARCELQ_PREFIX", ""),
        bucket=read("PARCELQ_BUCKET", ""),
        stages=stages,
        stage=read("PARCELQ_STAGE", ""),
        parcel_size=read("PARCELQ_PARCEL_SIZE", 1000),
        record_format=read("PARCELQ_FORMAT", ""),
        batch_size=read("PARCELQ_BATCH_SIZE", 1000),
        step_path=read("PARCELQ_STEP_PATH", ""),
        settings_file=read("PARCELQ_SETTINGS_FILE", ""),
        step_folders=tuple(Path(folder) for folder in folders.split(":") if folder),
        workflow_id=read("PARCELQ_WORKFLOW_ID", ""),
        max_failures=read("PARCELQ_MAX_FAILURES", 2),
        back_off_seconds=read("PARCELQ_BACK_OFF_SECONDS", 5),
        range_bytes=read("PARCELQ_RANGE_BYTES", 256 * 1024 * 1024),
        halving=read("PARCELQ_HALVING", True),
        storage_mib=read("PARCELQ_STORAGE_MIB", 512),
        step_role=read("PARCELQ_STEP_ROLE", ""),
        secrets=tuple(filter(None, read("PARCELQ_SECRETS", "").split(","))),
        kms_key_arn=read("PARCELQ_KMS_KEY_ARN", ""),
        quiet_seconds=read("PARCELQ_QUIET_SECONDS", 90),
    )
    if stages != ("",) and not _are_stages(stages):
        wanted = f"different names, none of them {', '.join(_OWN)}, and none that ends in {DEAD_LETTER_SUFFIX}"
        problems.append(f"PARCELQ_STAGES is {','.join(stages)!r}, but must be {wanted}")
    if config.stage and config.stage not in stages:
        problems.append(f"PARCELQ_STAGE is {config.stage!r}, but must be one of {', '.join(stages)}")
    if not problems:
        for name in sorted(config.own_topics):
            try:
                check_topic(name)
            except InvalidValueError as error:
                problems.append(str(error))
    if problems:
        raise SettingsError("the function's environment", problems)
    return config


def _are_stages(names: tuple[str, ...]) -> bool:
    """Return whether the names of the stages are different, and differ from the names of the stack's other topics."""
    taken = {"", *_OWN}
    return len(set(names)) == len(names) and not any(
        name in taken or name.endswith(DEAD_LETTER_SUFFIX) for name in names
    )


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise Wrong("a whole number of at least 1")
    return int(value)


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise Wrong("true or false")
    return value == "true"


_VARIABLES: Final[dict[str, Check]] = {
    "LAMBDA_TASK_ROOT": text,
    "PARCELQ_STEP_FOLDERS": text,
    "PARCELQ_STAGES": text,
    "PARCELQ_PREFIX": text,
    "PARCELQ_BUCKET": text,
    "PARCELQ_STAGE": text,
    "PARCELQ_PARCEL_SIZE": _number,
    "PARCELQ_FORMAT": text,
    "PARCELQ_BATCH_SIZE": _number,
    "PARCELQ_STEP_PATH": text,
    "PARCELQ_SETTINGS_FILE": text,
    "PARCELQ_WORKFLOW_ID": text,
    "PARCELQ_MAX_FAILURES": _number,
    "PARCELQ_BACK_OFF_SECONDS": _number,
    "PARCELQ_RANGE_BYTES": _number,
    "PARCELQ_HALVING": _flag,
    "PARCELQ_STORAGE_MIB": _number,
    "PARCELQ_STEP_ROLE": text,
    "PARCELQ_SECRETS": text,
    "PARCELQ_KMS_KEY_ARN": text,
    "PARCELQ_QUIET_SECONDS": _number,
}
