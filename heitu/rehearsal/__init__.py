"""A rehearsal: a program runs on the emulated device as one chip would run it, and ends with a report.

Importing this package imports nothing else, and nothing that reads or reports imports torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO


def finish(
    directory: Path, reports: Sequence[Path], quiet: bool = False, stream: TextIO | None = None
) -> None:
    """Says on `stream` what a rehearsal came to, and writes its reports.

    The program's result is never lost to this: what goes wrong here is one sentence on `stream`.

    Args:
        directory: the record, as docs/report.md describes it.
        reports: files to write, each by its suffix: .html or .json.
        quiet: no summary, only the reports.
        stream: stderr where None.
    """
    from heitu.rehearsal.ending import end

    end(directory, reports, quiet, sys.stderr if stream is None else stream)
