"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from parcelq.errors import InvalidValueError
from parcelq.names import check_bucket

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="Name or URL of the topic.", show_default=False)]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=VALUE", help="An attribute; the option may be repeated."),
]
RecordFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="The record format: lines, jsonl, csv, tsv, fasta, fastq, sdf, 'starts=TEXT', 'ends=TEXT' or 'lines=4'; "
        "header=NUMBER may follow each.",
        show_default="from the file's name, otherwise lines",
    ),
]
Steps = Annotated[
    list[str] | None,
    typer.Option(
        "--step",
        metavar="STEP",
        help="A program: a path, or a command such as 'tr a-z A-Z'. Several programs run one after another.",
    ),
]
OneStep = Annotated[
    str,
    typer.Option("--step", help="The step: a path, or a command such as 'tr a-z A-Z'.", show_default=False),
]
StepSettings = Annotated[
    str, typer.Option("--settings", metavar="FILE", help="The step's settings file.", show_default="none")
]


def _workflow_id(text: str) -> str:
    if not _is_utf8(text):
        raise InvalidValueError("--workflow-id", text, "UTF-8")
    return text


WorkflowId = Annotated[
    str,
    typer.Option(
        "--workflow-id", help="A text that the step gets as --workflow-id.", show_default="none", callback=_workflow_id
    ),
]
WorkflowFolder = Annotated[
    Path | None,
    typer.Option("--workflow", metavar="DIR", help="A folder with a workflow.yaml, instead of --step."),
]
Settings = Annotated[
    list[Path] | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="The step's settings file; repeat the option for several steps, in their order.",
    ),
]
Packages = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="PACKAGE", help="A Python package that the steps need; may be repeated."),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="An environment variable to pass on to the steps; may be repeated."),
]
StackName = Annotated[str, typer.Option("--stack", metavar="NAME", help="Name of the stack.", show_default=False)]
AnyStack = Annotated[
    str, typer.Option("--stack", metavar="NAME", help="A stack of AWS.", show_default="jobs of this machine")
]
ParcelSize = Annotated[int, typer.Option(min=1, help="The most entries of a message.")]
RESULTS: Final = Path("results")
ResultsFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder of results.")]
GoOn = Annotated[bool, typer.Option("--continue", help="Continue with another version of the step.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]


class WrongUsageError(typer.TyperException):
    """Arguments and options contradict each other. The error message says which arguments and options are right."""

    exit_code = 2


def _job_id(job: str) -> str:
    from parcelq.lineage.source import is_job_id

    if not is_job_id(job):
        raise InvalidValueError("JOB", job, "a job's id, of 6 to 24 hexadecimal digits; parcelq jobs lists them")
    return job


JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="The id of the job, or the beginning of the id.", show_default=False, callback=_job_id
    ),
]
JobIds = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB",
        help="Ids of jobs, or the beginnings of ids.",
        show_default=False,
        callback=lambda jobs: list(map(_job_id, jobs)),
    ),
]


def bucket_name(name: str | None) -> str | None:
    """Return the name of a bucket from an option; raises WrongUsageError if the name is not valid."""
    try:
        return None if name is None else check_bucket(name)
    except InvalidValueError as error:
        raise WrongUsageError(f"--{error}") from None


Bucket = Annotated[
    str | None,
    typer.Option(
        callback=bucket_name,
        help="The bucket for entries that are too large for a message.",
        show_default="none: such entries are refused",
    ),
]


def attributes_of(texts: Sequence[str] | None) -> dict[str, str]:
    """Read `NAME=VALUE` texts. Raises WrongUsageError if a text has another form, is not UTF-8, or repeats a name."""
    attributes: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise WrongUsageError(f"--attribute is {text!r}, but must be NAME=VALUE")
        if not _is_utf8(text):
            raise WrongUsageError(f"--attribute is {text!r}, but must be UTF-8")
        if name in attributes:
            raise WrongUsageError(f"--attribute gives {name!r} twice, but must give each name once")
        attributes[name] = value
    return attributes


def _is_utf8(text: str) -> bool:
    """Return whether an argument was valid UTF-8; Python decodes other bytes as lone surrogates."""
    return text == text.encode(errors="replace").decode()
