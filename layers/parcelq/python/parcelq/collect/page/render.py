"""Rendering a report as one HTML file of a bounded size, whatever the records hold."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from parcelq.collect.page.amounts import amount, duration, percent, size
from parcelq.collect.page.charts import bars
from parcelq.collect.page.figures import Figures, Group, Listed, Rate, cut
from parcelq.collect.page.html import element, json_block, table, text
from parcelq.collect.page.verdict import verdict
from parcelq.collect.report import Report
from parcelq.collect.source_map import Cell

MOST_BYTES: Final = 300_000
"""The most bytes of a page."""
_FITS: Final = ((6, 300), (6, 150), (4, 120), (3, 80), (2, 80), (1, 40), (0, 1))
"""Listed entries of a part of the map, and characters of each text; the first of these that fits is taken."""
_HOLES: Final = 50
_WARNINGS: Final = 20
_LONG: Final = 500
"""Characters of a text that is shown once."""


def report_page(report: Report, figures: Figures) -> bytes:
    """Return a report as a page of at most `MOST_BYTES` bytes.

    Args:
        report: the report, as it lies beside the result in JSON.
        figures: what the page shows beside it, from the same messages.
    """
    for per_cell, characters in _FITS:
        page = document(_name(report), content(report, _fitted(figures, per_cell, characters)))
        if len(page) <= MOST_BYTES:
            break
    return page


def document(title: str, main: str, *, script: str = "", style: str = "", policy: str = "") -> bytes:
    """Return a whole HTML file, which runs only the script of this package.

    Args:
        title: its title.
        main: HTML of its main element.
        script: what runs beside that script.
        style: what is added to the style of this package.
        policy: what is added to the content security policy. Without it the file loads nothing.
    """
    script, style = _asset("page.js") + script, _asset("page.css") + style
    allowed = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{style}</style>"
    )
    html = (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{main}<script>{script}</script></body></html>\n'
    )
    return html.encode("utf-8", "replace")


def content(report: Report, figures: Figures, banner: str = "", *, redrivable: bool = False) -> str:
    """Return the main element of a page.

    Args:
        report: the report, or what is known so far of a job that runs.
        figures: what the page shows beside it.
        banner: HTML above everything else, in place of the verdict.
        redrivable: whether dead records have buttons to run them again.
    """
    found = verdict(report)
    sentence = element("p", element("strong", f"{text(found.word)}."), f" {text(found.sentence)}")
    parts = [
        element("h1", text(_name(report))),
        element("p", text(cut(_address(report), _LONG)), class_="soft"),
        banner or element("div", sentence, class_=f"verdict {found.kind}", role="status", id="verdict"),
        _warnings(report.warnings),
        _tiles(report),
        _map(report, figures, "not done yet" if banner else "missing"),
        _reasons(report, figures, redrivable=redrivable),
        _holes(report),
        _rate(figures.rate) if figures.rate else "",
        _facts(report),
        json_block("data", _data(report, figures, redrivable=redrivable)),
    ]
    return element("main", *parts)


def _name(report: Report) -> str:
    return cut(unquote(report.source.partition("?")[0].rpartition("/")[2]) or report.result, _LONG)


def _address(report: Report) -> str:
    return unquote(report.source.partition("?")[0]).removeprefix("file://")


def _tiles(report: Report) -> str:
    entries = report.entries
    tiles = [
        ("Records read", entries.read, report.bytes_read),
        ("Done", entries.done, None),
        ("Failed", entries.dead, None),
        ("Missing", entries.missing, None),
        ("Records in the result", entries.written, report.bytes_written),
    ]
    shown = []
    for name, count, bytes_ in tiles:
        below = [element("small", text(size(bytes_)))] if bytes_ is not None else []
        if count is not None and entries.read and name in {"Done", "Failed", "Missing"}:
            below = [element("small", text(percent(count, entries.read)))]
        value = "unknown" if count is None else f"{count:,}"
        shown.append(element("div", element("dt", text(name)), element("dd", text(value), *below)))
    return element("dl", *shown, class_="tiles", id="counts")


def _map(report: Report, figures: Figures, missing: str) -> str:
    total = figures.cells[-1].end
    if not total and report.bytes_read is None:
        unknown = element("p", "It can be drawn when the size of the source is known.")
        return element("section", element("h2", "Map of the source"), unknown)
    cells = (_cell(number, cell, total) for number, cell in enumerate(figures.cells))
    each = size(total / len(figures.cells)) if total else "nothing"
    intro = (
        f"The source from its first byte to its last, {amount(total, 'byte')}; each part stands for about {each}. "
        "Choose a part to see its records. Arrow keys move; Page Down goes to the next part with a problem."
    )
    return element(
        "section",
        element("h2", "Map of the source", id="map-title"),
        element("p", text(intro), class_="soft"),
        element("ul", *(_legend(one, missing) for one in _KINDS), class_="legend"),
        element("div", *cells, class_="map", id="map", role="group", aria_labelledby="map-title"),
        element(
            "div", element("p", _summary(report, figures.cells)), id="chosen", role="region", aria_live="polite",
            aria_label="The chosen part",
        ),
    )  # fmt: skip


_FAILED: Final = "\u00d7"
_MISSING: Final = "\u2013"
_KINDS: Final = (
    ("done", "", "done"),
    ("dead", _FAILED, "some records failed"),
    ("dead much", _FAILED, "a quarter of it or more failed"),
    ("missing", _MISSING, "missing"),
    ("both", _FAILED, "some failed, some is missing"),
)


def _legend(kind: tuple[str, str, str], missing: str) -> str:
    name, mark, meaning = kind
    meaning = meaning.replace("missing", missing)
    return element("li", element("span", text(mark), class_=f"cell {name}", aria_hidden="true"), text(meaning))


def _class(cell: Cell) -> str:
    much = cell.kind == "dead" and cell.bad_share >= 0.25
    return "dead much" if much else cell.kind


def _cell(number: int, cell: Cell, total: int) -> str:
    mark = {"done": "", "missing": _MISSING}.get(cell.kind, _FAILED)
    return element(
        "button", text(mark), type="button", class_=f"cell {_class(cell)}", data_part=number, aria_pressed="false",
        title=_label(cell, total),
    )  # fmt: skip


def _label(cell: Cell, total: int) -> str:
    where = f"Bytes {cell.start:,} to {max(cell.start, cell.end - 1):,}"
    told = []
    if cell.dead:
        told.append(f"{amount(cell.dead, 'record')} failed")
    elif cell.dead_bytes:
        told.append("part of a record that failed")
    if cell.missing_bytes:
        told.append(f"{amount(cell.missing_bytes, 'byte')} missing")
    if not total:
        where = "The whole source, which is empty"
    return f"{where}: {', '.join(told) or 'all done'}"


def _summary(report: Report, cells: Sequence[Cell]) -> str:
    kinds = [cell.kind for cell in cells]
    parts = [
        f"{kinds.count('done'):,} of {amount(len(cells), 'part')} are all done",
        f"{kinds.count('dead') + kinds.count('both'):,} have records that failed" if report.entries.dead != 0 else "",
        f"{kinds.count('missing') + kinds.count('both'):,} lack something" if report.holes else "",
    ]
    return text("; ".join(filter(None, parts)) + ".")


def _reasons(report: Report, figures: Figures, *, redrivable: bool) -> str:
    if not figures.groups:
        return ""
    rows = [_group(group, figures.listed, redrivable=redrivable) for group in figures.groups]
    parts = [
        element("h2", "Why records failed"),
        table(["Records", "Reason", "First", "Last"], rows, class_="scroll", id="reasons", **_SCROLLS),
    ]
    if figures.other_kinds:
        other = (
            f"{amount(figures.other_entries, 'record')} more failed for {figures.other_kinds:,} or more other reasons."
        )
        parts.append(element("p", text(other), class_="soft"))
    if report.dead_list:
        parts.append(element("p", "All of them, with their content: ", _link(report)))
    return element("section", *parts)


_SCROLLS: Final = {"tabindex": "0", "role": "region", "aria_label": "Reasons"}


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
    return [f"{group.entries:,}", shown, text(group.first), text(group.last)]


def _example(one: Listed) -> str:
    where = f"Record {one.record:,}" if one.record is not None else f"Bytes {one.start:,} to {one.end - 1:,}"
    line = f", line {one.line:,}" if one.line is not None and one.line != one.record else ""
    file = f"{one.file}, " if one.file else ""
    return element("li", text(f"{file}{where}{line}: "), element("code", text(_shown(one))), _reason(one))


def _reason(one: Listed) -> str:
    return element("br") + element("code", text(one.reason), class_="soft")


def _shown(one: Listed) -> str:
    """The beginning of an entry, and its size where that is not all of it."""
    if not one.entry_bytes:
        return "(not kept)" if one.entries else "(empty)"
    if one.entry.endswith("…"):
        return f"{one.entry} ({amount(one.entry_bytes, 'byte')})"
    return one.entry or "(an empty line)"


def _link(report: Report) -> str:
    name = report.dead_list.rpartition("/")[2]
    return element("a", text(cut(name, _LONG)), href=f"./{quote(name)}")


def _holes(report: Report) -> str:
    if not report.holes:
        return ""
    total = report.bytes_read or report.holes[-1][1]
    rows = [
        [f"{start:,} to {end - 1:,}", f"{end - start:,}", text(percent(end - start, total))]
        for start, end in report.holes[:_HOLES]
    ]
    more = len(report.holes) - _HOLES
    return element(
        "section",
        element("h2", "What is missing"),
        table(["Bytes of the source", "How many", "Of the source"], rows, class_="scroll", id="holes"),
        element("p", text(f"And {amount(more, 'part')} more."), class_="soft") if more > 0 else "",
    )


def _rate(rate: Rate) -> str:
    each = [entries / rate.seconds for entries in rate.entries]
    labels = [
        f"{duration(number * rate.seconds)} to {duration((number + 1) * rate.seconds)}: {value:,.0f} records a second"
        for number, value in enumerate(each)
    ]
    whole = rate.seconds * len(each)
    mean = sum(rate.entries) / whole
    told = f"{mean:,.0f} records a second on average over {duration(whole)}, at most {max(each):,.0f}"
    chart = bars(each, labels, ("0 s", duration(whole)), f"{max(each):,.0f}/s", f"Rate over time: {told}")
    words = "Records of the result that were collected in a second, from the time the first came."
    return element(
        "section",
        element("h2", "Rate over time"),
        element("p", text(f"{told[0].upper()}{told[1:]}. {words}"), class_="soft"),
        chart,
        id="rate",
    )


def _facts(report: Report) -> str:
    facts = [
        ("Source", report.source),
        ("Version", report.version),
        ("Result", report.result),
        ("Format", _format(report)),
        ("Read as one stream", report.one_stream),
        ("Files", f"{len(report.files):,}, as one" if report.files else ""),
        ("Workflow and versions", ", ".join(report.workflows) or "none was named"),
        ("Steps", _steps(report)),
        ("Options", _options(report)),
        ("First result collected", _time(report.first)),
        ("Last result collected", _time(report.last)),
        ("Between them", _between(report.first, report.last)),
        ("Repeated messages dropped", f"{report.duplicates:,}"),
        ("State", report.state),
        ("Not in this report", "how long single runs took, and what the job cost"),
    ]
    shown = (element("dt", text(name)) + element("dd", text(cut(value, _LONG))) for name, value in facts if value)
    return element("section", element("h2", "About this job"), element("dl", *shown, class_="facts", id="facts"))


def _steps(report: Report) -> str:
    """The steps of a run on one machine, each with its settings file."""
    steps, settings = report.recipe.get("steps", ()), report.recipe.get("settings", ())
    files = [*settings, *[""] * len(steps)]
    return ", then ".join(
        f"{step} with {file}" if file else str(step) for step, file in zip(steps, files, strict=False)
    )


def _options(report: Report) -> str:
    """Other options of a run on one machine, as far as they were given."""
    others = {name: value for name, value in report.recipe.items() if name not in {"steps", "settings"}}
    return ", ".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in others.items())


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _format(report: Report) -> str:
    if not report.format:
        return "unknown: the upload did not say"
    return f"{report.format} (chosen by {report.format_chosen_by})" if report.format_chosen_by else report.format


def _time(iso: str) -> str:
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S %Z}"
    except ValueError:
        return iso


def _between(first: str, last: str) -> str:
    try:
        return duration((datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())
    except ValueError:
        return ""


def _warnings(warnings: Iterable[str]) -> str:
    shown = [element("li", text(cut(one, _LONG))) for one in warnings]
    if not shown:
        return ""
    more = element("li", f"and {len(shown) - _WARNINGS:,} more") if len(shown) > _WARNINGS else ""
    items = element("ul", *shown[:_WARNINGS], more)
    return element("section", element("h2", "Warnings"), element("div", items, class_="warnings", id="warnings"))


def _data(report: Report, figures: Figures, *, redrivable: bool) -> dict[str, Any]:
    """What the script shows of a part that is chosen."""
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
            "record": one.record,
            "line": one.line,
            "bytes": f"{one.start:,} to {one.end - 1:,}",
            "entry": _shown(one),
            "reason": one.reason,
            **({"range": [one.start, one.end]} if redrivable else {}),
        }
        for one in figures.listed
    ]
    return {"parts": parts, "records": records}


def _fitted(figures: Figures, per_cell: int, characters: int) -> Figures:
    """Return figures that list at most `per_cell` entries of each part of the map and of each reason, and shorter."""
    in_cell = [listed[:per_cell] for listed in figures.in_cell]
    groups = [replace(one, examples=one.examples[:per_cell]) for one in figures.groups]
    kept = sorted({at for some in (*in_cell, *(group.examples for group in groups)) for at in some})
    places = {at: place for place, at in enumerate(kept)}
    return replace(
        figures,
        listed=tuple(figures.listed[at].shortened(characters) for at in kept),
        in_cell=tuple(tuple(places[at] for at in listed) for listed in in_cell),
        groups=tuple(replace(one, examples=tuple(places[at] for at in one.examples)) for one in groups),
    )


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
