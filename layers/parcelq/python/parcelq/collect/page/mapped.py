"""Draws the map of the source on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parcelq.amounts import amount, size
from parcelq.collect.page.figures import Figures
from parcelq.collect.page.html import element, section, text
from parcelq.collect.report import Report
from parcelq.collect.source_map import Cell


def source_map(report: Report, figures: Figures, missing: str) -> str:
    """Return the section with the map of the source."""
    total = figures.cells[-1].end - figures.cells[0].start
    if not total:
        unknown = "The map needs the size of the source, which is not known yet."
        why = unknown if report.bytes_read is None else "The source has no records."
        return section("Map of the source", element("p", why))
    cells = (_cell(number, cell) for number, cell in enumerate(figures.cells))
    each = size(total / len(figures.cells))
    intro = f"The source from its first record to its last, {amount(total, 'byte')}; each part covers about {each}. "
    how = "Choose a part to see its records. Arrow keys move; Page Down goes to the next part with a problem."
    there = {_class(cell) for cell in figures.cells}
    return element(
        "section",
        element("h2", "Map of the source", id="map-title"),
        element("p", text(intro), element("span", text(how), class_="screen"), class_="soft"),
        element("ul", *(_legend(one, missing) for one in _KINDS if one[0] in there), class_="legend"),
        element("div", *cells, class_="map", id="map", role="group", aria_labelledby="map-title"),
        element(
            "div",
            element("p", _summary(report, figures.cells, missing)),
            id="chosen",
            role="region",
            aria_live="polite",
            aria_label="The chosen part",
        ),
    )  # fmt: skip


_FAILED, _MISSING = "\u00d7", "\u2013"
_KINDS: Final = (
    ("done", "", "done"),
    ("dead", _FAILED, "some records failed"),
    ("dead much", _FAILED, "a quarter or more failed"),
    ("missing", _MISSING, "missing"),
    ("both", _FAILED, "some records failed, some are missing"),
)


def _legend(kind: tuple[str, str, str], missing: str) -> str:
    name, mark, meaning = kind
    meaning = meaning.replace("missing", missing)
    return element("li", element("span", text(mark), class_=f"cell {name}", aria_hidden="true"), text(meaning))


def _class(cell: Cell) -> str:
    much = cell.kind == "dead" and cell.bad_share >= 0.25
    return "dead much" if much else cell.kind


def _cell(number: int, cell: Cell) -> str:
    mark = {"done": "", "missing": _MISSING}.get(cell.kind, _FAILED)
    return element(
        "button", text(mark), type="button", class_=f"cell {_class(cell)}", data_part=number, aria_pressed="false",
        title=_label(cell),
    )  # fmt: skip


def _label(cell: Cell) -> str:
    where = f"Bytes {cell.start:,} to {max(cell.start, cell.end - 1):,}"
    parts = []
    if cell.dead:
        parts.append(f"{amount(cell.dead, 'record')} failed")
    elif cell.dead_bytes:
        parts.append("part of a record that failed")
    if cell.missing_bytes:
        parts.append(f"{amount(cell.missing_bytes, 'byte')} missing")
    return f"{where}: {', '.join(parts) or 'all done'}"


def _summary(report: Report, cells: Sequence[Cell], missing: str) -> str:
    kinds = [cell.kind for cell in cells]
    done = kinds.count("done")
    parts = [
        f"{done:,} of {amount(len(cells), 'part')} {'is' if done == 1 else 'are'} done",
        f"{kinds.count('dead') + kinds.count('both'):,} with records that failed" if report.entries.dead != 0 else "",
        f"{kinds.count('missing') + kinds.count('both'):,} with something {missing}" if report.holes else "",
    ]
    return text("; ".join(filter(None, parts)) + ".")
