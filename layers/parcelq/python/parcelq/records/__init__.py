"""Record formats: define entries, and cut sources and bodies of messages at the ends of entries. Pure functions.

- `choose` finds the format for a file's name, a short text or a setting.
- `format.Format` is the interface of formats: `count`, `split` and `locate` for bodies, `header_end`, `ranges`.
- `cutting` cuts a stream into parcels. `ranges` reads a part of a stream. `headers`, `compression` and `places` handle
  headers, compressed sources, and the numbers of records and lines.
"""

from parcelq.records.choose import LINES, by_name, from_settings, parse
from parcelq.records.cutting import BLOCK_BYTES, MAX_ENTRY_BYTES, Parcel, cut, cut_bytes, fit_messages
from parcelq.records.format import BOM, MAX_HEADER_BYTES, Entry, Format
from parcelq.records.headers import NO_HEADER, after_header, split_header, stored_header
from parcelq.records.places import Place, places
from parcelq.records.ranges import FirstBytes, RangeReader, flips

__all__ = [
    "BLOCK_BYTES",
    "BOM",
    "LINES",
    "MAX_ENTRY_BYTES",
    "MAX_HEADER_BYTES",
    "NO_HEADER",
    "Entry",
    "FirstBytes",
    "Format",
    "Parcel",
    "Place",
    "RangeReader",
    "after_header",
    "by_name",
    "cut",
    "cut_bytes",
    "fit_messages",
    "flips",
    "from_settings",
    "parse",
    "places",
    "split_header",
    "stored_header",
]
