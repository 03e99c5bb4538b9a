"""The environment by which a process hands the cuda device on to its children."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heitu.errors import ExitCode, HeituError
from heitu.settings import EMULATED, Settings, settings

if TYPE_CHECKING:
    from heitu.backings.selection import Choice
    from heitu.device.activation import Companion

BOOTSTRAP = Path(__file__).resolve().parent / "bootstrap"


def apply(
    chip: str | None,
    devices: int | None,
    memory: int | None,
    *,
    dry: bool = False,
    check_kernels: bool = False,
    emulate: bool = False,
    plugin: bool = False,
    via: str | None = None,
) -> Choice:
    """Sets what the user asked for in this process's environment, which children inherit.

    Args:
        chip: a chip's name, or a file that describes one; None: no chip.
        devices: number of emulated devices.
        memory: bytes of one device.
        dry: whether large tensors go without values; False leaves it as it is.
        check_kernels: whether accesses of Triton kernels are judged; False leaves it as it is.
        emulate: whether chips that are present are left alone; False leaves it as it is.
        plugin: whether the maker's plugin runs over an emulator; False leaves it as it is.
        via: "vendor-shim", "plugin", or None, which leaves it as it is.

    Returns:
        where the program is to run.

    Raises:
        HeituError: a value out of range, an unknown HEITU_* variable, an unknown chip, or one that is present
            and cannot be used.
    """
    if devices is not None:
        settings.devices = devices
    if memory is not None:
        settings.memory = memory
    if dry:
        settings.dry = True
    if check_kernels:
        settings.check_kernels = True
    if emulate:
        settings.backing = EMULATED
    if plugin:
        settings.plugin = True
    if via is not None:
        settings.via = via
    settings.check()
    chosen = chip if chip is not None else settings.chip
    check_chip(chosen)
    if chosen is not None:
        settings.chip = absolute(chosen)
    choice = where_to_run()
    if choice.backing is not None:
        _hand_on_backing(choice)
    else:
        # A plugin without its chip or its toolkit makes `import torch` fail, which would load it by itself.
        os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    if choice.note is not None:
        say(choice.note)
    if choice.backing is None or not choice.backing.is_inert:
        os.environ.update(handed_on())
    return choice


def where_to_run() -> Choice:
    """Where programs run, as the settings and this machine have it.

    Raises:
        HeituError: a chip is present that cannot be used, or several are.
    """
    from heitu.backings.detection import Machine
    from heitu.backings.selection import Asked, choose

    chip = None
    if settings.chip is not None:
        from heitu.chips import load

        chip = load(settings.chip)
    asked = Asked(chip, settings.backing, settings.backing == EMULATED, settings.plugin, settings.via)
    return choose(asked, Machine())


def _hand_on_backing(choice: Choice) -> None:
    """What children need to find the same chip."""
    from heitu.backings import visible_devices
    from heitu.chips import load

    assert choice.backing is not None
    settings.backing = choice.backing.name
    if choice.over_emulator:
        assert settings.chip is not None
        chip = load(settings.chip)
        settings.cann_soc = choice.backing.emulated[chip.name]
        own = chip.hardware.memory_bytes
        wanted = settings.memory or (own.value if own is not None else None)
        if wanted is not None:
            settings.cann_memory = wanted
        settings.cann_devices = settings.devices
    note = visible_devices.agree(choice.backing, os.environ)
    if note is not None:
        say(note)


def say(what: str) -> None:
    """One line on stderr that the user should see, unless HEITU_QUIET is set."""
    if not settings.quiet:
        print(f"heitu: {what}", file=sys.stderr)


def install_device() -> None:
    """Makes the coming import of torch bring what the environment says: a chip, or the emulated device."""
    if settings.backing not in (None, EMULATED):
        from heitu.backings.activation import install as install_backing
        from heitu.backings.catalogue import load

        backing = load(str(settings.backing))
        install_backing(backing, over_emulator=settings.plugin, via=settings.via)
        return
    from heitu.device.activation import install

    # Inductor's compile workers get this process's sys.path, without the launcher's entry, for a PYTHONPATH.
    path = os.pathsep.join([str(BOOTSTRAP), *filter(None, sys.path)])
    os.environ.setdefault("TORCH_CUSTOM_PYTHONPATH", path)
    install(companion())


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
    outer = inherits_record()
    # A chip that is named here is rehearsed: reports and the fixtures of tests are about rehearsals.
    choice = apply(chip, devices, None, emulate=chip is not None)
    if choice.backing is None:
        from heitu.device.build import core_library

        core_library()
        if settings.chip is not None and not outer:
            from heitu.rehearsal.session import record_here

            record_here()
    elif choice.backing.is_inert:
        return
    install_device()
