"""Writes the report of a job that was stopped or cancelled, with what is done, dead and missing. It has no result."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from parcelq.collect.deaths import MOST_LISTED, dead_lines, dead_of
from parcelq.collect.report import Entries, Report, report_of
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import indexes_of, read_record
from parcelq.collect.segments import segments_among
from parcelq.jobs.record import JobRecord, State
from parcelq.lineage.source import Source
from parcelq.result_names import ResultNames
from parcelq.store.store import Store
from parcelq.upload.notes import Note, notes_of

_log = logging.getLogger(__name__)


def collected_of(store: Store, keys: Sequence[str]) -> Collected | None:
    """Open the collected messages of a job, given the keys in its folder; None if there are none. Changes nothing.

    Raises:
        NotFoundError: another process has just finished the job.
        ParcelqError: a segment or the record of index runs cannot be read.
    """
    return Collected(store, indexes_of(store, keys, read_record(store, keys))) if segments_among(keys) else None


def stopped_report(record: JobRecord, collected: Collected | None, notes: Sequence[Note], names: ResultNames) -> Report:
    """Return the report of a job without a result. `complete` is false, and its holes are listed."""
    if collected is None:
        source = Source.parse(record.source)
        report = Report(
            source=record.source,
            version=source.version or source.put,
            result=names.result,
            state="part-",
            format=next((note.format for note in notes if note.format), ""),
            format_chosen_by=next((note.chosen_by for note in notes if note.chosen_by), ""),
            one_stream="",
            doubts=(),
            warnings=(),
            workflows=record.versions,
            entries=Entries(None, None, 0, None, 0),
            bytes_read=record.total,
            bytes_written=0,
            dead=(),
            dead_list="",
            holes=record.holes,
            duplicates=0,
            healings=0,
            first="",
            last="",
            complete=False,
        )
    else:
        resolution = collected.resolve()
        dead = tuple(islice(dead_of(collected, notes), MOST_LISTED)) if resolution.has_dead else ()
        listed = names.dead if resolution.has_dead else ""
        report = report_of(collected, resolution, notes, names.result, 0, dead, listed)
        total = report.bytes_read if report.bytes_read is not None else record.total
        versions = tuple(sorted({*report.workflows, *record.versions}))
        report = replace(report, bytes_read=total, holes=record.holes or report.holes, workflows=versions)
    return replace(report, complete=False, healings=record.healings, problem=problem_of(record))


def problem_of(record: JobRecord) -> str:
    """Return why a job has no result; empty if it may still get one."""
    return record.problem or ("it was cancelled" if record.state is State.CANCELLED else "")


def write_stopped_report(store: Store, record: JobRecord, keys: Sequence[str], names: ResultNames) -> None:
    """Write the report of a stopped job, with the page and the list of dead entries, beside the place of its result.

    If an earlier result exists there, its own report stays. The job's record has the same figures in any case.

    Args:
        store: where segments and results are stored.
        record: the job.
        keys: the keys in its folder.
        names: the keys of its result and of the files beside it.

    Raises:
        ParcelqError, AwsError, OSError: an object cannot be read or written.
    """
    # The modules that draw a page are imported only here, at the end of a job.
    from parcelq.collect.page.figures import figures_of
    from parcelq.collect.page.render import report_page

    if store.stat(names.result) is not None:
        _log.info("%s has a result of an earlier run, so the report of that result stays", names.result)
        return
    collected, notes = collected_of(store, keys), notes_of(store, record.source)
    report = stopped_report(record, collected, notes, names)
    seen = store.stat(names.report)
    if collected is not None:
        if report.dead_list:
            _write(store, names.dead, dead_lines(dead_of(collected, notes)))
        figures = figures_of(collected, collected.resolve(), notes, report.bytes_read)
        _write(store, names.page, (report_page(report, figures),))
    if not store.write(names.report, (report.to_json(),), {}, seen):
        _log.info("another process wrote %s at the same time", names.report)


def _write(store: Store, key: str, parts: Iterable[bytes]) -> None:
    store.write(key, parts, {}, store.stat(key))
