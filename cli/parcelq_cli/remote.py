"""`parcelq run --stack` and `parcelq wait`: run files on a stack, from their upload to the download of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from parcelq.errors import InvalidValueError
from parcelq.escaping import one_line
from parcelq.stack.lookup import Stack, look_up

from parcelq_cli.options import RESULTS, ResultsFolder, StackName, WrongUsageError
from parcelq_cli.output import Output, with_output
from parcelq_cli.running import output_option, report_of

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.stack.follow import Put
    from parcelq.stack.publishing import Uploading


def run_on_stack(
    out: Output, files: Sequence[str], assembled: Assembled, stack_name: str, folder: Path, *, detach: bool
) -> None:
    """Run a workflow over files or S3 objects on a stack, and download the results, unless `detach` is true."""
    from parcelq.stack.run import check_files, put_files

    try:
        names = check_files(files, folder)
    except InvalidValueError as error:
        raise WrongUsageError(f"FILE{str(error).removeprefix('file')}") if error.name == "file" else error from None
    stack = look_up(stack_name)
    puts = put_files(stack, files, names, assembled, out.note, uploading(out))
    if detach:
        for put in puts:
            out.result({"file": put.file, "name": put.name}, put.name)
        out.note(_come_back(puts, stack_name, folder))
        return
    follow_and_report(out, stack, puts, folder)


@with_output
def wait(
    out: Output,
    names: Annotated[
        list[str],
        typer.Argument(metavar="JOB|NAME", help="Ids of jobs, or names of files in the inbox.", show_default=False),
    ],
    stack: StackName,
    output: ResultsFolder = RESULTS,
) -> None:
    """Wait until files on a stack are done, and download their results.

    parcelq jobs --stack lists the ids of jobs, and parcelq run --detach prints the names of files. Exits with 0 only if
    every record is in a result.
    """
    from parcelq.lineage.source import is_job_id
    from parcelq.local_files import check_folder
    from parcelq.result_names import check_distinct
    from parcelq.stack.follow import found_in_inbox, put_of_job

    check_folder(output, "--output")
    found = look_up(stack)
    jobs = found.jobs
    puts = [put_of_job(jobs.find(one)) if is_job_id(one) else found_in_inbox(jobs.store, one) for one in names]
    check_distinct([put.file for put in puts])
    follow_and_report(out, found, puts, output)


def follow_and_report(out: Output, stack: Stack, puts: Sequence[Put], folder: Path) -> None:
    """Show the progress of files until all are done, download the results, and report them."""
    from parcelq.stack.follow import Followed, follow

    from parcelq_cli.live import shown

    began = time.monotonic()
    try:
        with shown(out) as show:
            results = follow(Followed(stack.jobs, puts), folder, show)
    except KeyboardInterrupt:
        out.note(f"detached; the stack continues. {_come_back(puts, stack.name, folder)}")
        raise
    report_of(out, results, folder, time.monotonic() - began, f" --stack {stack.name}")


def uploading(out: Output) -> Uploading:
    """Return a context manager that shows the progress of uploads."""
    from parcelq.amounts import size as bytes_text

    @contextmanager
    def uploading_(what: str, size: int | None) -> Iterator[Callable[[int], None]]:
        with out.progress(f"uploading {one_line(what)}") as report:
            sent = 0

            def on_bytes(count: int) -> None:
                nonlocal sent
                sent += count
                report(bytes_text(sent), sent / size if size else None)

            yield on_bytes

    return uploading_


def _come_back(puts: Sequence[Put], stack: str, folder: Path) -> str:
    import shlex

    names = shlex.join(one.job or one.name for one in puts)
    return f"parcelq wait {names} --stack {stack}{output_option(folder)} waits for the results and downloads them"
