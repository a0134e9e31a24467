"""Headers: taking one off the beginning of a source, and off every output of a step."""

from __future__ import annotations

from parcelq.errors import RecordError
from parcelq.readable import Readable
from parcelq.records.cutting import BLOCK_BYTES
from parcelq.records.format import Format

NO_HEADER = "writes no header, or another one; set output_header: false"
"""The error of an output that does not begin with its stage's header."""


class AfterHeader:
    """Reads bytes that were read already, then the rest of a stream."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        if not self._first:
            return self._stream.read(size)
        block, self._first = self._first[:size], self._first[size:]
        return block


def split_header(stream: Readable, fmt: Format) -> tuple[bytes, Readable]:
    """Read the header at a stream's beginning.

    Returns:
        The header (empty where the format has none, or the stream is empty), and a stream of the entries after it.

    Raises:
        RecordError: there is no header that fits the format.
    """
    data, last = b"", not fmt.header
    while True:
        end = fmt.header_end(data, last)
        if end is not None:
            return data[:end], AfterHeader(data[end:], stream) if data else stream
        block = stream.read(BLOCK_BYTES)
        data, last = data + block, not block


def stored_header(output: bytes, fmt: Format) -> bytes:
    r"""The header of a stage's first output, as it is to be stored and put before the result: always with a line end.

    Args:
        output: the first bytes of the output, all of it or at least `MAX_HEADER_BYTES`.
        fmt: the output's format.

    Raises:
        RecordError: there is no header that fits the format.
    """
    header = output[: fmt.header_end(output, last=True)]
    return header if header.endswith(b"\n") or not header else header + b"\n"


def after_header(output: bytes, fmt: Format, header: bytes) -> int:
    """Find where an output's entries begin, after the stage's header. An output of no bytes at all has no header.

    Args:
        output: the first bytes of the output, all of it or at least `MAX_HEADER_BYTES`.
        fmt: the output's format.
        header: the stage's header, as `stored_header` gave it.

    Raises:
        RecordError: the output does not begin with exactly that header.
    """
    if not output:
        return 0
    # guard[True]: an output's header is compared before it is taken off
    if output.startswith(header) and fmt.header_end(output, last=True) == len(header):
        return len(header)
    if output == header.removesuffix(b"\n"):  # a header alone, without its line end
        return len(output)
    raise RecordError(str(fmt), NO_HEADER, record=0, line=1, offset=0)
