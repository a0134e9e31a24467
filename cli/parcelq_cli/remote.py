"""`parcelq run --stack` and `parcelq wait`: files on a stack, from the upload to the results on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from parcelq.errors import ParcelqError
from parcelq.names import INBOX, check_bucket

from parcelq_cli.escaping import one_line
from parcelq_cli.following import Put, found_in_inbox, progress_of, result_of
from parcelq_cli.options import WrongUsageError
from parcelq_cli.output import Output, with_output
from parcelq_cli.publishing import publish, size_of
from parcelq_cli.running import report_of
from parcelq_cli.stack import Stack, StackName, look_up

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.local.finish import FileResult

_S3: Final = "s3://"
_LOOK_SECONDS: Final = 1.0
_STATUS_LOOKS: Final = 3
"""Reading the progress of a job costs requests for each of its segments, so this happens only at every third look."""


def run_on_stack(
    out: Output, files: Sequence[str], assembled: Assembled, stack_name: str, folder: Path, *, detach: bool
) -> None:
    """Run a workflow over files on a stack, and bring the results.

    Args:
        out: prints.
        files: paths of files, or addresses of S3 objects.
        assembled: the workflow.
        stack_name: the stack's name.
        folder: where results go.
        detach: whether to return as soon as the files are in the inbox.

    Raises:
        ParcelqError: anything is wrong with the workflow, the files or the stack; or not every result is whole.
    """
    from parcelq.local_files import check_folder, check_readable, check_targets
    from parcelq.result_names import check_distinct, result_names

    local = [Path(file) for file in files if not file.startswith(_S3)]
    for path in local:
        check_readable(path)
    names = [_file_name(file) for file in files]
    check_distinct(names)
    check_folder(folder, "--output")
    check_targets(local, [folder / one for name in names for one in result_names(name).all])
    stack = look_up(stack_name)
    began = time.monotonic()
    version = publish(out, stack, assembled)
    if version.workflow.limits.to_document():
        out.note("the limits of a workflow have no effect on a stack yet; they work only on one machine")
    puts = [_put(out, stack, file, f"{version.attribute}/{name}") for file, name in zip(files, names, strict=True)]
    if detach:
        for put in puts:
            out.result({"file": put.file, "name": put.name}, put.name)
        out.note(_come_back(puts, stack_name, folder))
        return
    _follow(out, stack, puts, folder, began)


@with_output
def wait(
    out: Output,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="The names of the files in the inbox.", show_default=False)
    ],
    stack: StackName,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("results"),
) -> None:
    """Wait until files on a stack are done, and fetch their results; `parcelq run --detach` prints the names.

    Exits with 0 only if every record is in a result.
    """
    from parcelq.local_files import check_folder
    from parcelq.result_names import check_distinct

    check_folder(output, "--output")
    check_distinct(name.rpartition("/")[2] for name in names)
    found = look_up(stack)
    _follow(out, found, [found_in_inbox(found.store, name) for name in names], output, time.monotonic())


def _follow(out: Output, stack: Stack, puts: Sequence[Put], folder: Path, began: float) -> None:
    """Show the progress of files until all are done, fetch the results, and report them."""
    from parcelq_cli.live import shown

    results: dict[Put, FileResult] = {}
    looks = 0
    try:
        with shown(out) as show:
            while True:
                for put in puts:
                    if put not in results and (result := result_of(stack, put, folder)):
                        results[put] = result
                over = len(results) == len(puts)
                if over or looks % _STATUS_LOOKS == 0:
                    show(progress_of(stack, puts, results, time.monotonic() - began))
                if over:
                    break
                looks += 1
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        out.note(f"detached; the stack goes on. {_come_back(puts, stack.name, folder)}")
        raise
    report_of(out, [results[put] for put in puts], folder, time.monotonic() - began)


def _come_back(puts: Sequence[Put], stack: str, folder: Path) -> str:
    import shlex

    names = shlex.join(one.name for one in puts)
    more = "" if folder == Path("results") else f" --output {shlex.quote(str(folder))}"
    return f"parcelq wait {names} --stack {stack}{more} waits for it and brings the results"


def _file_name(file: str) -> str:
    """The name of a file or an S3 object in the inbox."""
    name = _address(file)[1].rpartition("/")[2] if file.startswith(_S3) else Path(file).name
    if name in {"", ".", ".."}:
        raise WrongUsageError(f"FILE is {file!r}, but must be a file or the address of an object, s3://bucket/key")
    return name


def _address(text: str) -> tuple[str, str]:
    """Bucket and key of an address, `s3://bucket/key`; the key is as it is, not encoded."""
    bucket, _, key = text.removeprefix(_S3).partition("/")
    return check_bucket(bucket), key


def _put(out: Output, stack: Stack, file: str, name: str) -> Put:
    """Put a file into the inbox, or copy an object there."""
    key = f"{INBOX}{name}"
    with out.progress(f"uploading {one_line(file)}") as report:
        sent = 0
        total = 0 if file.startswith(_S3) else Path(file).stat().st_size

        def on_bytes(count: int) -> None:
            nonlocal sent
            sent += count
            report(size_of(sent), sent / total if total else None)

        if file.startswith(_S3):
            _copy(stack, file, key)
        else:
            from parcelq.store.large_files import put_file

            put_file(stack.store, Path(file), key, on_bytes)
    return found_in_inbox(stack.store, name)


def _copy(stack: Stack, address: str, key: str) -> None:
    from parcelq.aws.clients import translated

    bucket, source = _address(address)
    store = stack.store
    if store.in_bucket(bucket).stat(source) is None:
        raise ParcelqError(f"there is no {address}")
    with translated():
        store.s3.copy({"Bucket": bucket, "Key": source}, stack.bucket, key)
