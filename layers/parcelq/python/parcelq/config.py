"""The environment of the functions, read and validated in one place."""

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
"""Names of the stack's topics that do not belong to stages."""


class Config(NamedTuple):
    """The configuration that a deployed stack gives to its functions.

    Attributes:
        prefix: all topics of the stack are named `<prefix>-…`.
        bucket: the bucket of inbox, results, segments and overflow.
        stages: names of the stages in order; the topic of the first is the stack's input topic.
        stage: the stage of this function; empty if it has none.
        parcel_size: most entries of a published message.
        record_format: the record format of all sources; empty if each source's name decides.
        batch_size: how many entries the step should get at a time.
        step_path: path of the step; empty for the step in the stage's folder.
        settings_file: the step's settings; empty for the file in the stage's folder, if it exists.
        step_folders: the only folders where a step and its settings may be.
        workflow_id: the value of `--workflow-id` for the step.
        max_failures: runs of a message that may fail before it is halved or dead.
        back_off_seconds: delay of a message that failed once; doubled after each further failure.
        range_bytes: objects larger than this are uploaded in ranges, by several invocations.
        halving: whether a message that fails for the last time is split instead of dead-lettered as a whole.
        storage_mib: the disk of a processor; half of it is for bundles of workflows.
        step_role: ARN of the role for steps' credentials; empty for none.
        secrets: ARNs of the secrets of workflows.
        kms_key_arn: the key that topics are encrypted with; empty for SQS's own.
        quiet_seconds: seconds without a message of a job after which missing records are published again.
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
        """The input topic of this function's stage; of the first stage if it has none."""
        return self.topic(self.stage or self.stages[0])

    @property
    def output_topic(self) -> str:
        """Name of the topic that results are collected from."""
        return self.topic(OUTPUT)

    @property
    def next_topic(self) -> str:
        """Name of the topic to which this function's stage publishes: the next stage's, or the output topic after the
        last stage.
        """
        following = self.stages[self.stages.index(self.stage) + 1 :]
        return self.topic(following[0]) if following else self.output_topic

    @property
    def range_topic(self) -> str:
        """Name of the topic with the uploader's tasks: ranges of large objects."""
        return self.topic(RANGES)

    @property
    def looks_topic(self) -> str:
        """Name of the topic of looks, which triggers the downloader."""
        return self.topic(LOOKS)

    @property
    def uploaded_parcel_size(self) -> int:
        """Most entries of a message that is cut from a source."""
        return parcel_size_for(self.batch_size, self.parcel_size)

    @property
    def own_topics(self) -> frozenset[str]:
        """All topics that the stack created, including dead-letter topics; none of them may be deleted individually."""
        topics = {self.topic(name) for name in (*self.stages, *_OWN)}
        return frozenset(topics | {dead_letter(topic) for topic in topics})


def parcel_size_for(batch_size: int, parcel_size: int) -> int:
    """Entries that an uploader puts into a message: a whole batch, so that messages need not be joined for a run."""
    return max(batch_size, parcel_size)


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read a function's configuration.

    Args:
        environ: the environment variables; by default those of the process.

    Raises:
        SettingsError: names every variable that is missing or wrong.
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
    """Return whether every stage gets its own topic, different from the stack's other topics."""
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
