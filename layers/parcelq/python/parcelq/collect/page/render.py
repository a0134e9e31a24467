"""Renders a report as one HTML file of a bounded size, whatever the records contain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

from parcelq.amounts import amount, percent, size
from parcelq.collect.page.document import document
from parcelq.collect.page.facts import LONG, costs, facts, rate_chart, run_durations
from parcelq.collect.page.figures import Figures, Group, Listed
from parcelq.collect.page.html import element, json_block, section, table, text
from parcelq.collect.page.mapped import source_map
from parcelq.collect.page.verdict import verdict
from parcelq.collect.report import Report
from parcelq.escaping import cut

MOST_BYTES: Final = 300_000
"""How many bytes a page may have."""
_FITS: Final = ((6, 300), (6, 150), (4, 120), (3, 80), (2, 80), (1, 40), (0, 1))
"""Entries that are listed per part of the map, and characters of each text; the first pair that fits is used."""
_HOLES: Final = 50
_WARNINGS: Final = 20


def report_page(report: Report, figures: Figures) -> bytes:
    """Return a report as a page of at most `MOST_BYTES` bytes."""
    for per_cell, characters in _FITS:
        page = document(_name(report), content(report, _fitted(figures, per_cell, characters)))
        if len(page) <= MOST_BYTES:
            break
    return page


def content(report: Report, figures: Figures, banner: str = "", *, redrivable: bool = False) -> str:
    """Return the main element of a page: of a report, or of the facts known so far about a running job.

    Args:
        banner: HTML that is shown at the top, instead of the sentence about the outcome.
        redrivable: whether the page has buttons that run dead records again.
    """
    found, missing = verdict(report), "not done yet" if banner and report.holes else "missing"
    sentence = element("p", element("strong", f"{text(found.word)}."), f" {text(found.sentence)}")
    parts = [
        element("h1", text(_name(report))),
        element("p", text(cut(_address(report), LONG)), class_="soft"),
        banner or element("div", sentence, class_=f"verdict {found.kind}", role="status", id="verdict"),
        _warnings(report.warnings),
        _tiles(report, missing, unknown="" if banner else "unknown"),
        source_map(report, figures, missing),
        _reasons(report, figures, live=bool(banner), redrivable=redrivable),
        _holes(report, missing),
        rate_chart(figures.rate) if figures.rate else "",
        run_durations(report),
        costs(report),
        facts(report),
        json_block("data", _data(report, figures, redrivable=redrivable)),
    ]
    return element("main", *parts)


def _name(report: Report) -> str:
    return cut(unquote(report.source.partition("?")[0].rpartition("/")[2]) or report.result, LONG)


def _address(report: Report) -> str:
    return unquote(report.source.partition("?")[0]).removeprefix("file://")


def _tiles(report: Report, missing: str, unknown: str) -> str:
    """Return the tiles with counts. For an unknown count, show the text `unknown`, or no tile if this text is empty."""
    entries = report.entries
    tiles = [
        ("Records read", entries.read, report.bytes_read),
        ("Done", entries.done, None),
        ("Failed", entries.dead, None),
        (missing.capitalize(), entries.missing, None),
        ("Records in the result", entries.written, report.bytes_written),
    ]
    shown = []
    for name, count, bytes_ in tiles:
        below = [element("small", text(size(bytes_)))] if bytes_ is not None else []
        if count is not None and entries.read and bytes_ is None:
            below = [element("small", text(percent(count, entries.read)))]
        value = unknown if count is None else f"{count:,}"
        if not value:
            continue
        shown.append(element("div", element("dt", text(name)), element("dd", text(value), *below)))
    return element("dl", *shown, class_="tiles", id="counts")


def _reasons(report: Report, figures: Figures, *, live: bool, redrivable: bool) -> str:
    if not figures.groups:
        return ""
    rows = [_group(group, figures.listed, redrivable=redrivable) for group in figures.groups]
    parts = [table("reasons", "Reasons", ["Reason", "Failed records", "First record", "Last record"], rows)]
    if figures.other_kinds:
        other = (
            f"{amount(figures.other_entries, 'record')} more failed for {figures.other_kinds:,} or more other reasons."
        )
        parts.append(element("p", text(other), class_="soft"))
    if report.dead_list:
        place = element("code", text(cut(report.dead_list, LONG))) if live else _link(report)
        parts.append(element("p", f"All of them, with their content: {place}"))
    return section("Why records failed", *parts)


def _group(group: Group, listed: Sequence[Listed], *, redrivable: bool) -> list[str]:
    examples = [_example(listed[number]) for number in group.examples if number < len(listed)]
    shown = element("code", text(group.reason))
    if examples:
        count = "an example" if len(examples) == 1 else f"{len(examples)} examples"
        shown += element("details", element("summary", count), element("ul", *examples))
    if redrivable:
        count = amount(group.entries, "record")
        shown += element(
            "p",
            element(
                "button", f"Run {text(count)} again", type="button", class_="act", data_action="redrive",
                data_kind=group.kind, data_ask=f"Run the {count} again that failed with: {group.reason}",
            ),
        )  # fmt: skip
    return [shown, f"{group.entries:,}", text(group.first), text(group.last)]


def _example(one: Listed) -> str:
    where = f"Bytes {one.start:,} to {one.end - 1:,}"
    if one.number:
        where = f"{'Records' if one.record is None else 'Record'} {one.number}"
    line = f", line {one.line:,}" if one.line is not None and one.line != one.record else ""
    file = f"{one.file}, " if one.file else ""
    reason = element("br") + element("code", text(one.reason), class_="soft")
    return element("li", text(f"{file}{where}{line}: "), element("code", text(_shown(one))), reason)


def _shown(one: Listed) -> str:
    """Return the beginning of an entry, with the entry's size if the entry was shortened."""
    if not one.entry_bytes:
        return "(not kept)" if one.entries else "(empty)"
    if one.entry.endswith("…"):
        return f"{one.entry} ({amount(one.entry_bytes, 'byte')})"
    return one.entry or "(an empty line)"


