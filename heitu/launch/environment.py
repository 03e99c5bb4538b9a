"""The environment by which a process hands the cuda device on to its children."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from heitu.errors import ExitCode, HeituError
from heitu.settings import Settings, settings

if TYPE_CHECKING:
    from heitu.device.activation import Companion

BOOTSTRAP = Path(__file__).resolve().parent / "bootstrap"


def apply(chip: str | None, devices: int | None, memory: int | None, *, dry: bool = False) -> None:
    """Sets what the user asked for in this process's environment, which children inherit.

    Args:
        chip: a chip's name, or a file that describes one; None: no chip.
        devices: number of emulated devices.
        memory: bytes of one device.
        dry: whether large tensors go without values; False leaves it as it is.

    Raises:
        HeituError: a value out of range, an unknown HEITU_* variable, or an unknown chip.
    """
    if devices is not None:
        settings.devices = devices
    if memory is not None:
        settings.memory = memory
    if dry:
        settings.dry = True
    settings.check()
    chosen = chip if chip is not None else settings.chip
    check_chip(chosen)
    if chosen is not None:
        settings.chip = absolute(chosen)
    os.environ.update(handed_on())


def handed_on() -> dict[str, str]:
    """The variables that give a Python child the device; the user's PYTHONPATH entries keep their order."""
    current = os.environ.get("PYTHONPATH", "")
    entries = current.split(os.pathsep) if current else []
    path = [str(BOOTSTRAP), *(entry for entry in entries if entry != str(BOOTSTRAP))]
    return {Settings.enable.variable: "1", "PYTHONPATH": os.pathsep.join(path)}


def check_chip(chip: str | None) -> None:
    """Does nothing for a chip that can be rehearsed, and for None.

    Raises:
        HeituError: no such chip, its file is wrong, or no software for it is public.
    """
    if chip is None:
        return
    from heitu.chips import load
    from heitu.chips.schema import Integration
    from heitu.rehearsal.operator_names import check_rules

    found = load(chip)
    if found.dtypes:
        check_rules(found)
    integration = found.software.integration
    if integration is not None and integration.value is Integration.NONE_PUBLIC:
        raise HeituError(
            f"No software for {found.title} is public ({integration.source}, {integration.date}), "
            "so there is nothing to rehearse.",
            hint=f"`heitu chips {found.name}` shows what is known of it.",
            exit_code=ExitCode.UNKNOWN_CHIP,
        )


def absolute(chip: str) -> str:
    """The chip's name, or for one in a file a name that means the same in any directory."""
    path, colon, name = chip.rpartition(".toml:")
    file = f"{path}.toml" if colon else chip
    if not file.endswith(".toml") and os.sep not in file:
        return chip
    return os.path.abspath(file) + (f":{name}" if colon else "")


def inherits_record() -> bool:
    """Whether a process around this one keeps the record; a directory that the user named is not that."""
    return settings.enable and settings.record is not None


def companion() -> Companion | None:
    """What a rehearsal adds to the device of this process; None without a chip."""
    if settings.chip is None:
        return None
    from heitu.rehearsal.process import Rehearsal

    return Rehearsal.from_settings()


def activate_here(chip: str | None, devices: int | None) -> None:
    """Gives this process and its children the cuda device. Torch must not be imported yet."""
    from heitu.device.activation import install
    from heitu.device.build import core_library

    outer = inherits_record()
    apply(chip, devices, None)
    core_library()
    if settings.chip is not None and not outer:
        from heitu.rehearsal.session import record_here

        record_here()
    install(companion())
