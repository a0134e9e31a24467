"""The prices of AWS: a table of prices with dates, which a user's file can change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

from parcelq.checks import Check, Wrong, checked, of_type, optional, text
from parcelq.errors import ParcelqError, SettingsError

_TABLE: Final = "prices.yaml"


class Price(NamedTuple):
    """A price in dollars for one unit, the day when AWS published the price (None if unknown), and its source."""

    usd: float
    dated: date | None = None
    source: str = ""

    def document(self) -> dict[str, Any]:
        """The price as JSON values."""
        return {"usd": self.usd, "date": self.dated and str(self.dated), "source": self.source}


class Prices(NamedTuple):
    """The prices of one region. Each price has a name."""

    region: str
    of: Mapping[str, Price]

    @property
    def days(self) -> tuple[date, date] | None:
        """The publication days of the oldest and the newest price; None if no price has a day."""
        days = [price.dated for price in self.of.values() if price.dated]
        return (min(days), max(days)) if days else None


def load_prices(path: Path | None = None) -> Prices:
    """Read the table of prices, and replace the prices that a YAML file of the same form contains.

    Raises:
        ParcelqError: if the file cannot be read, is not YAML, has rows that the table does not have, or has no prices.
    """
    prices = _table()
    if path is None:
        return prices
    try:
        changed = _read(str(path), path.read_text(encoding="utf-8"), prices.of)
    except (OSError, UnicodeDecodeError) as error:
        raise ParcelqError(f"prices {str(path)!r} cannot be read: {getattr(error, 'strerror', error)}") from None
    return Prices(changed.region or prices.region, {**prices.of, **changed.of})


@cache
def _table() -> Prices:
    return _read(_TABLE, (files(__package__) / _TABLE).read_text(encoding="utf-8"))


def _read(name: str, content: str, known: Mapping[str, Price] | None = None) -> Prices:
    import yaml

    try:
        given = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise ParcelqError(f"prices {name!r} are no YAML: {' '.join(str(error).split())}") from None
    rows = given.get("prices") if isinstance(given, dict) else None
    if not isinstance(rows, dict):
        raise ParcelqError(f"prices {name!r} must have the key 'prices' with rows, like the table of parcelq")
    prices, problems = checked(rows, dict.fromkeys(known or map(str, rows), _price))
    if problems:
        raise SettingsError(f"prices {name!r}", problems)
    return Prices(str(given.get("region") or ""), prices)


def _price(row: object) -> Price:
    if not isinstance(row, dict):
        raise Wrong(f"a mapping with the keys {', '.join(_KEYS)}")
    values, problems = checked(row, _KEYS, ["usd"])
    if problems:
        raise Wrong(f"a price; {'; '.join(problems)}")
    return Price(values["usd"] / values.get("per", 1.0), values.get("date"), values.get("source") or "")


_KEYS: Final[Mapping[str, Check]] = {
    "usd": of_type((int, float), "a number of dollars, 0 or more", lambda value: 0 <= value < math.inf),
    "per": of_type((int, float), "a number above 0", lambda value: 0 < value < math.inf),
    "date": optional(of_type(date, "a day such as 2026-09-11")),
    "source": optional(text),
}
