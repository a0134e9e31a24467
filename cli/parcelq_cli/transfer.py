"""`parcelq upload` and `parcelq download`: publish files to a topic, and write a topic's messages into a file."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Annotated

import typer
from parcelq.amounts import amount
from parcelq.errors import ParcelqError
from parcelq.limits import MAX_FILE_NAME_BYTES, MAX_LONG_POLL_SECONDS

from parcelq_cli import clients
from parcelq_cli.options import Bucket, ParcelSize, RecordFormat, Topic
from parcelq_cli.output import Output, with_output


@with_output
def upload(
    out: Output,
    topic: Topic,
    file: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files or pipes; - is stdin.", show_default=False)],
    parcel_size: ParcelSize = 1000,
    bucket: Bucket = None,
    record_format: RecordFormat = "",
) -> None:
    """Publish the records of files as parcels.

    The file's name determines the record format: .csv, .tsv, .jsonl, .fasta, .fastq, .sdf, …; for any other name each
    line is a record. Compressed files (gz, bz2, xz, zst) are decompressed. Files are published one after another. If a
    file changes while it is read, the command fails.
    """
    from parcelq.jobs.look import Look
    from parcelq.records import parse
    from parcelq.topics.topic import publish_all
    from parcelq.upload.files import upload_files
    from parcelq.upload.sources import Uploaded

    paths = [Path("/dev/stdin") if str(path) == "-" else path for path in file]
    target = clients.topic(topic, bucket or "")
    fmt = parse(record_format) if record_format else None
    store = clients.bucket(bucket) if bucket else None
    done: list[tuple[Path, Uploaded]] = []
    with out.progress("uploading") as report:

        def tell(path: Path, uploaded: Uploaded) -> None:
            done.append((path, uploaded))
            messages = sum(one.messages for _, one in done)
            report(f"{len(done)} of {amount(len(file), 'file')}, {amount(messages, 'message')}")

        published = upload_files(target, paths, parcel_size, fmt=fmt, store=store, on_file=tell)
        if looks := clients.looks(target):
            publish_all(looks, [Look()])  # so that the stack collects the results of the messages
    for _, one in done:
        for warning in one.warnings:
            out.note(warning)
    files = [{"file": str(path), "messages": one.messages, "format": one.format} for path, one in done]
    out.result(
        {"messages": published, "files": files},
        f"published {amount(published, 'message')} from {amount(len(files), 'file')}",
    )


@with_output
def download(
    out: Output,
    topic: Topic,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The new file for the entries, one entry per line.", show_default=False),
    ],
    timeout: Annotated[
        float, typer.Option(min=0, help="After how many seconds without a message the topic counts as empty.")
    ] = MAX_LONG_POLL_SECONDS,
) -> None:
    """Write all messages of a topic into a new file.

    The messages are acknowledged. The entries of each source are in order, without duplicates. While a source is
    incomplete, FILE.parts stays and the exit code is 1. Another download into the same file adds the messages that
    arrived since.
    """
    from parcelq.collect.download import download as collect
    from parcelq.local_files import check_folder
    from parcelq.result_names import PIECES

    check_folder(file.parent, "the folder of FILE")
    if file.is_dir():
        raise ParcelqError(f"FILE is {str(file)!r}, but must not be a folder")
    if len(os.fsencode(file.name)) > MAX_FILE_NAME_BYTES - len(PIECES):
        longest = MAX_FILE_NAME_BYTES - len(PIECES)
        raise ParcelqError(f"FILE is {str(file)!r}, but its name must have at most {longest} bytes")

    source = clients.topic(topic)
    messages = entries = 0
    lock = Lock()
    with out.progress("downloading") as report:

        def tell(more_messages: int, more_entries: int) -> None:
            nonlocal messages, entries
            with lock:  # several threads receive
                messages, entries = messages + more_messages, entries + more_entries
                report(f"{amount(messages, 'message')}, {amount(entries, 'entry')}")

        downloaded = collect(source, file, receive_message_timeout=timeout, on_progress=tell)
    out.result(
        {
            "file": str(file),
            "messages": downloaded.messages,
            "entries": downloaded.entries,
            "sources": downloaded.sources,
            "incomplete": list(downloaded.incomplete),
        },
        f"wrote {amount(downloaded.entries, 'entry')} of {amount(downloaded.sources, 'source')} to {file}",
    )
    if downloaded.incomplete:
        names = ", ".join(downloaded.incomplete)
        raise ParcelqError(f"{file} is incomplete: records of {names} are missing or dead; download again later")
