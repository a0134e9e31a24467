"""Writes the table of results as JSON, as a picture and in Markdown, and inserts it into the benchmarks' README."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.cases import CASES
from benchmarks.harness import Figure, Spread, Target
from benchmarks.tools import ROOT, python_with, run

_DATA, _TABLE, _PICTURE = "results.json", "table.md", "results.png"
RESULTS: Final = ROOT / "benchmarks" / "results"
_PAGE: Final = ROOT / "benchmarks" / "README.md"
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
_HEAD: Final = (
    "| measured | compared with | ratio (lowest to highest) | figures | target |",
    "| --- | --- | --- | --- | --- |",
)

Results = dict[str, Any]
"""The content of the JSON: `cases` maps names to the figures of a case, and the time and machine of its measurement."""


def load(folder: Path) -> Results:
    """Return the results of earlier runs, which are empty if there was no earlier run."""
    path = folder / _DATA
    return json.loads(path.read_bytes()) if path.exists() else {"cases": {}}


def add(results: Results, case: str, figures: Sequence[Figure], *, left_out: bool = False) -> None:
    """Replace the earlier figures of a case.

    Args:
        results: all results, which this changes in place.
        case: the case's name.
        figures: the new figures.
        left_out: whether the figures only say why the case could not be measured; if so, earlier figures stay.
    """
    cases = results["cases"]
    if left_out and _measured(cases.get(case)):
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    cases[case] = {"when": when, "machine": _machine(), "figures": [asdict(one) for one in figures]}
    results["cases"] = {name: cases[name] for name in CASES if name in cases}


def save(results: Results, folder: Path) -> list[Path]:
    """Write the results into a folder, as JSON and in Markdown, and return the paths of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    data, table = folder / _DATA, folder / _TABLE
    data.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    table.write_text(markdown(results))
    return [data, table]


def draw(folder: Path) -> Path:
    """Draw the results that were saved in a folder, and return the path of the picture.

    Raises:
        MissingToolError: if matplotlib is not installed.
        RuntimeError: if the picture could not be drawn.
    """
    picture = folder / _PICTURE
    run([python_with("matplotlib"), str(Path(__file__).with_name("picture.py")), str(folder / _DATA), str(picture)])
    return picture


def quote(results: Results) -> None:
    """Write the table into the README of the benchmarks."""
    before, begin, rest = _PAGE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{_PAGE.relative_to(ROOT)} must have the lines {_BEGIN} and {_END}")
    _PAGE.write_text(f"{before}{begin}\n{markdown(results)}{end}{after}")


def markdown(results: Results) -> str:
    """Return the table in Markdown, followed by a line that describes the machine."""
    figures = [_figure(raw) for case in results["cases"].values() for raw in case["figures"]]
    rows = [_row(one) for one in figures]
    return "\n".join([*_HEAD, *rows, "", *_machines(results)])


def missed(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures that miss their targets."""
    return [one for one in figures if one.target and one.ratio and not one.target.reached(one.ratio.median)]


def line(figure: Figure) -> str:
    """Return a figure as one line of text."""
    what = f"{figure.what}, beside {figure.beside}" if figure.beside else figure.what
    if figure.ratio is None:
        return f"{what}: {figure.absolute}"
    target = f"; to reach: {figure.target}, {_verdict(figure)}" if figure.target else ""
    return f"{what}: {_ratio(figure.ratio)} [{figure.absolute}]{target}"


def _row(figure: Figure) -> str:
    ratio = _ratio(figure.ratio) if figure.ratio else ""
    target = f"{figure.target}: {_verdict(figure)}" if figure.target else ""
    cells = (figure.what, figure.beside, ratio, figure.absolute, target)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _ratio(ratio: Spread) -> str:
    if ratio.low == ratio.high:
        return _number(ratio.median)
    return f"{_number(ratio.median)} ({_number(ratio.low)} to {_number(ratio.high)})"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _verdict(figure: Figure) -> str:
    if figure.target is None or figure.ratio is None:
        return "not measured"
    return "reached" if figure.target.reached(figure.ratio.median) else "**missed**"


def _figure(raw: Mapping[str, Any]) -> Figure:
    ratio, target = raw["ratio"], raw["target"]
    return Figure(
        raw["what"],
        raw["beside"],
        Spread(**ratio) if ratio else None,
        raw["absolute"],
        Target(**target) if target else None,
    )


def _measured(case: Mapping[str, Any] | None) -> bool:
    """Return whether a case has figures that were measured."""
    return case is not None and any(raw["ratio"] for raw in case["figures"])


def _machines(results: Results) -> Iterator[str]:
    """Yield the machine on which the cases were measured; if there were several, also the names of each machine's
    cases.
    """
    machines: dict[str, list[str]] = {}
    for name, case in results["cases"].items():
        if _measured(case):
            machine = "{cpus} CPUs ({model}), Python {python}, {system}".format(**case["machine"])
            machines.setdefault(machine, []).append(name)
    for machine, names in machines.items():
        which = f"{', '.join(names)}: measured" if len(machines) > 1 else "Measured"
        yield f"{which} on {machine}."
        yield ""


def _machine() -> dict[str, Any]:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpus": os.cpu_count(),
        "model": " ".join(model[1].split()) if model else platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
