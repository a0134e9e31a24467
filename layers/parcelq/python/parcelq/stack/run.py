"""Runs a workflow over files on a stack: uploads a version of the workflow and the files, then follows the jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from parcelq.aws.clients import translated
from parcelq.errors import InvalidValueError, JobError, ParcelqError
from parcelq.jobs.assembled import Assembled, check_number, with_options
from parcelq.jobs.limits import NO_LIMITS
from parcelq.jobs.record import JobRecord
from parcelq.jobs.workflow import Workflow
from parcelq.local_files import check_folder, check_readable, check_targets
from parcelq.names import INBOX, check_bucket
from parcelq.result_names import check_distinct, result_names
from parcelq.stack.follow import Put, found_in_inbox
from parcelq.stack.lookup import Stack
from parcelq.stack.publishing import Note, Uploading, publish

_S3: Final = "s3://"


def check_files(files: Sequence[str], folder: Path) -> list[str]:
    """Return the names that files, given as paths or addresses `s3://bucket/key`, will have in the inbox, without a
    request to AWS. Raises ParcelqError if a file cannot be read, or a result has the name of another result or of a
    source.
    """
    local = [Path(file) for file in files if not file.startswith(_S3)]
    for path in local:
        check_readable(path)
    names = [_file_name(file) for file in files]
    check_distinct(names)
    check_folder(folder, "--output")
    check_targets(local, [folder / one for name in names for one in result_names(name)])
    return names


def put_files(
    stack: Stack, files: Sequence[str], names: Sequence[str], assembled: Assembled, note: Note, uploading: Uploading
) -> list[Put]:
    """Upload a workflow and files to a stack, which then begins a job for each file; see `check_files` on `names`.
    Raises ParcelqError if the workflow cannot be put, or if a file cannot be uploaded.
    """
    version = publish(stack, assembled, note, uploading)
    return [
        _put(stack, file, f"{version.attribute}/{name}", uploading) for file, name in zip(files, names, strict=True)
    ]


def redrive(
    stack: Stack, job: str, changed: Assembled | None, note: Note, uploading: Uploading, *, is_folder: bool = False
) -> tuple[JobRecord, int]:
    """Run the dead entries of a job again, optionally with other steps; see `StackJobs.redrive`. Return the job's
    record before the redrive, and how many entries run again. Raises JobError if the job cannot be redriven, if single
    steps are given and the job has another number of steps, or if it has settings that single steps do not contain.

    Args:
        changed: the other steps; None if the same steps run again. They are stored as a version of the job's workflow,
            but new jobs do not get this version.
        is_folder: whether `changed` comes from the folder of a workflow, which contains formats, sizes and settings.
    """
    jobs = stack.jobs
    record = jobs.find(job)
    if changed is None:
        return record, jobs.redrive(record.id)
    if not record.workflow:
        raise JobError(
            record.id, "it runs the step that the stack was deployed with; deploy the corrected step, then redrive"
        )
    if not record.has_dead:
        raise JobError(record.id, "it has no dead entries")
    if not record.versions:  # the job's record was lost while the job ran
        unknown = f"it is unknown which version of the workflow {record.workflow!r} it ran"
        raise JobError(record.id, f"{unknown}; put the file again")
    if not is_folder:
        changed = _like(changed, stack.versions.read(record.versions[-1]).workflow, record)
    version = publish(stack, changed._replace(name=record.workflow), note, uploading)
    topic = stack.topic(version.workflow.stages(stack.stages)[0])
    return record, jobs.redrive(record.id, version=version.attribute, topic=topic)


def _like(changed: Assembled, before: Workflow, record: JobRecord) -> Assembled:
    """Return the other steps with the format and sizes of the workflow `before`. Each step also gets the stage, batch
    size and output format of the step that it replaces. Raises JobError if the workflow has another number of steps.
    """
    steps = changed.workflow.steps
    check_number(record.id, steps, before.steps)
    if any(one.settings for one in before.steps) and not any(one.settings for one in steps):
        raise JobError(record.id, "its steps have settings; give the folder of the whole workflow, with --workflow DIR")
    steps = tuple(
        one._replace(stage=old.stage, batch_size=old.batch_size, output=old.output)
        for one, old in zip(steps, before.steps, strict=True)
    )
    sizes = Workflow((), before.format, before.parcel_size, before.batch_size, NO_LIMITS)
    kept = with_options(changed, sizes)
    return kept._replace(workflow=kept.workflow._replace(steps=steps))


def _file_name(file: str) -> str:
    """Return the name that a file or an S3 object gets in the inbox."""
    name = _address(file)[1].rpartition("/")[2] if file.startswith(_S3) else Path(file).name
    if name in {"", ".", ".."}:
        raise InvalidValueError("file", file, "a file, or the address of an object, s3://bucket/key")
    return name


def _address(text: str) -> tuple[str, str]:
    """Return the bucket and the key in an address `s3://bucket/key`. The address is not percent-encoded."""
    bucket, _, key = text.removeprefix(_S3).partition("/")
    return check_bucket(bucket), key


def _put(stack: Stack, file: str, name: str, uploading: Uploading) -> Put:
    """Upload a file to the inbox, or copy an S3 object to the inbox."""
    store, key = stack.store, f"{INBOX}{name}"
    with uploading(file, None if file.startswith(_S3) else Path(file).stat().st_size) as on_bytes:
        if not file.startswith(_S3):
            store.put_file(key, Path(file), on_bytes)
        else:
            bucket, source = _address(file)
            if store.in_bucket(bucket).stat(source) is None:
                raise ParcelqError(f"there is no {file}")
            with translated():
                store.s3.copy({"Bucket": bucket, "Key": source}, store.bucket, key)
    return found_in_inbox(store, name)
