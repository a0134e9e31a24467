"""Publishes the missing records of a job, and stores the number of all records of the source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.local.jobs import LocalJob
from parcelq.local.kept import Kept
from parcelq.local.pipeline import Pipeline
from parcelq.local.progress import WorkMeter
from parcelq.local.reading import Reading
from parcelq.local.recipe import Options
from parcelq.names import OUTPUT
from parcelq.records import Parcel
from parcelq.topics.header import header_of_source
from parcelq.topics.topic import all_published
from parcelq.upload.notes import Beginning, note_upload
from parcelq.upload.parcels import MAX_BODY_BYTES, Layout
from parcelq.upload.sources import Uploaded, parcel_messages

_INPUT: Final = "step1"
_FILES_OF_NOTE: Final = 4000
"""The most files that one note names, well below the size limit of a note."""


class PipelineStopped(Exception):  # noqa: N818 - it is no error
    """The pipeline was stopped and accepts no more messages."""


def publish(job: LocalJob, options: Options, kept: Kept, meter: WorkMeter, pipeline: Pipeline) -> None:
    """Publish the missing ranges of a job's source. All other ranges are read too, but only to count their records.

    Raises:
        PipelineStopped: if the pipeline was stopped. Only some of the missing records are published in this case.
        ParcelqError: if the source is damaged, cannot be read, has changed, or does not match its format, or if
            messages were refused. The last message is not published in this case.
    """
    cpus = (os.cpu_count() or 1) if options.spreads else 1
    reading = Reading.of(job.source, options.format, job.missing, options.rules[0].parcel_size, job.marks, cpus)
    attribute = header_of_source(reading.header, job.record.source, kept.store)
    layout = Layout.of_source(reading.format, reading.header, attribute)
    reading.max_bytes = MAX_BODY_BYTES - len(attribute)
    source = job.record.source

    def counted(read: int, made: int) -> None:
        if pipeline.stopped:
            raise PipelineStopped
        # This assumes that the unread part of the file has the same compression ratio.
        meter.expect(source, int(made * job.source.size / read) if read else made)

    reading.on_read = counted
    is_missing_from_start = bool(job.missing) and job.missing[0][0] == 0
    header = layout.header_parcel(0) if is_missing_from_start else iter(())

    def parcels() -> Iterator[Parcel]:
        yield from header
        yield from reading.parcels()

    messages = parcel_messages(parcels(), job.source.source, job.total, layout, empty=is_missing_from_start)
    published = all_published(job.source.title, pipeline.publish(messages))
    if job.total is not None and reading.end != job.total:
        raise ParcelqError(f"{job.source.title!r} has {reading.end:,} bytes of records, but had {job.total:,} before")
    meter.expect(source, reading.end)
    job.total = reading.end
    job.is_noted = True
    uploaded = Uploaded(
        published,
        reading.entries,
        reading.end,
        reading.parts.all(),
        tuple(reading.warnings),
        str(reading.format),
        "option" if options.format else "name",
    )
    _note(kept, source, uploaded, reading.begins if job.source.combined else ())


def _note(kept: Kept, source: str, uploaded: Uploaded, files: Sequence[Beginning]) -> None:
    """Store the number of records and the offsets at which files begin; in several notes if there are many files."""
    some: list[list[Beginning]] = [[]]
    for file in files:
        if len(some[-1]) >= _FILES_OF_NOTE and file.start > some[-1][0].start:
            some.append([])
        some[-1].append(file)
    if len(some) > 1:
        uploaded = uploaded._replace(parts=())  # otherwise the parts would have to be cut at the begin of each note
    for number, part in enumerate(some):
        start, record = (part[0].start, part[0].record) if number else (0, 0)
        following = some[number + 1][0] if number + 1 < len(some) else None
        end, entries = (following.start, following.record) if following else (uploaded.end, uploaded.entries)
        whole = uploaded._replace(entries=entries - record, end=end)
        note_upload(kept.notes, source, start, whole, total=uploaded.end, topic=_INPUT, output=OUTPUT, files=part)
