"""The environment of the functions, read and validated in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parcelq.errors import InvalidValueError, SettingsError
from parcelq.names import DEAD_LETTER_SUFFIX, check_topic, dead_letter

OUTPUT: Final = "output"
RANGES: Final = "ranges"


@dataclass(frozen=True, slots=True)
class Config:
    """What a deployed stack tells its functions.

    Attributes:
        prefix: every topic of the stack is called `<prefix>-…`.
        bucket: the bucket of inbox, results, segments and overflow.
        stages: names of the steps in a row; the first one's topic is the stack's input topic.
        stage: the one that this function is for; empty where it is for none.
        parcel_size: most entries of a published message.
        batch_size: how many entries the step should get at a time.
        step_path: the step; empty for the one in the stage's folder.
        settings_file: the step's settings; empty for the one in the stage's folder, if it is there.
        step_folders: where a step and its settings may be, nowhere else.
        workflow_id: what the step is told as `--workflow-id`.
        max_receive_count: how often a message is run before it goes to the dead-letter topic; SQS gives it out oftener,
            so that a function may die of it.
        back_off_seconds: how soon a message that failed comes again, about; longer at every further time.
        range_bytes: objects larger than this are uploaded by several functions.
        halving: whether a message that fails for the last time is split rather than dead-lettered whole.
        kms_key_arn: the key that topics are encrypted with; empty for SQS's own.
    """

    prefix: str
    bucket: str
    stages: tuple[str, ...]
    stage: str
    parcel_size: int
    batch_size: int
    step_path: str
    settings_file: str
    step_folders: tuple[Path, ...]
    workflow_id: str
    max_receive_count: int
    back_off_seconds: int
    range_bytes: int
    halving: bool
    kms_key_arn: str

    def topic(self, stage: str) -> str:
        """Name of the topic that a stage takes its messages from."""
        return f"{self.prefix}-{stage}"

    @property
    def input_topic(self) -> str:
        """The topic of this function's stage, or else of the first."""
        return self.topic(self.stage or self.stages[0])

    @property
    def output_topic(self) -> str:
        """Where results are collected from."""
        return self.topic(OUTPUT)

    @property
    def next_topic(self) -> str:
        """Where this function's stage publishes: the next stage's topic, or the output topic after the last one."""
        following = self.stages[self.stages.index(self.stage) + 1 :]
        return self.topic(following[0]) if following else self.output_topic

    @property
    def range_topic(self) -> str:
        """Where the uploader tells itself which ranges of large objects are to be uploaded."""
        return self.topic(RANGES)

    @property
    def own_topics(self) -> frozenset[str]:
        """Every topic that the stack itself made, dead-letter topics included; none of them may be deleted alone."""
        topics = {self.topic(name) for name in (*self.stages, OUTPUT, RANGES)}
        return frozenset(topics | {dead_letter(topic) for topic in topics})


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read a function's configuration.

    Args:
        environ: where to read from; the process's environment if not given.

    Raises:
        SettingsError: names every variable that is missing or wrong.
    """
    reader = _Reader(os.environ if environ is None else environ)
    task_root = reader.text("LAMBDA_TASK_ROOT", ".")
    folders = reader.text("PARCELQ_STEP_FOLDERS", f"{task_root}/steps:/opt/steps")
    stages = tuple(reader.text("PARCELQ_STAGES").split(","))
    config = Config(
        prefix=reader.text("PARCELQ_PREFIX"),
        bucket=reader.text("PARCELQ_BUCKET"),
        stages=stages,
        stage=reader.text("PARCELQ_STAGE", ""),
        parcel_size=reader.number("PARCELQ_PARCEL_SIZE", 1000),
        batch_size=reader.number("PARCELQ_BATCH_SIZE", 1000),
        step_path=reader.text("PARCELQ_STEP_PATH", ""),
        settings_file=reader.text("PARCELQ_SETTINGS_FILE", ""),
        step_folders=tuple(Path(folder) for folder in folders.split(":") if folder),
        workflow_id=reader.text("PARCELQ_WORKFLOW_ID", ""),
        max_receive_count=reader.number("PARCELQ_MAX_RECEIVE_COUNT", 2),
        back_off_seconds=reader.number("PARCELQ_BACK_OFF_SECONDS", 5),
        range_bytes=reader.number("PARCELQ_RANGE_BYTES", 256 * 1024 * 1024),
        halving=reader.flag("PARCELQ_HALVING", default=True),
        kms_key_arn=reader.text("PARCELQ_KMS_KEY_ARN", ""),
    )
    if stages != ("",) and not _are_stages(stages):
        wanted = f"different names, none of them {OUTPUT} or {RANGES} or ending in {DEAD_LETTER_SUFFIX}"
        reader.problems.append(f"PARCELQ_STAGES is {','.join(stages)!r}, but must be {wanted}")
    if config.stage and config.stage not in stages:
        reader.problems.append(f"PARCELQ_STAGE is {config.stage!r}, but must be one of {', '.join(stages)}")
    if not reader.problems:
        for name in sorted(config.own_topics):
            try:
                check_topic(name)
            except InvalidValueError as error:
                reader.problems.append(str(error))
    if reader.problems:
        raise SettingsError("the function's environment", reader.problems)
    return config


def _are_stages(names: tuple[str, ...]) -> bool:
    """Whether every stage gets a topic of its own, that is none of the stack's other topics."""
    taken = {"", OUTPUT, RANGES}
    return len(set(names)) == len(names) and not any(
        name in taken or name.endswith(DEAD_LETTER_SUFFIX) for name in names
    )


class _Reader:
    """Reads variables and keeps what is wrong with them, so that one error can name it all."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name) or default
        if value is None:
            self.problems.append(f"{name} is not set")
            return ""
        return value

    def number(self, name: str, default: int) -> int:
        value = self._environ.get(name) or str(default)
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            self.problems.append(f"{name} is {value!r}, but must be a whole number of at least 1")
            return default
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._environ.get(name) or str(default).lower()
        if value not in {"true", "false"}:
            self.problems.append(f"{name} is {value!r}, but must be true or false")
        return value == "true"
