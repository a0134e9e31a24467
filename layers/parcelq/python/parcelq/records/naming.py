"""Adds the name of the source to errors about its records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from parcelq.errors import CompressionError, RecordError, SourceError


@contextmanager
def naming_source(name: str) -> Iterator[None]:
    """Convert errors about bytes or compression to a SourceError that names the source."""
    try:
        yield
    except CompressionError as error:
        raise SourceError(name, error.reason) from error
    except RecordError as error:
        raise SourceError(name, str(error)) from error
