"""Errors of records, with the name of the source that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from parcelq.errors import CompressionError, RecordError, SourceError


@contextmanager
def naming_source(name: str) -> Iterator[None]:
    """Name the source whose bytes are not what they should be: raises SourceError for what is wrong with them."""
    try:
        yield
    except CompressionError as error:
        raise SourceError(name, error.reason) from error
    except RecordError as error:
        raise SourceError(name, str(error)) from error
