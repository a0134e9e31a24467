"""Draws charts of lines over two logarithmic axes as SVG; see `parcelq.collect.page.charts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import NamedTuple

from parcelq.collect.page.charts import chart_text
from parcelq.collect.page.html import element, text

_NAME_HEIGHT = 14


class Point(NamedTuple):
    """A point of a line in a chart.

    Attributes:
        x: the position on the horizontal axis, above 0.
        y: the position on the vertical axis, above 0.
    """

    x: float
    y: float
    label: str
    hollow: bool = False
    ringed: bool = False


class Line(NamedTuple):
    """A line of a chart, which has a name and points from left to right."""

    name: str
    points: Sequence[Point]


def lines(
    drawn: Sequence[Line], x_text: Callable[[float], str], y_text: Callable[[float], str], label: str, x_label: str
) -> str:
    """Draw at most six lines over two logarithmic axes; the name of a line is written at its end.

    Args:
        drawn: the lines; each line has at least one point.
        label: a description of the chart for screen readers.
    """
    points = [point for line in drawn for point in line.points]
    x_ticks, y_ticks = _ticks([one.x for one in points]), _ticks([one.y for one in points])
    width, right, height, left = 560, 70, 300, 70
    bottom, top = height - 42, 14

    def x_at(x: float) -> float:
        return left + (width - right - left) * _share(x, x_ticks)

    def y_at(y: float) -> float:
        return bottom - (bottom - top) * _share(y, y_ticks)

    content = [element("path", d=f"M{left} {top}V{bottom}H{width - right}", class_="axis")]
    for tick in y_ticks:
        content.append(element("path", d=f"M{left} {y_at(tick):.1f}H{width - right}", class_="grid"))
        content.append(chart_text(left - 6, y_at(tick) + 4, y_text(tick), "end"))
    content += [chart_text(x_at(tick), bottom + 18, x_text(tick), "middle") for tick in x_ticks]
    content.append(chart_text((left + width - right) / 2, bottom + 36, x_label, "middle"))
    names = _apart([y_at(one.points[-1].y) for one in drawn], bottom - 6)
    for number, (line, at) in enumerate(zip(drawn, names, strict=True)):
        places = [(x_at(one.x), y_at(one.y)) for one in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        content.append(element("path", d=f"M{path}", class_=f"series s{number}"))
        for point, (x, y) in zip(line.points, places, strict=True):
            content.append(_dot(point, x, y, number))
        content.append(chart_text(places[-1][0] + 10, at + 4, line.name, "start"))
    return element("svg", *content, viewBox=f"0 0 {width} {height}", role="img", aria_label=label, class_="chart")


def _dot(point: Point, x: float, y: float, number: int) -> str:
    hollow = " hollow" if point.hollow else ""
    parts = [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", class_=f"dot{hollow} s{number}")]
    if point.ringed:
        parts.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="8", class_="ring"))
    return element("g", *parts, element("title", text(point.label)))


def _ticks(values: Sequence[float]) -> list[float]:
    """Return labels for a logarithmic axis (1, 2, 5, 10, …, or only powers of ten), between which all values are."""
    low, high = min(values), max(values)
    some = list(_steps(low, high, (1, 2, 5)))
    return some if len(some) <= 7 else list(_steps(low, high, (1,)))


def _steps(low: float, high: float, of: Sequence[int]) -> Iterator[float]:
    every = [one * 10.0**power for power in range(floor(log10(low)) - 1, ceil(log10(high)) + 2) for one in of]
    first = max(number for number, one in enumerate(every) if one <= low * 1.000001)
    last = min(number for number, one in enumerate(every) if one >= high * 0.999999)
    yield from every[first : max(last, first + 1) + 1]


def _share(value: float, ticks: Sequence[float]) -> float:
    return (log10(value) - log10(ticks[0])) / (log10(ticks[-1]) - log10(ticks[0]))


def _apart(places: Sequence[float], lowest: float) -> list[float]:
    """Move the names of lines up and down so that no names overlap and no name is below `lowest`."""
    moved = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _NAME_HEIGHT)
    for number in reversed(order):
        moved[number] = min(moved[number], lowest)
        lowest = moved[number] - _NAME_HEIGHT
    return moved