def _link(report: Report) -> str:
    name = report.dead_list.rpartition("/")[2]
    return element("a", text(cut(name, LONG)), href=f"./{quote(name)}")


def _holes(report: Report, missing: str) -> str:
    if not report.holes:
        return ""
    total = report.bytes_read or report.holes[-1][1]
    rows = [
        [f"{start:,} to {end - 1:,}", f"{end - start:,}", text(percent(end - start, total))]
        for start, end in report.holes[:_HOLES]
    ]
    more = len(report.holes) - _HOLES
    return section(
        f"What is {missing}",
        table("holes", f"What is {missing}", ["Bytes of the source", "How many", "Share"], rows),
        element("p", text(f"And {amount(more, 'part')} more."), class_="soft") if more > 0 else "",
    )


def _warnings(warnings: Iterable[str]) -> str:
    shown = [element("li", text(cut(one, LONG))) for one in warnings]
    if not shown:
        return ""
    more = element("li", f"and {len(shown) - _WARNINGS:,} more") if len(shown) > _WARNINGS else ""
    items = element("ul", *shown[:_WARNINGS], more)
    return section("Warnings", element("div", items, class_="warnings", id="warnings"))


def _data(report: Report, figures: Figures, *, redrivable: bool) -> dict[str, Any]:
    """Return the data from which the script shows details of a chosen part of the map."""
    parts: dict[str, Any] = {}
    name = report.dead_list.rpartition("/")[2]
    for number, (cell, listed) in enumerate(zip(figures.cells, figures.in_cell, strict=True)):
        if cell.kind == "done":
            continue
        part: dict[str, Any] = {"records": listed}
        shown = sum(figures.listed[at].entries for at in listed)
        if cell.dead > shown:
            place = f"; all are in {cut(name, 200)}" if name else ""
            part["more"] = f"{shown:,} of {cell.dead:,} records that failed here are shown{place}."
        if cell.holes:
            part["missing"] = [f"{start:,} to {end - 1:,}" for start, end in cell.holes]
        parts[str(number)] = part
    records = [
        {
            **({"file": one.file} if one.file else {}),
            "record": one.number or f"bytes {one.start:,} to {one.end - 1:,}",
            "line": one.line,
            "entry": _shown(one),
            "reason": one.reason,
            **({"range": [one.start, one.end]} if redrivable else {}),
        }
        for one in figures.listed
    ]
    return {"parts": parts, "records": records}


def _fitted(figures: Figures, per_cell: int, characters: int) -> Figures:
    """Return figures with shortened texts, and with at most `per_cell` entries per part of the map and per reason."""
    in_cell = [listed[:per_cell] for listed in figures.in_cell]
    groups = [one._replace(examples=one.examples[:per_cell]) for one in figures.groups]
    kept = sorted({at for some in (*in_cell, *(group.examples for group in groups)) for at in some})
    places = {at: place for place, at in enumerate(kept)}
    return figures._replace(
        listed=tuple(figures.listed[at].shortened(characters) for at in kept),
        in_cell=tuple(tuple(places[at] for at in listed) for listed in in_cell),
        groups=tuple(one._replace(examples=tuple(places[at] for at in one.examples)) for one in groups),
    )
