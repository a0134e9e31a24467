"""Reads and validates the environment variables of the Lambda functions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from parcelq.checks import Check, Wrong, checked, text
from parcelq.errors import InvalidValueError, SettingsError
from parcelq.limits import MIB
from parcelq.names import DEAD_LETTER_SUFFIX, OUTPUT, check_topic, dead_letter

RANGES: Final = "ranges"
LOOKS: Final = "looks"
_PREFIX: Final = "PARCELQ_"
_OWN: Final = (OUTPUT, RANGES, LOOKS)
"""The names of the stack's topics that do not belong to a stage."""


class Config(NamedTuple):
    """The configuration that a deployed stack gives to its functions, as environment variables `PARCELQ_…`.

    Attributes:
        prefix: the beginning of the names of all topics of the stack, which are `<prefix>-…`.
        bucket: the bucket with the inbox, results, segments and large message bodies.
        stages: the names of the stages in order; the first stage's topic is the stack's input topic.
        step_folders: the folders that may contain a step and its settings.
        stage: the name of this function's stage; empty if the function has no stage.
        format: the record format of all sources; empty if each source's name decides.
        step_path, settings_file: empty for the ones in the stage's folder.
        max_failures: how many runs over a message may fail before the message is halved or dead.
        back_off_seconds: the delay of a message after its first failure; each further failure doubles the delay.
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
    step_folders: tuple[Path, ...]
    stage: str = ""
    parcel_size: int = 1000
    format: str = ""
    batch_size: int = 1000
    step_path: str = ""
    settings_file: str = ""
    workflow_id: str = ""
    max_failures: int = 2
    back_off_seconds: int = 5
    range_bytes: int = 256 * MIB
    halving: bool = True
    storage_mib: int = 512
    step_role: str = ""
    secrets: tuple[str, ...] = ()
    kms_key_arn: str = ""
    quiet_seconds: int = 90

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
        """The name of the topic to which this function's stage publishes: the next stage's or the output topic."""
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
        """The names of all topics of the stack, including dead-letter topics. None may be deleted alone."""
        topics = {self.topic(name) for name in (*self.stages, *_OWN)}
        return frozenset(topics | {dead_letter(topic) for topic in topics})


def parcel_size_for(batch_size: int, parcel_size: int) -> int:
    """Return how many entries the uploader puts into a message: at least a batch, so that one message fills a run."""
    return max(batch_size, parcel_size)


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration of a Lambda function from environment variables, by default those of this process.

    Raises:
        SettingsError: if a variable is missing or wrong; the error message names every such variable.
    """
    variables = os.environ if environ is None else environ
    given = {name: variables[name] for name in _VARIABLES if variables.get(name)}
    values, problems = checked(given, _VARIABLES, required=("PARCELQ_STAGES", "PARCELQ_PREFIX", "PARCELQ_BUCKET"))
    found: dict[str, Any] = {"prefix": "", "bucket": "", "stages": ()}
    found["step_folders"] = _folders(f"{variables.get('LAMBDA_TASK_ROOT') or '.'}/steps:/opt/steps")
    found |= {name.removeprefix(_PREFIX).lower(): value for name, value in values.items()}
    config = Config(**found)
    if config.stages and config.stage and config.stage not in config.stages:
        problems.append(f"PARCELQ_STAGE is {config.stage!r}, but must be one of {', '.join(config.stages)}")
    if not problems:
        for name in sorted(config.own_topics):
            try:
                check_topic(name)
            except InvalidValueError as error:
                problems.append(str(error))
    if problems:
        raise SettingsError("the function's environment", problems)
    return config


def _stages(value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    taken = [name for name in names if name in {"", *_OWN} or name.endswith(DEAD_LETTER_SUFFIX)]
    if taken or len(set(names)) < len(names):
        raise Wrong(f"different names, none of them {', '.join(_OWN)}, and none that ends in {DEAD_LETTER_SUFFIX}")
    return names


def _folders(value: str) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in value.split(":") if folder)


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise Wrong("a whole number of at least 1")
    return int(value)


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise Wrong("true or false")
    return value == "true"


_CHECKS: Final[dict[str, Check]] = {
    **dict.fromkeys(Config._fields, text),
    **{name: _number for name, value in Config._field_defaults.items() if type(value) is int},
    "stages": _stages,
    "step_folders": _folders,
    "halving": _flag,
    "secrets": lambda value: tuple(filter(None, value.split(","))),
}
_VARIABLES: Final = {f"{_PREFIX}{name.upper()}": check for name, check in _CHECKS.items()}
