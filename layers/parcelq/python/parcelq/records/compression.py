"""Reads sources compressed by gzip, bzip2, xz and Zstandard, with one or many members.

Decoders are imported only when they are needed. Python contains Zstandard from version 3.14. For earlier versions,
Zstandard comes from `backports.zstd`, because the wheel of `backports.zstd` has half a megabyte, but the wheel of
`zstandard` has more than five megabytes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from parcelq.errors import CompressionError
from parcelq.limits import KIB, MIB
from parcelq.readable import Readable
from parcelq.records.headers import AfterHeader

_READ_BYTES: Final = 256 * KIB
_MAX_MEMORY: Final = 256 * MIB
"""How much memory a decoder may use, at most. Sources that need more memory are refused. The strongest usual settings,
`xz -9` and `zstd --ultra`, need 65 and 128 MiB, but a file can require gigabytes.
"""
_ZSTD_WINDOW_LOG: Final = 27
"""The binary logarithm of 128 MiB, the limit of the zstd command without `--long`."""
_MAGIC_BYTES: Final = 10
_TEXT_BYTES: Final = 8 * KIB
_BINARY: Final = (
    "{!r} has NUL bytes, so it looks like a binary file or UTF-16 text, but it was cut into records like UTF-8 text; "
    "convert it, or name its record format with --format, or run a list of such files instead, with one name a line"
)


class _Coding(NamedTuple):
    """A compression format, with a pattern for the first bytes of every member of a file.

    If it is lenient, its own program only warns about other bytes after the last member.
    """

    name: str
    suffix: str
    begin: bytes
    magic: re.Pattern[bytes]
    lenient: bool


_CODINGS: Final = (
    _Coding("gzip", ".gz", b"\x1f\x8b\x08", re.compile(rb"\x1f\x8b\x08"), lenient=True),
    _Coding("bzip2", ".bz2", b"BZh", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), lenient=True),
    _Coding("xz", ".xz", b"\xfd7zXZ\x00", re.compile(rb"\xfd7zXZ\x00"), lenient=False),
    _Coding(
        "zstd", ".zst", b"\x28\xb5\x2f\xfd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), lenient=False
    ),
)
_BY_SUFFIX: Final[Mapping[str, _Coding]] = {coding.suffix: coding for coding in _CODINGS}


class Opened(NamedTuple):
    """A readable source, decompressed if necessary.

    Attributes:
        coding: `gzip`, `bzip2`, `xz` or `zstd`; empty if the source is not compressed.
        warnings: a warning about text that looks binary, and the warnings that the program of the compression would
            give. The list is complete when the stream was read to its end.
    """

    stream: Readable
    coding: str
    warnings: list[str]


def is_compressed(name: str) -> bool:
    """Return whether the name of a file says that the file is compressed."""
    return without_suffix(name) != name


def begins_compressed(path: Path) -> bool:
    """Return whether a file begins like a compressed file, whatever its name. Raises OSError if reading fails."""
    with path.open("rb") as file:
        head = file.read(_MAGIC_BYTES)
    return any(coding.magic.match(head) for coding in _CODINGS)


def without_suffix(name: str) -> str:
    """Return a name or path without the suffix of a compression: `x.csv.GZ` becomes `x.csv`, but `.gz` stays."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in _BY_SUFFIX and name.endswith(suffix) else name


def open_source(stream: Readable, name: str, *, compressed: bool = False, is_text: bool = False) -> Opened:
    """Decompress a stream if its first bytes say that the stream is compressed, whatever the source's name.

    `compressed` says that the source must be compressed, for example because its Content-Encoding says so. `is_text`
    says that the source should be text, because the user named no format.

    Raises:
        CompressionError: the source is not compressed, but should be, according to its name or to `compressed`. Also
            raised while the stream is read, if the data is damaged or ends too early.
    """
    head = read_at_least(stream, b"", _MAGIC_BYTES)
    opened = Opened(AfterHeader(head, stream), "", [])
    for coding in _CODINGS:
        if coding.magic.match(head):
            opened = opened._replace(
                stream=_Decompressed(opened.stream, name, coding, opened.warnings), coding=coding.name
            )
            break
    else:
        if compressed or is_compressed(name):
            named = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
            what = named.name if named else "compressed"
            raise CompressionError(
                name, f"should be {what}, but is empty" if not head else f"is not {what}: it begins with {head!r}"
            )
    if is_text:
        head = read_at_least(opened.stream, b"", _TEXT_BYTES)
        opened = opened._replace(stream=AfterHeader(head, opened.stream))
        if b"\0" in head:
            opened.warnings.append(_BINARY.format(name))
    return opened


class _Decompressed:
    """Reads a compressed stream, member after member."""

    def __init__(self, stream: Readable, name: str, coding: _Coding, warnings: list[str]) -> None:
        self._stream = stream
        self._name = name
        self._coding = coding
        self._warnings = warnings
        self._pending = b""
        self._decoder, self._errors = _decoder(coding)
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            decoder = self._decoder
            if decoder is None:
                self._next_member()
                continue
            data = b""
            if decoder.needs_input:
                data, self._pending = self._pending or self._stream.read(_READ_BYTES), b""
                if not data:
                    raise self._broken("ends too early; it was truncated")
            try:
                block: bytes = decoder.decompress(data, size)
            except self._errors as error:
                raise self._broken(f"is broken: {error}") from None
            if decoder.eof:
                self._decoder, self._pending = None, decoder.unused_data
            if block:
                return block
        return b""

    def _next_member(self) -> None:
        """Begin the next member, after padding with zeros. If other bytes follow, end with a warning or error."""
        pending = self._pending.lstrip(b"\0")
        while not pending:
            block = self._stream.read(_READ_BYTES)
            if not block:
                self._ended = True
                return
            pending = block.lstrip(b"\0")
        self._pending = read_at_least(self._stream, pending, _MAGIC_BYTES)
        if self._coding.magic.match(self._pending):
            self._decoder, self._errors = _decoder(self._coding)
        elif len(self._pending) < _MAGIC_BYTES and self._coding.begin.startswith(
            self._pending[: len(self._coding.begin)]
        ):
            raise self._broken("ends too early; it was truncated")
        elif self._coding.lenient:
            self._ended = True
            self._warnings.append(
                f"{self._name!r} has other bytes after its {self._coding.name} data, which were ignored"
            )
        else:
            raise self._broken("has other bytes after its compressed data")

    def _broken(self, reason: str) -> CompressionError:
        return CompressionError(self._name, f"({self._coding.name}) {reason}")


class _Gzip:
    """A decoder for one gzip member, with the methods of the classes in bz2, lzma and Python 3.14's zstd.

    zlib checks the checksum and length of the member.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._tail = b""

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def needs_input(self) -> bool:
        return not self._tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decoder.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        block: bytes = self._decoder.decompress(self._tail + data, max_length)
        self._tail = self._decoder.unconsumed_tail
        return block


def _decoder(coding: _Coding) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return a decoder for one member, and the exceptions that the decoder raises."""
    if coding.suffix == ".gz":
        import zlib

        return _Gzip(zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)), (zlib.error,)
    if coding.suffix == ".bz2":
        import bz2

        return bz2.BZ2Decompressor(), (OSError, ValueError)
    if coding.suffix == ".xz":
        import lzma

        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY), (lzma.LZMAError,)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options), (zstd.ZstdError,)


def read_at_least(stream: Readable, data: bytes, size: int) -> bytes:
    """Read `size` bytes, or fewer if the stream ends before."""
    while len(data) < size and (block := stream.read(size - len(data))):
        data += block
    return data
