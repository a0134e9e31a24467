"""`parcelq run --stack` and `parcelq wait`: files on a stack, from the upload to the results on this machine."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.names import INBOX, RESULTS, check_bucket

from parcelq_cli.escaping import one_line
from parcelq_cli.options import WrongUsageError
from parcelq_cli.output import Output, with_output
from parcelq_cli.publishing import publish, size_of, upload
from parcelq_cli.running import report_of
from parcelq_cli.stack import Stack, StackName, look_up

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.local.finish import FileResult
    from parcelq.store.bucket import BucketStore

_S3: Final = "s3://"
_LOOK_SECONDS: Final = 1.0
_STATUS_LOOKS: Final = 3
"""How far a job is costs requests for each of its segments, so only every third look asks."""


@dataclass(frozen=True, slots=True)
class Put:
    """A file that was put into the inbox of a stack.

    Attributes:
        name: what it is called there, below `inbox/`.
        etag: the object's etag, without quotes.
        modified: when it was put, in seconds of the epoch.
        size: its bytes.
    """

    name: str
    etag: str
    modified: float
    size: int

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.name.rpartition("/")[2]


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
        out.note("a stack does not keep the limits of a workflow; they count on one machine")
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
        list[str], typer.Argument(metavar="NAME...", help="What the files are called in the inbox.", show_default=False)
    ],
    stack: StackName,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("results"),
) -> None:
    """Wait until files on a stack are done, and bring their results; `parcelq run --detach` prints the names.

    Exits with 0 only if every record is in a result.
    """
    from parcelq.local_files import check_folder
    from parcelq.result_names import check_distinct

    check_folder(output, "--output")
    check_distinct(name.rpartition("/")[2] for name in names)
    found = look_up(stack)
    _follow(out, found, [_found(found.store, name) for name in names], output, time.monotonic())


def _follow(out: Output, stack: Stack, puts: Sequence[Put], folder: Path, began: float) -> None:
    """Show how far files are until all are done, bring the results, and report them."""
    from parcelq_cli.live import shown

    results: dict[Put, FileResult] = {}
    looks = 0
    try:
        with shown(out) as show:
            while True:
                for put in puts:
                    if put not in results and (result := _result(stack, put, folder)):
                        results[put] = result
                over = len(results) == len(puts)
                if over or looks % _STATUS_LOOKS == 0:
                    show(_progress(stack, puts, results, time.monotonic() - began))
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
    """What a file or an S3 object is called in the inbox."""
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
            upload(stack, Path(file), key, on_bytes)
    return _found(stack.store, name)


def _copy(stack: Stack, address: str, key: str) -> None:
    from parcelq.aws.clients import translated

    bucket, source = _address(address)
    store = stack.store
    if store.in_bucket(bucket).stat(source) is None:
        raise ParcelqError(f"there is no {address}")
    with translated():
        store.s3.copy({"Bucket": bucket, "Key": source}, stack.bucket, key)


def _found(store: BucketStore, name: str) -> Put:
    found = store.stat(f"{INBOX}{name}")
    if found is None:
        raise ParcelqError(f"there is no s3://{store.bucket}/{INBOX}{name}; parcelq run --detach prints the names")
    return Put(name, found.etag.strip('"'), found.modified, found.size)


def _result(stack: Stack, put: Put, folder: Path) -> FileResult | None:
    """What became of a file; None while that is not known."""
    from parcelq.collect.finish import SourceState
    from parcelq.local.finish import FileResult
    from parcelq.result_names import result_names

    store = stack.store
    names, local = result_names(put.name, RESULTS), result_names(put.file)
    report = _report(store, names.report, put)
    if report is None:
        if problem := _problem(stack, put):
            return FileResult(put.file, "", local, SourceState("", 0, None, 0, 0), problem=problem)
        return None
    stored = store.stat(names.result)
    if stored is None or stored.metadata.get("parcelq-state") != report["state"]:
        return None  # the result is about to be written, or written again
    for remote, name in zip(names.all, local.all, strict=True):
        _fetch(store, remote, folder / name, needed=remote == names.result)
    entries = report["entries"]
    dead = entries["dead"] if entries["dead"] is not None else int(not report["complete"])
    state = SourceState(
        report["source"], report["bytes_read"] or 0, report["bytes_read"], dead, 0, names.result, report=report
    )
    problem = "" if report["complete"] or dead else "its report does not say that it is whole"
    return FileResult(put.file, "", local, state, problem=problem)


def _report(store: BucketStore, key: str, put: Put) -> Mapping[str, Any] | None:
    """The report of what was put; None while there is none, or only one of an earlier put."""
    from parcelq.errors import NotFoundError
    from parcelq.lineage.source import Source

    found = store.stat(key)
    if found is None or found.modified < put.modified:
        return None
    try:
        report: Mapping[str, Any] = json.loads(store.read(key))
        source = Source.parse(report["source"])
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None
    return report if source.name == put.name and source.etag == put.etag else None


def _problem(stack: Stack, put: Put) -> str:
    """Why a file will never have a result; empty where that is not known."""
    from parcelq.lineage.source import Source
    from parcelq.upload.notes import noted_problems

    for text, problem in noted_problems(stack.store).items():
        source = Source.parse(text)
        if (source.name, source.etag) == (put.name, put.etag):
            return problem
    now = stack.store.stat(f"{INBOX}{put.name}")
    if now is None:
        return "it was deleted from the inbox"
    if now.etag.strip('"') != put.etag:
        return "somebody put another file of that name into the inbox"
    return ""


def _progress(stack: Stack, puts: Sequence[Put], results: Mapping[Put, FileResult], seconds: float) -> Any:
    """How far all files are together."""
    from parcelq.collect.status import statuses
    from parcelq.lineage.source import Source
    from parcelq.local.progress import Progress

    total = sum(one.size for one in puts) or 1
    done = float(sum(put.size for put in results))
    entries = sum(one.state.report["entries"]["read"] or 0 for one in results.values() if one.state.report)
    dead, reason = sum(one.state.dead for one in results.values()), ""
    waiting = {(put.name, put.etag): put for put in puts if put not in results}
    for status in statuses(stack.store, stack.output_topic) if waiting else ():
        source = Source.parse(status.source)
        put = waiting.get((source.name, source.etag))
        if put and status.total:
            covered = (status.covered.bytes or 0) + (status.dead.bytes or 0)
            done += put.size * covered / status.total
            entries += status.covered.entries or status.entries_written
            dead += status.dead.entries or 0
            reason = status.deaths[0].reason if status.deaths else reason
    left = (total - done) * seconds / done if done else None
    return Progress(
        min(1.0, done / total), entries, entries / seconds if seconds > 1 else 0.0, left, dead, reason, seconds
    )


def _fetch(store: BucketStore, key: str, path: Path, *, needed: bool) -> None:
    """Bring an object into a file, which is replaced at once; one that is not needed may be missing."""
    from parcelq.aws.clients import translated

    if not needed and store.stat(key) is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replaced(path) as part, translated():
        store.s3.download_file(store.bucket, key, str(part))


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Give a path beside a file, which takes its place if nothing is raised."""
    if path.is_dir():
        raise InvalidValueError("result", str(path), "a file, but there is a folder of that name")
    part = path.with_name(f".parcelq-{uuid.uuid4().hex}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
