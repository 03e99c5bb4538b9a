"""What a build says on stderr: a bar on a terminal, plain lines elsewhere, nothing under HEITU_QUIET."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

from heitu.settings import settings

if TYPE_CHECKING:
    from rich.progress import Progress


def say(line: str) -> None:
    """One line of talk on stderr."""
    if not settings.quiet:
        # That nobody listens (a closed pipe, no stderr at all) is no reason to give up what is being done.
        with suppress(OSError, ValueError, AttributeError):
            print(f"heitu: {line}", file=sys.stderr, flush=True)


class BuildProgress(AbstractContextManager["BuildProgress"]):
    """Progress of a build of `total` steps."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._start = time.monotonic()

    def __enter__(self) -> BuildProgress:
        if settings.quiet:
            return self
        if sys.stderr is None or not sys.stderr.isatty():
            say(self._title)
            return self
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        title = TextColumn("heitu: {task.description}")
        columns = (title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task(self._title, total=self._total)
        self._bar.start()
        return self

    def step(self, name: str) -> None:
        """One step, `name`, is done."""
        with self._lock:
            self._done += 1
            if self._bar is not None:
                self._bar.advance(self._bar.task_ids[0])
            else:
                say(f"[{self._done}/{self._total}] {name}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error is None:
            say(f"built in {time.monotonic() - self._start:.0f} s")
