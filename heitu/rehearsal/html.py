"""The report as one HTML file, which needs nothing beside it: no network, and no script to be read."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from heitu.rehearsal import terminal, wording
from heitu.rehearsal.difference import Difference
from heitu.rehearsal.plots import memory_plot, span_bar
from heitu.rehearsal.report import OperatorRow, Report

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_ROWS = 600  # of the operators; all are in the JSON
SHOWN_ADVICE = 40
SHOWN_ARGUMENTS = 6


def to_html(report: Report) -> str:
    """One document."""
    return rendered(
        "report.html",
        {
            "report": report,
            "program": program(report),
            "started": when(report),
            "band": [one for one in report.verdicts if one.calls],
            "advice": report.advice[:SHOWN_ADVICE],
            "advice_left_out": max(0, len(report.advice) - SHOWN_ADVICE),
            "rows": report.operators[:SHOWN_ROWS],
            "rows_left_out": max(0, len(report.operators) - SHOWN_ROWS),
            "plot": memory_plot(report.memory),
            "widest": max((one.seconds.worst for one in report.estimate.parts if one.seconds), default=0.0),
        },
    )


def difference_html(difference: Difference) -> str:
    """One document about two reports."""
    from heitu.rehearsal.tables import sides

    return rendered("difference.html", {"difference": difference, "sides": list(sides(difference))})


def rendered(template: str, said: Mapping[str, Any]) -> str:
    """A template of ours, filled in; everything in `said` is escaped."""
    return str(_environment().get_template(template).render(**said))


@cache
def _environment() -> Any:
    # Imported here: jinja2 is torch's dependency and ours, and the terminal's summary does without it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        amount=wording.amount,
        between=terminal.between,
        breakable=_breakable,
        count=wording.count,
        duration=wording.duration,
        roughly=wording.roughly,
        share=wording.share,
        size=wording.size,
        place=terminal.shown,
        shapes=shapes,
        sentence=_sentence,
        why=terminal.why,
        on_chip_memory=terminal.on_chip_memory,
    )
    environment.globals.update(
        counted=wording.counted,
        span_bar=span_bar,
        estimate=terminal.estimate,
        memory=terminal.memory,
        kernels=terminal.kernels,
    )
    return environment


def program(report: Report) -> str:
    """The command, as a title has it."""
    words = report.run.command
    return " ".join(words) if words else "a program"


def when(report: Report) -> str:
    """When it began, in this machine's time."""
    if report.run.start is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(report.run.start))
    except (OverflowError, ValueError, OSError):
        return ""


def shapes(row: OperatorRow) -> str:
    """Shapes of the largest call: "512×256, 256×1024", and how many others there are."""
    if not row.shapes:
        return ""
    parts = [_shape(shape) for _, shape in row.shapes[0].args]
    if len(parts) > SHOWN_ARGUMENTS:
        parts = [*parts[: SHOWN_ARGUMENTS - 1], "…"]
    more = row.distinct_shapes - 1
    return ", ".join(parts) + (f" and {wording.count(more)} more" if more > 0 else "")


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "various"
    return "×".join(map(str, shape)) if shape else "scalar"


def _breakable(text: str) -> Any:
    """A name that lines may break in, after a mark between two words."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(::|[_./])(?=\w)", r"\1<wbr>", str(escape(_clean(text)))))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clean(value: Any) -> Any:
    """A text without the control characters that no HTML document may have; anything else as it is."""
    if type(value) is not str:  # markup of ours is a subclass
        return value
    return "".join(
        char if char in "\n\t" or char.isprintable() or char == " " else "\ufffd" for char in value
    )
