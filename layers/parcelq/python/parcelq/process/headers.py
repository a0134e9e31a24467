"""Headers of outputs: all runs of a stage write the same header, which is removed from each output.

The first run of a stage stores its header by a conditional write. Every run compares its own header with the stored
header, so that only the stage's header is ever removed from an output.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from parcelq.errors import ConflictError, NotFoundError, RecordError
from parcelq.lineage.source import job_id, workflow_name
from parcelq.records import LINES, MAX_HEADER_BYTES, Format, after_header, stored_header
from parcelq.steps.data import Output
from parcelq.steps.settings import StepSettings
from parcelq.store.store import Store
from parcelq.topics.attributes import FORMAT, HEADER
from parcelq.topics.header import header_of_stage, key_of_stage
from parcelq.upload.parcels import MAX_BODY_BYTES

_DOUBTFUL: Final = (
    "begins its output with {!r}, but writes nothing for a header without records; if this line is a record, set "
    "output_header: false in the step's settings; if it is a header, write it also if there are no records"
)
_SHOWN: Final = 60
_MOST_JOBS: Final = 256
"""How many headers are kept in memory, at most; other headers are read again."""


class Written(NamedTuple):
    """The layout of a run's output.

    Attributes:
        start: the offset of the output's first entry, after the header.
        header: the attribute `Header` of the output's messages; empty if the output has no header.
        body_bytes: how many bytes the header and the body of a message may have together, at most.
    """

    format: Format = LINES
    start: int = 0
    header: str = ""
    body_bytes: int = MAX_BODY_BYTES

    @property
    def room(self) -> int:
        """How many bytes the body of a message of the output may have, at most."""
        return self.body_bytes - len(self.header)

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes that all messages of the output get."""
        fmt = {} if self.format == LINES else {FORMAT: str(self.format)}
        return {**fmt, HEADER: self.header} if self.header else fmt


NOTHING_SAID: Final = Written()


class StageHeaders:
    """The headers of the outputs that one stage publishes on `topic`. Without a store, only this process knows them."""

    def __init__(
        self,
        settings: StepSettings,
        topic: str,
        workflow: str = "",
        store: Store | None = None,
        body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._settings = settings
        self._written = partial(Written, body_bytes=body_bytes)
        self._topic = topic
        self._workflow = workflow
        self._store = store
        self._known: dict[str, bytes] = {}

    def of(
        self, output: Output, source: str, fmt: Format, given: bytes = b"", drops_it: Callable[[], bool] = bool
    ) -> Written:
        """Return the layout of a step's output. Without a source, which only an input with lineage has, no header is
        removed.

        Args:
            given: the header of the step's input.
            drops_it: a function that returns whether the step writes nothing for this header without records. It is
                called only for the stage's first output, if the first line of this output is not the header `given`.
                Without this check, a step that drops the header would lose the first record of each run if all of these
                records are equal.

        Raises:
            RecordError: if the output has no valid header, or its header differs from that of the stage's first output,
                or the step writes no header.
        """
        fmt = self._settings.output or fmt
        if not fmt.header:
            return self._written(fmt)
        if not source or not self._settings.output_header:
            return self._written(replace(fmt, header=0))  # type: ignore[type-var]
        with output.open("rb") as file:
            head = file.read(MAX_HEADER_BYTES + 1)
        key = key_of_stage(job_id(source, workflow_name(self._workflow)), self._topic)
        if not head:
            return self._written(fmt)
        header = self._agreed(key, partial(self._first, head, fmt, given, drops_it))
        return self._written(fmt, after_header(head, fmt, header), header_of_stage(header, key))

    def _agreed(self, key: str, first: Callable[[], bytes]) -> bytes:
        """Return the header of the stage's first output. If it is this output, `first` returns the header."""
        known = self._known.get(key)  # read once: another thread may remove the header
        if known is None:
            header = self._shared(self._store, key, first) if self._store else first()
            for old in list(self._known)[: 1 - _MOST_JOBS]:
                self._known.pop(old, None)
            return self._known.setdefault(key, header)
        return known

    def _first(self, head: bytes, fmt: Format, given: bytes, drops_it: Callable[[], bool]) -> bytes:
        header = stored_header(head, fmt)
        # guard[False]: a record is not taken for the header that a step has removed
        if given and header.rstrip(b"\r\n") != given.rstrip(b"\r\n") and drops_it():
            line = header.splitlines()[0].decode(errors="replace")[:_SHOWN]
            raise RecordError(str(fmt), _DOUBTFUL.format(line), record=0, line=1, offset=0)
        return header

    def _shared(self, store: Store, key: str, first: Callable[[], bytes]) -> bytes:
        with suppress(NotFoundError):
            return store.read(key)
        header = first()
        try:
            # guard[store.put(key, header)]: all runs of a stage agree on one header
            store.put(key, header, if_absent=True)
        except ConflictError:
            return store.read(key)
        return header
