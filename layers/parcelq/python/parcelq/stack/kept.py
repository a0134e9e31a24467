"""Caches the records of jobs on this machine. So if many jobs are listed, only changed job records are read from S3."""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.jobs.record import JobRecord, parse_record
from parcelq.stack.jobs import StackJobs
from parcelq.steps.environments import cache_folder

_log = logging.getLogger(__name__)
_FORM: Final = 1
"""The version of the cache file's schema. A file of another version is treated as empty."""

Known = dict[str, tuple[str, JobRecord | None]]


def all_jobs(jobs: StackJobs, folder: Path | None = None) -> list[JobRecord]:
    """Return the records of all jobs, the newest first. Only job records that changed since the last call are read. The
    cache is in `folder`, by default in `cache_folder()`; an invalid cache file is ignored.
    """
    file = (folder or cache_folder() / "jobs") / f"{jobs.store.bucket}.json"
    known = _read(file)
    before = {key: etag for key, (etag, _) in known.items()}
    found = jobs.all(known)
    if before != {key: etag for key, (etag, _) in known.items()}:
        _write(file, known)
    return found


def _read(file: Path) -> Known:
    try:
        kept = json.loads(file.read_bytes())
        if kept["form"] != _FORM:
            return {}
        return {key: (etag, parse_record(text.encode(), key)) for key, (etag, text) in kept["records"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ParcelqError):
        return {}


def _write(file: Path, known: Known) -> None:
    records = {key: (etag, json.dumps(one.document())) for key, (etag, one) in known.items() if one}
    part = file.with_name(f".{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"form": _FORM, "records": records}))
        part.replace(file)
    except OSError as error:
        _log.info("records of jobs cannot be cached: %s", error)
