"""Headers: removes a header from the beginning of a source, and from every output of a step."""

from __future__ import annotations

from parcelq.errors import RecordError
from parcelq.readable import Readable
from parcelq.records.cutting import BLOCK_BYTES
from parcelq.records.format import Format

NO_HEADER = "writes no header, or a different one; set output_header: false in the step's settings"
"""The error for an output that does not begin with its stage's header."""


class AfterHeader:
    """A stream of bytes that were already read from another stream, and then of that stream's remaining bytes."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if not self._first:
            return self._stream.read(size)
        block, self._first = self._first[:size], self._first[size:]
        return block


def split_header(stream: Readable, fmt: Format) -> tuple[bytes, Readable]:
    """Return the header at a stream's beginning, empty if there is none, and a stream of the entries after the header.

    Raises RecordError if the header is missing or invalid.
    """
    data, last = b"", not fmt.header
    while True:
        end = fmt.header_end(data, last)
        if end is not None:
            return data[:end], AfterHeader(data[end:], stream) if data else stream
        block = stream.read(BLOCK_BYTES)
        data, last = data + block, not block


def stored_header(output: bytes, fmt: Format) -> bytes:
    """Return the header of a stage's first output, always with a line end, as it is stored and added to the result.

    `output` has at least the first `MAX_HEADER_BYTES` bytes of the output. Raises RecordError if the header is missing
    or invalid.
    """
    header = output[: fmt.header_end(output, last=True)]
    return header if header.endswith(b"\n") or not header else header + b"\n"


def after_header(output: bytes, fmt: Format, header: bytes) -> int:
    """Return the offset of the first entry of an output, after the stage's header. An empty output has no header.

    `output` has at least the first `MAX_HEADER_BYTES` bytes of the output. `header` comes from `stored_header`. Raises
    RecordError if the output does not begin with exactly this header.
    """
    if not output:
        return 0
    # guard[True]: an output's header is compared before it is taken off
    if output.startswith(header) and fmt.header_end(output, last=True) == len(header):
        return len(header)
    if output == header.removesuffix(b"\n"):  # the output is only a header without its line end
        return len(output)
    raise RecordError(str(fmt), NO_HEADER, record=0, line=1, offset=0)
