"""What a rehearsal adds to a process: the chip's rules, its looks, and the record."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from heitu.chips import Chip, load
from heitu.rehearsal.rules import Rules, dress
from heitu.settings import settings

if TYPE_CHECKING:
    from heitu.rehearsal.recording import Recording


class Rehearsal:
    """A companion of the device (heitu.device.activation.Companion)."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self._recording: Recording | None = None

    @classmethod
    def from_settings(cls) -> Rehearsal:
        """The rehearsal on the chip of the settings.

        Raises:
            HeituError: there is no such chip.
        """
        assert settings.chip is not None
        return cls(load(settings.chip))

    def before_kernels(self, core: ModuleType, torch_c: ModuleType) -> None:
        """Sets the rules and starts the record. A record that cannot be kept is said, and done without."""
        dress(core, self.chip)
        Rules(self.chip).install(core)
        directory = settings.record
        if directory is None:
            return
        from heitu.rehearsal.recording import Recording

        try:
            recording = Recording(directory, self.chip, settings.strict, settings.allow)
            recording.start(core, _torch_version(torch_c))
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            print(f"heitu: this process keeps no record of the rehearsal: {reason}", file=sys.stderr)
            return
        self._recording = recording

    def after_torch(self, core: ModuleType, torch: ModuleType) -> None:
        """Has the record follow what only the whole of torch shows."""
        if self._recording is not None:
            self._recording.after_torch(torch)


def _torch_version(torch_c: ModuleType) -> str:
    from heitu.device.installed_torch import InstalledTorch

    return InstalledTorch(Path(torch_c.__file__ or "").parent).version
