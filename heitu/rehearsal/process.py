"""What a rehearsal adds to a process: the chip's rules, its looks, and the record."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from heitu.chips import Chip, load
from heitu.chips.schema import Integration
from heitu.device import triton_backend
from heitu.rehearsal.kernels import Kernels
from heitu.rehearsal.rules import Rules, dress
from heitu.settings import settings

if TYPE_CHECKING:
    from heitu.rehearsal.recording import Recording


_recording: Recording | None = None


def current_recording() -> Recording | None:
    """The record that this process keeps, if it keeps one."""
    return _recording


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
        kernels = Kernels(self.chip)
        triton_backend.watch(kernels)
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
        global _recording
        self._recording = _recording = kernels.recording = recording

    def after_torch(self, core: ModuleType, torch: ModuleType) -> None:
        """Has the record follow what only the whole of torch shows."""
        integration = self.chip.software.integration
        if integration is None or integration.value is not Integration.UPSTREAM:
            # The capabilities of other makers' chips are numbers of their own, which torch would warn of.
            module: Any = torch.cuda
            queued = module._queued_calls
            queued[:] = [call for call in queued if call[0] is not module._check_capability]
        if self._recording is not None:
            self._recording.after_torch(torch)


def _torch_version(torch_c: ModuleType) -> str:
    from heitu.device.installed_torch import InstalledTorch

    return InstalledTorch(Path(torch_c.__file__ or "").parent).version
