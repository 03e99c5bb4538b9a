"""Drawings of the report: SVG of numbers and words of ours alone, so nothing in it needs escaping."""

from __future__ import annotations

from typing import Any

from heitu.rehearsal.estimate import Span
from heitu.rehearsal.report import Memory
from heitu.rehearsal.wording import duration, size

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 84, 12, 26, 30


def memory_plot(memory: Memory) -> Any:
    """Allocated and reserved bytes over time, and the chip's capacity; empty without samples."""
    from markupsafe import Markup

    curve = memory.curve
    if curve is None or len(curve.points) < 2:
        return Markup("")
    start, end = curve.points[0][0], max(curve.points[-1][0], curve.points[0][0] + 1e-9)
    peak = max(memory.peak_reserved, *(max(point[1:]) for point in curve.points), 1)
    # A capacity far above the peak would press the curve flat; then it is said, not drawn.
    near = memory.capacity and memory.capacity <= peak * 8
    top = max(peak, memory.capacity) * 1.05 if near else peak * 1.15

    def x(seconds: float) -> float:
        return LEFT + (seconds - start) / (end - start) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    lines = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Device memory over time" class="plot">'
    ]
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = top * part / (1.05 if near else 1.15)
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        lines.append(f'<text class="tick end" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{size(value)}</text>')
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        seconds = start + (end - start) * part
        lines.append(
            f'<text class="tick {anchor}" x="{x(seconds):.1f}" y="{HEIGHT - 8}">{duration(seconds)}</text>'
        )
    for column, name in ((2, "reserved"), (1, "allocated")):
        line = " ".join(f"{x(point[0]):.1f},{y(point[column]):.1f}" for point in curve.points)
        ground = y(0)
        lines.append(
            f'<polygon class="{name} area" points="{x(start):.1f},{ground} {line} {x(end):.1f},{ground}"/>'
        )
        lines.append(f'<polyline class="{name} line" points="{line}"/>')
    if memory.capacity:
        at = y(memory.capacity) if near else TOP - 8
        if near:
            lines.append(
                f'<line class="capacity" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
        words = f"capacity {size(memory.capacity)}" + ("" if near else ", far above")
        lines.append(f'<text class="capacity-word end" x="{WIDTH - RIGHT}" y="{at - 4:.1f}">{words}</text>')
    return Markup("\n".join([*lines, "</svg>"]))


def span_bar(span: Span, widest: float) -> Any:
    """A range from best to worst with a mark at the likely value, on a scale from 0 to `widest`."""
    from markupsafe import Markup

    scale = 100 / widest if widest > 0 else 0
    start, mark, end = (value * scale for value in span)
    return Markup(
        '<svg class="span" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" x="0" y="4" width="100" height="2"/>'
        f'<rect class="range" x="{start:.2f}" y="2" width="{max(0.6, end - start):.2f}" height="6"/>'
        f'<rect class="mark" x="{min(mark, 99):.2f}" y="0" width="1" height="10"/></svg>'
    )
