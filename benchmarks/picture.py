"""Draws each figure compared with its target: `picture.py RESULTS.json PICTURE.png`. The program needs matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

REACHED, MISSED = "#3b7f5c", "#b5483a"
LABEL = 0.3
"""Which share of the picture's width the label beside a bar may need."""


def goodness(figure: dict[str, Any], value: float) -> float:
    """Return how many times better than its target a ratio is; a number below 1 misses the target."""
    number = float(figure["target"]["number"])
    return value / number if figure["target"]["wanted"] == "at least" else number / max(value, number / 1000)


def main(source: Path, target: Path) -> None:
    """Draw every figure that has a target as a bar, with the spread of its runs."""
    results = json.loads(source.read_bytes())
    figures = [one for case in results["cases"].values() for one in case["figures"] if one["ratio"] and one["target"]]
    figures.reverse()
    middle = [goodness(one, one["ratio"]["median"]) for one in figures]
    ends = [sorted((goodness(one, one["ratio"]["low"]), goodness(one, one["ratio"]["high"]))) for one in figures]
    spread = [
        [m - e[0] for m, e in zip(middle, ends, strict=True)],
        [e[1] - m for m, e in zip(middle, ends, strict=True)],
    ]
    plot, axes = plt.subplots(figsize=(11, 1.2 + 0.42 * len(figures)), layout="constrained")
    axes.barh(
        range(len(figures)),
        middle,
        xerr=spread,
        color=[REACHED if one >= 1 else MISSED for one in middle],
        ecolor="#444",
    )
    axes.set_yticks(range(len(figures)), [f"{one['what']}\nbeside {one['beside']}" for one in figures], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    for number, one in enumerate(figures):
        axes.annotate(
            f"{one['ratio']['median']:.3g}, to reach {one['target']['wanted']} {one['target']['number']:g}",
            (max(1, ends[number][1]), number),
            textcoords="offset points",
            xytext=(6, -3),
            fontsize=7,
        )
    left, right = min([1.0, *(one for one, _ in ends)]) / 1.5, max([1.0, *(one for _, one in ends)])
    axes.set_xlim(left, right * (right / left) ** (LABEL / (1 - LABEL)))  # the axis is logarithmic
    axes.set_xlabel("times better than the target (the line at 1); bars: median, whiskers: all runs")
    plot.savefig(target, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
