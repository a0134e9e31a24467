"""Downloads the results of the emulated stack into files on this machine, and names the files after the results."""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from parcelq.aws.clients import translated
from parcelq.errors import InvalidValueError
from parcelq.limits import MIB
from parcelq.names import RESULTS
from parcelq.result_names import DEAD, PAGE, REPORT, STATE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READS_IN_FLIGHT: Final = 8
_OF_THE_NAME: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ, errno.ELOOP}
)
"""Errors that mean that no file can have this name."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results in a bucket.

    Attributes:
        s3: a boto3 S3 client.
        bucket: the bucket.
    """

    s3: S3Client
    bucket: str
    _read: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def reported(self) -> frozenset[str]:
        """Return the names of the results that have a report."""
        with translated():
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=RESULTS)
            keys = {one["Key"] for page in pages for one in page.get("Contents", ())}
        # A job that was stopped may have a report without a result.
        reported = (key.removesuffix(REPORT) for key in keys if key.endswith(REPORT))
        return frozenset(key.removeprefix(RESULTS) for key in reported if key in keys)

    def reports(self) -> dict[str, dict[str, Any]]:
        """Read new and changed reports, and return a dict from the names of all results to their reports."""
        with translated():
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=RESULTS)
            etags = {one["Key"]: one["ETag"] for page in pages for one in page.get("Contents", ())}
            reports = [key for key in etags if key.endswith(REPORT) and key.removesuffix(REPORT) in etags]
            new = [key for key in reports if not self._knows(key, etags[key])]
            with ThreadPoolExecutor(_READS_IN_FLIGHT) as pool:
                for key, report in zip(new, pool.map(self._report, new), strict=True):
                    self._read[key] = etags[key], report
        return {key.removeprefix(RESULTS).removesuffix(REPORT): report for key, (_, report) in self._read.items()}

    def fetch_all(self, names: Sequence[str], folder: Path) -> list[tuple[Path, dict[str, Any]]]:
        """Download results into a folder, several results at a time; see `fetch`."""
        with ThreadPoolExecutor(_READS_IN_FLIGHT) as pool:
            return list(pool.map(lambda name: self.fetch(name, folder), names))

    def fetch(self, name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
        """Download a result and the files beside it into a folder, and return its path and the report.

        Args:
            name: the result's name, which may be any text, because anybody can put objects under any name.
            folder: the folder for the files.

        Raises:
            InvalidValueError: if no file in the folder can have that name.
        """
        _check_name(name, folder)
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", REPORT, PAGE):
                self._download(f"{RESULTS}{name}{suffix}", Path(f"{path}{suffix}"))
            report = json.loads(Path(f"{path}{REPORT}").read_bytes())
            if report.get("dead_list"):
                self._download(f"{RESULTS}{name}{DEAD}", Path(f"{path}{DEAD}"))
            else:
                Path(f"{path}{DEAD}").unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in _OF_THE_NAME:
                raise
            wanted = f"one that a file in {folder} can have ({error.strerror})"
            raise InvalidValueError("name of a result", name, wanted) from None
        return path, report

    def _knows(self, key: str, etag: str) -> bool:
        return key in self._read and self._read[key][0] == etag

    def _report(self, key: str) -> dict[str, Any]:
        report: dict[str, Any] = json.load(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"])
        return report

    def _download(self, key: str, path: Path) -> None:
        """Download an object into a file, and replace an existing file atomically."""
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
        part = path.with_name(f".parcelq-{uuid.uuid4().hex}")
        try:
            with translated(), part.open("xb") as file:
                for block in self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(MIB):
                    file.write(block)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _check_name(name: str, folder: Path) -> None:
    if "\0" in name:
        raise InvalidValueError("name of a result", name, "one without NUL")
    if PurePosixPath(name).parts[:1] == (STATE,):
        raise InvalidValueError("name of a result", name, f"one outside of {folder / STATE}, which is Parcelq's own")
    try:
        stays = (folder / name).resolve().is_relative_to(folder.resolve())
    except OSError as error:
        raise InvalidValueError("name of a result", name, f"one that a file can have ({error.strerror})") from None
    if not stays:
        raise InvalidValueError("name of a result", name, f"one that stays in {folder}")
