"""Draws charts as SVG without inline styles, so that a strict content security policy allows the charts."""

from __future__ import annotations

from collections.abc import Sequence

from parcelq.collect.page.html import element, text

_WIDTH, _HEIGHT = 720, 180
_LEFT, _BOTTOM, _TOP = 88, 28, 12
_MARKS = 4
"""The texts below the lower axis divide the axis into this many parts, if the chart has enough bars."""


def bars(values: Sequence[float], labels: Sequence[str], edges: Sequence[str], top: str, label: str) -> str:
    """Draw a bar chart; every bar begins at 0 and has one of the `labels` as tooltip.

    Args:
        edges: a text for the left edge of each bar, and for the right edge of the last bar. Only a few are shown.
        top: the text at the height of the highest bar.
        label: a description of the chart for screen readers.
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
    texts = [chart_text(_LEFT - 6, _TOP + 10, top, "end"), chart_text(_LEFT - 6, base, "0", "end")]
    last = len(edges) - 1
    for number in sorted({round(mark * last / _MARKS) for mark in range(_MARKS + 1)}):
        anchor = {0: "start", last: "end"}.get(number, "middle")
        texts.append(chart_text(_LEFT + number * width, base + 18, edges[number], anchor))
    content = [axis, *drawn, *texts]
    return element("svg", *content, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")


def chart_text(x: float, y: float, content: str, anchor: str) -> str:
    """Return a text in a chart; `anchor` says which point of the text is at (`x`, `y`): `start`, `middle` or `end`."""
    return element("text", text(content), x=f"{x:.0f}", y=f"{y:.0f}", text_anchor=anchor)
