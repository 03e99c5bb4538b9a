"""Heitu runs an unmodified CUDA PyTorch program on a machine with no GPU, on a true `cuda` device."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__", "enable"]


def enable(chip: str | None = None, devices: int | None = None) -> None:
    """Gives this process a cuda device; to be called before `import torch`, for instance in a notebook.

    Child processes that Python starts from here inherit it.

    Args:
        chip: a chip to rehearse (`heitu chips` lists them; or a file that describes one); what the
            rehearsal came to is said on stderr when the process ends. None: a plain CUDA device.
        devices: number of emulated devices, 1 to 64; None for HEITU_DEVICES, or 1.

    Raises:
        heitu.errors.HeituError: torch is already imported, a setting is out of range, or the core
            cannot be built (see heitu.device.build.core_library).
    """
    import sys

    from heitu.errors import ExitCode, HeituError

    if "torch" in sys.modules:
        raise HeituError(
            "heitu.enable() came too late: torch is already imported in this process.",
            hint="Restart it (a notebook: its kernel) and call heitu.enable() before `import torch`.",
            exit_code=ExitCode.TORCH_IMPORTED,
        )
    from heitu.launch.environment import activate_here

    activate_here(chip=chip, devices=devices)
