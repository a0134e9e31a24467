"""A job that a Python program runs in the background, on this machine or on a stack."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from parcelq.local.finish import FileResult
from parcelq.local.progress import Progress

Work = Callable[[Callable[[Progress], None], threading.Event], list[FileResult]]


class DeadEntry(NamedTuple):
    """An entry that failed for good.

    Attributes:
        file: the name of the file that contains the entry.
        record: the entry's record number in the file, from 1; None if unknown.
        line: the number of the entry's first line, from 1; None if unknown.
        entry: the entry as text, or as bytes if the entry is not UTF-8.
    """

    file: str
    record: int | None
    line: int | None
    entry: str | bytes
    reason: str

    @classmethod
    def of(cls, document: dict[str, Any], file: str) -> DeadEntry:
        """Return the dead entry that a line of a list of dead entries describes."""
        import base64

        entry = base64.b64decode(document["entry_base64"]) if "entry_base64" in document else document["entry"]
        return cls(document.get("file", file), document.get("record"), document.get("line"), entry, document["reason"])


class Job:
    """A running job over files; `parcelq.run` returns this object. A thread follows the job until the job ends or is
    cancelled.
    """

    def __init__(self, work: Work, folder: Path) -> None:
        self._folder = folder
        self._cancelled = threading.Event()
        self._progress = Progress(0.0, 0, 0.0, None, 0, "")
        self._results: list[FileResult] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="parcelq-job", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> list[FileResult]:
        """Wait until the job has ended, at most `timeout` seconds; None for no limit.

        Returns:
            The outcomes of the files, in their order. The attribute `whole` of an outcome says whether every entry is
            in the result.

        Raises:
            TimeoutError: if the job has not ended in time; the job continues.
            ParcelqError: if the job could not begin or was stopped; the message says why. Finished work is kept.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the job did not end within {timeout} seconds")
        if self._error:
            raise self._error
        return self._results

    def progress(self) -> Progress:
        """Return the progress of the job, without waiting."""
        return self._progress

    def results(self) -> list[Path]:
        """Wait as `wait` does, and return the paths of the results, in the order of the files.

        A file has a result if all its entries are done or dead; see `dead`. Raises the errors of `wait`.
        """
        return [self._folder / one.names.result for one in self.wait() if one.state.result]

    def dead(self) -> Iterator[DeadEntry]:
        """Wait as `wait` does, and yield the dead entries in the order of the files. Raises the errors of `wait`."""
        for one in self.wait():
            listed = self._folder / one.names.dead
            if one.state.dead and listed.is_file():
                with listed.open("rb") as lines:
                    for line in lines:
                        yield DeadEntry.of(json.loads(line), one.file)

    def cancel(self) -> None:
        """Stop the job, and wait until it has stopped. Finished work is kept.

        To continue the job on this machine, repeat the call of `run`; on a stack, use `parcelq resume`.
        """
        self._cancelled.set()
        self._thread.join()

    def _run(self, work: Work) -> None:
        try:
            self._results = work(self._saw, self._cancelled)
        except BaseException as error:  # noqa: BLE001 - the error is raised again where the job is waited for
            self._error = error

    def _saw(self, progress: Progress) -> None:
        self._progress = progress
