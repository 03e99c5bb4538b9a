"""The environment by which a process hands the cuda device on to its children."""

from __future__ import annotations

import os
from pathlib import Path

from heitu.errors import ExitCode, HeituError
from heitu.settings import Settings, settings

BOOTSTRAP = Path(__file__).resolve().parent / "bootstrap"


def apply(chip: str | None, devices: int | None, memory: int | None) -> None:
    """Sets what the user asked for in this process's environment, which children inherit.

    Args:
        chip: the name of a chip; none is known yet.
        devices: number of emulated devices.
        memory: bytes of one device.

    Raises:
        HeituError: a value out of range, an unknown HEITU_* variable, or any chip.
    """
    if devices is not None:
        settings.devices = devices
    if memory is not None:
        settings.memory = memory
    settings.check()
    check_chip(chip if chip is not None else settings.chip)
    os.environ.update(handed_on())


def handed_on() -> dict[str, str]:
    """The variables that give a Python child the device; the user's PYTHONPATH entries keep their order."""
    current = os.environ.get("PYTHONPATH", "")
    entries = current.split(os.pathsep) if current else []
    path = [str(BOOTSTRAP), *(entry for entry in entries if entry != str(BOOTSTRAP))]
    return {Settings.enable.variable: "1", "PYTHONPATH": os.pathsep.join(path)}


def check_chip(chip: str | None) -> None:
    """Raises HeituError for any chip: one that the catalogue lacks, and as yet every other too."""
    if chip is not None:
        from heitu.chips import load

        name = load(chip).name
        raise HeituError(
            f"The chip {name!r} is in the catalogue, but its rules are not applied yet.",
            hint=f"`heitu chips {name}` shows what is known of it. "
            "Without --chip and HEITU_CHIP the device is an emulated H200.",
            exit_code=ExitCode.UNKNOWN_CHIP,
        )


def activate_here(chip: str | None, devices: int | None) -> None:
    """Gives this process and its children the cuda device. Torch must not be imported yet."""
    from heitu.device.activation import install
    from heitu.device.build import core_library

    apply(chip, devices, None)
    core_library()
    install()
