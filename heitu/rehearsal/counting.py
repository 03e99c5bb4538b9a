"""What this process has run since a moment, by verdict: for tests."""

from __future__ import annotations

from heitu.rehearsal.recording import Recording


class Rehearsed:
    """Calls since this object was made. The properties map an operator to its calls."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._before = recording.calls()

    def _since(self, verdict: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for (operator, judged), calls in self._recording.calls().items():
            new = calls - self._before.get((operator, judged), 0)
            if judged == verdict and new:
                found[operator] = new
        return found

    @property
    def native(self) -> dict[str, int]:
        """What the chip's plugin runs on the chip."""
        return self._since("native")

    @property
    def fallback(self) -> dict[str, int]:
        """What it runs on the host."""
        return self._since("fallback")

    @property
    def refused(self) -> dict[str, int]:
        """What it raises at."""
        return self._since("refused")

    @property
    def unknown(self) -> dict[str, int]:
        """Of what nothing is published."""
        return self._since("unknown")
