"""Prices: one dated table, which a file of the user's may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from parcelq.errors import InvalidValueError, ParcelqError

_TABLE: Final = "prices.yaml"
_KEYS: Final = frozenset({"usd", "per", "date", "source"})


@dataclass(frozen=True, slots=True)
class Price:
    """What something costs.

    Attributes:
        usd: dollars for one.
        dated: the day on which it was published; None where nobody tells.
        source: where it was read.
    """

    usd: float
    dated: date | None
    source: str


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices.

    Attributes:
        region: the region that they are of.
        of: by name.
    """

    region: str
    of: Mapping[str, Price]

    @property
    def days(self) -> tuple[date, date] | None:
        """The days of the oldest and the newest price; None where no price is dated."""
        days = [price.dated for price in self.of.values() if price.dated]
        return (min(days), max(days)) if days else None


def load_prices(path: Path | None = None) -> Prices:
    """Read the table, changed by the rows of a file.

    Args:
        path: a YAML file in the form of the table; it needs only the rows that it changes.

    Raises:
        ParcelqError: the file cannot be read, is no YAML, or has rows that the table has not, or no prices.
    """
    prices = _read(_TABLE, (files(__package__) / _TABLE).read_text(encoding="utf-8"))
    if path is None:
        return prices
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParcelqError(f"prices {str(path)!r} cannot be read: {error}") from None
    changed = _read(str(path), text)
    if unknown := sorted(changed.of.keys() - prices.of.keys()):
        raise InvalidValueError(f"price in {path}", unknown[0], f"one of {', '.join(prices.of)}")
    return Prices(changed.region or prices.region, {**prices.of, **changed.of})


def _read(name: str, text: str) -> Prices:
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ParcelqError(f"prices {name!r} are no YAML: {' '.join(str(error).split())}") from None
    rows = content.get("prices") if isinstance(content, dict) else None
    if not isinstance(rows, dict):
        raise ParcelqError(f"prices {name!r} must have the key 'prices' with rows, as the table of parcelq has")
    return Prices(
        str(content.get("region") or ""), {str(key): _price(f"{name}: {key}", row) for key, row in rows.items()}
    )


def _price(name: str, row: Any) -> Price:
    if not isinstance(row, dict) or not row.keys() <= _KEYS:
        raise InvalidValueError(name, row, f"a row of {', '.join(sorted(_KEYS))}")
    usd, per, dated = _number(row.get("usd")), _number(row.get("per", 1)), row.get("date")
    if usd is None or usd < 0:
        raise InvalidValueError(f"{name}: usd", row.get("usd"), "a number of dollars, 0 or more")
    if per is None or per <= 0:
        raise InvalidValueError(f"{name}: per", row.get("per"), "a number above 0")
    if dated is not None and not isinstance(dated, date):
        raise InvalidValueError(f"{name}: date", dated, "a day such as 2026-09-11")
    return Price(usd / per, dated, str(row.get("source") or ""))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
