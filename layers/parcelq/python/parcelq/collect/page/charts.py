"""Charts as SVG, drawn without any style of their own, so that a strict content security policy allows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import NamedTuple

from parcelq.collect.page.html import element, text

_WIDTH, _HEIGHT = 720, 180
_LEFT, _BOTTOM, _TOP = 88, 28, 12
_NAME_HEIGHT = 14
_MARKS = 4
"""Parts of the lower axis between texts, where there are as many bars."""


def bars(values: Sequence[float], labels: Sequence[str], edges: Sequence[str], top: str, label: str) -> str:
    """Draw bars from 0 up.

    Args:
        labels: the tooltip of each.
        edges: texts for where each begins and the last ends; a few of them are shown.
        top: text at the height of the highest.
        label: what the chart shows, for those who do not see it.
    """
    most = max(values, default=0.0) or 1.0
    width, height = (_WIDTH - _LEFT) / max(1, len(values)), _HEIGHT - _BOTTOM - _TOP
    drawn = []
    for number, value in enumerate(values):
        tall = max(1.0, height * value / most) if value else 0.0
        shape = element(
            "rect",
            x=f"{_LEFT + number * width:.1f}",
            y=f"{_TOP + height - tall:.1f}",
            width=f"{max(1.0, width - 1):.1f}",
            height=f"{tall:.1f}",
            class_="bar",
        )
        drawn.append(element("g", shape, element("title", text(labels[number]))))
    base = _TOP + height
    axis = element("path", d=f"M{_LEFT} {_TOP}V{base}H{_WIDTH}", class_="axis")
    texts = [_text(_LEFT - 6, _TOP + 10, top, "end"), _text(_LEFT - 6, base, "0", "end")]
    last = len(edges) - 1
    for number in sorted({round(mark * last / _MARKS) for mark in range(_MARKS + 1)}):
        anchor = {0: "start", last: "end"}.get(number, "middle")
        texts.append(_text(_LEFT + number * width, base + 18, edges[number], anchor))
    content = [axis, *drawn, *texts]
    return element("svg", *content, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")


class Point(NamedTuple):
    """A point of a line.

    Attributes:
        x: a number above 0.
        y: a number above 0.
    """

    x: float
    y: float
    label: str
    hollow: bool = False
    ringed: bool = False


class Line(NamedTuple):
    """A line of a chart: its name, and its points from left to right."""

    name: str
    points: Sequence[Point]


def lines(
    drawn: Sequence[Line], x_text: Callable[[float], str], y_text: Callable[[float], str], label: str, x_label: str
) -> str:
    """Draw at most six lines over two logarithmic axes; each is named where it ends.

    Args:
        drawn: the lines; all have points.
        label: what the chart shows, for those who do not see it.
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
        content.append(_text(left - 6, y_at(tick) + 4, y_text(tick), "end"))
    content += [_text(x_at(tick), bottom + 18, x_text(tick), "middle") for tick in x_ticks]
    content.append(_text((left + width - right) / 2, bottom + 36, x_label, "middle"))
    names = _apart([y_at(one.points[-1].y) for one in drawn], bottom - 6)
    for number, (line, at) in enumerate(zip(drawn, names, strict=True)):
        places = [(x_at(one.x), y_at(one.y)) for one in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        content.append(element("path", d=f"M{path}", class_=f"series s{number}"))
        for point, (x, y) in zip(line.points, places, strict=True):
            content.append(_dot(point, x, y, number))
        content.append(_text(places[-1][0] + 10, at + 4, line.name, "start"))
    return element("svg", *content, viewBox=f"0 0 {width} {height}", role="img", aria_label=label, class_="chart")


def _dot(point: Point, x: float, y: float, number: int) -> str:
    hollow = " hollow" if point.hollow else ""
    parts = [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", class_=f"dot{hollow} s{number}")]
    if point.ringed:
        parts.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="8", class_="ring"))
    return element("g", *parts, element("title", text(point.label)))


def _ticks(values: Sequence[float]) -> list[float]:
    """Numbers on a logarithmic axis that hold all values between them: 1, 2, 5, 10, …, or only powers of ten."""
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
    """Move names of lines up and down so that they do not overlap, none of them below `lowest`."""
    moved = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _NAME_HEIGHT)
    for number in reversed(order):
        moved[number] = min(moved[number], lowest)
        lowest = moved[number] - _NAME_HEIGHT
    return moved


def _text(x: float, y: float, content: str, anchor: str) -> str:
    return element("text", text(content), x=f"{x:.0f}", y=f"{y:.0f}", text_anchor=anchor)
