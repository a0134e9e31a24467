"""The table: as JSON, as a picture, and in Markdown, also between two marks of the pages that quote it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.cases import CASES
from benchmarks.harness import Figure, Spread, Target

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
PLOTTER: Final = ROOT / "benchmarks" / ".venv" / "bin" / "python"
_PAGES: Final = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
_HEAD: Final = (
    "| measured | beside | ratio (lowest to highest) | in figures | to reach |",
    "| --- | --- | --- | --- | --- |",
)

Results = dict[str, Any]
"""What is kept as JSON: `machine`, and `cases`, by name, with when they were measured and their figures."""


def load(folder: Path) -> Results:
    """The results of earlier runs; none if there are none."""
    path = folder / "results.json"
    return json.loads(path.read_bytes()) if path.exists() else {"machine": {}, "cases": {}}


def add(results: Results, case: str, figures: Iterable[Figure]) -> None:
    """Put the figures of a case that was just measured in the place of the earlier ones."""
    results["machine"] = _machine()
    measured = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "figures": [asdict(one) for one in figures]}
    results["cases"] = {
        name: measured if name == case else results["cases"][name]
        for name in CASES
        if name == case or name in results["cases"]
    }


def save(results: Results, folder: Path) -> list[Path]:
    """Write all forms of the table into a folder, and return the files. There is no picture without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    data, table, picture = (folder / name for name in ("results.json", "table.md", "results.png"))
    data.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    table.write_text(markdown(results))
    if not PLOTTER.exists():
        return [data, table]
    subprocess.run([PLOTTER, Path(__file__).with_name("picture.py"), data, picture], check=True)
    return [data, table, picture]


def quote(results: Results) -> None:
    """Put the table into the pages that quote it; the project's own README gets the lines with a target alone."""
    for path, full in zip(_PAGES, (False, True), strict=True):
        before, begin, rest = path.read_text().partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if not end:
            raise SystemExit(f"{path.relative_to(ROOT)} must have the lines {_BEGIN} and {_END}")
        path.write_text(f"{before}{begin}\n{markdown(results, full=full)}{end}{after}")


def markdown(results: Results, *, full: bool = True) -> str:
    """The table in Markdown, with a line that tells the machine."""
    figures = [_figure(raw) for case in results["cases"].values() for raw in case["figures"]]
    rows = [_row(one) for one in figures if full or one.target]
    machine = results["machine"]
    told = f"{machine['cpus']} CPUs ({machine['model']}), Python {machine['python']}, {machine['system']}"
    return "\n".join([*_HEAD, *rows, "", f"Measured on {told}.", ""])


def missed(figures: Sequence[Figure]) -> list[Figure]:
    """Those whose target was not reached."""
    return [one for one in figures if one.target and one.ratio and not one.target.reached(one.ratio.median)]


def line(figure: Figure) -> str:
    """A figure as one line of text."""
    if figure.ratio is None:
        return f"{figure.what}, beside {figure.beside}: {figure.absolute}"
    target = f"; to reach: {figure.target}, {_verdict(figure)}" if figure.target else ""
    return f"{figure.what}, beside {figure.beside}: {_ratio(figure.ratio)} [{figure.absolute}]{target}"


def _row(figure: Figure) -> str:
    ratio = _ratio(figure.ratio) if figure.ratio else ""
    target = f"{figure.target}: {_verdict(figure)}" if figure.target else ""
    return f"| {figure.what} | {figure.beside} | {ratio} | {figure.absolute} | {target} |"


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


def _machine() -> dict[str, Any]:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpus": os.cpu_count(),
        "model": " ".join(model[1].split()) if model else platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
