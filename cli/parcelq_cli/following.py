"""Watching files that were put into the inbox of a stack, and fetching their results."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.names import INBOX, RESULTS

if TYPE_CHECKING:
    from parcelq.local.finish import FileResult
    from parcelq.local.progress import Progress
    from parcelq.store.bucket import BucketStore

    from parcelq_cli.stack import Stack


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


def found_in_inbox(store: BucketStore, name: str) -> Put:
    """Return the file in the inbox under a name. Raises ParcelqError if there is none."""
    found = store.stat(f"{INBOX}{name}")
    if found is None:
        raise ParcelqError(f"there is no s3://{store.bucket}/{INBOX}{name}; parcelq run --detach prints the names")
    return Put(name, found.etag.strip('"'), found.modified, found.size)


def result_of(stack: Stack, put: Put, folder: Path) -> FileResult | None:
    """The outcome of a file; None while that is not known."""
    from parcelq.collect.seeing import SourceState
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
    """The report of this put; None while there is none, or only that of an earlier put."""
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
    """Why a file will never have a result; empty if that is not known."""
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


def progress_of(stack: Stack, puts: Sequence[Put], results: Mapping[Put, FileResult], seconds: float) -> Progress:
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
    """Download an object into a file, which is replaced atomically. An optional object may be missing."""
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
