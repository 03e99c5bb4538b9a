"""Which chip a program runs on: the one that is present, the one asked for, or the emulated device."""

from __future__ import annotations

from dataclasses import dataclass

from heitu.backings.backing import Backing
from heitu.backings.catalogue import backing_of, load
from heitu.backings.detection import Machine, Presence, detect, look_at, torch_build
from heitu.chips import Chip
from heitu.errors import ExitCode, HeituError
from heitu.settings import EMULATED, PLUGIN, VENDOR_SHIM

INSTEAD = "`heitu run --emulate` runs without the chip."
_SUBJECT = {VENDOR_SHIM: "redirection of CUDA programs", PLUGIN: "plugin"}


@dataclass(frozen=True)
class Asked:
    """What the user said of where the program is to run.

    Args:
        chip: --chip: its vendor's chip where there is one here, otherwise a rehearsal of it.
        backing: HEITU_BACKING: the name of a backing, or EMULATED.
        emulate: --emulate.
        plugin: --plugin: the vendor's real plugin, over an emulator of what it is linked with.
        via: --via: VENDOR_SHIM, PLUGIN, or None.
    """

    chip: Chip | None = None
    backing: str | None = None
    emulate: bool = False
    plugin: bool = False
    via: str | None = None


@dataclass(frozen=True)
class Choice:
    """Where the program runs.

    Args:
        backing: None: on the device that is emulated on the CPU.
        over_emulator: the plugin runs over an emulator, not a chip.
        via: what takes the place of Heitu's device: VENDOR_SHIM, the maker's redirection of CUDA programs, or
            PLUGIN, the plugin alone, for programs written for it.
        note: what the user should know.
    """

    backing: Backing | None
    over_emulator: bool = False
    via: str | None = None
    note: str | None = None


def choose(asked: Asked, machine: Machine) -> Choice:
    """The chip to run on.

    Raises:
        HeituError: several chips are present, one cannot be used, or what was asked for is not there.
    """
    choice = _choose(asked, machine)
    if asked.via is None:
        return choice
    backing = choice.backing
    lacking = backing is None or not (backing.shim if asked.via == VENDOR_SHIM else backing.plugin)
    if backing is None or lacking:
        of = "the emulated device" if backing is None else backing.maker
        raise HeituError(
            f"--via {asked.via}: there is no {_SUBJECT[asked.via]} of {of}.",
            hint="It takes a chip whose maker has one, or --chip NAME --plugin.",
            exit_code=ExitCode.USAGE,
        )
    return Choice(backing, choice.over_emulator, asked.via, choice.note)


def _choose(asked: Asked, machine: Machine) -> Choice:
    if asked.plugin:
        return _over_emulator(asked, machine)
    if asked.emulate or asked.backing == EMULATED:
        return Choice(None)
    if asked.backing is not None:
        return _named(load(asked.backing), machine)
    if asked.chip is not None:
        return _for_chip(asked.chip, machine)
    return _present(machine)


def _over_emulator(asked: Asked, machine: Machine) -> Choice:
    if asked.chip is None:
        raise HeituError(
            "--plugin does not say which chip to emulate under its plugin.",
            hint="For instance: heitu run --chip ascend-910b --plugin train.py",
            exit_code=ExitCode.USAGE,
        )
    backing = backing_of(asked.chip.maker)
    if backing is None or not backing.emulator or asked.chip.name not in backing.emulated:
        raise HeituError(
            f"There is no emulator of the software that {asked.chip.title} runs with.",
            hint=f"Rehearse it without its plugin: heitu run --chip {asked.chip.name}",
            exit_code=ExitCode.EMULATOR_MISSING,
        )
    _check_installed(look_at(machine, backing), machine)
    return Choice(backing, over_emulator=True)


def _named(backing: Backing, machine: Machine) -> Choice:
    """The user named it, so that there are no device files is said and no more."""
    presence = look_at(machine, backing)
    _check_installed(presence, machine)
    _check_open(presence)
    missing = backing.nodes and not presence.nodes
    return Choice(backing, note=f"there is {presence.evidence} here" if missing else None)


def _for_chip(chip: Chip, machine: Machine) -> Choice:
    backing = backing_of(chip.maker)
    presence = None if backing is None else look_at(machine, backing)
    if presence is None or not presence.is_present:
        return Choice(None)
    if not presence.installed and presence.backing.is_inert:
        return Choice(None)  # an NVIDIA card beside a CPU build of torch
    _check_installed(presence, machine)
    _check_open(presence)
    return Choice(backing)


def _present(machine: Machine) -> Choice:
    built = torch_build(machine)
    if built is not None and (built.is_present or built.backing.name not in ("nvidia", "rocm")):
        _check_open(built)
        note = None if built.is_present else f"there is {built.evidence} here"
        return Choice(built.backing, note=note)
    plugins = [presence for presence in detect(machine) if not presence.backing.is_inert]
    here = [presence for presence in plugins if presence.is_present]
    usable = [presence for presence in here if presence.installed]
    if len(usable) > 1:
        shown = "; ".join(f"{presence.backing.maker} ({presence.evidence})" for presence in usable)
        first = usable[0].backing.name
        raise HeituError(
            f"Chips of {len(usable)} makers are present: {shown}.",
            hint=f"Say which: HEITU_BACKING={first} heitu run ..., or --chip NAME, or --emulate.",
            exit_code=ExitCode.CHIPS_PRESENT,
        )
    if usable:
        _check_open(usable[0])
        return Choice(usable[0].backing)
    if here:
        _check_installed(here[0], machine)
    waiting = [presence for presence in plugins if presence.installed]
    if not waiting:
        return Choice(None)
    plugin, missing = waiting[0].backing.plugin, waiting[0].evidence
    return Choice(None, note=f"{plugin} is installed, but there is {missing} here; the device is emulated")


def _check_installed(presence: Presence, machine: Machine) -> None:
    backing = presence.backing
    if presence.installed:
        return
    if backing.is_inert:
        raise HeituError(
            f"The torch that is installed is not {backing.maker}'s build, so its chip cannot be used.",
            hint=INSTEAD,
            exit_code=ExitCode.TORCH_UNSUITABLE,
        )
    torch = machine.torch()
    release = torch.version.partition("+")[0] if torch is not None else "2.13.0"
    here = f"A chip of {backing.maker} is present ({presence.evidence}), but " if presence.is_present else ""
    raise HeituError(
        f"{here}{backing.plugin} is not installed beside this Python.",
        hint=f"Install it: {backing.install.format(torch=release)}. {INSTEAD}",
        exit_code=ExitCode.PLUGIN_UNUSABLE,
    )


def _check_open(presence: Presence) -> None:
    if presence.unreachable and len(presence.unreachable) == len(presence.nodes):
        node = presence.unreachable[0]
        raise HeituError(
            f"{node}, a chip of {presence.backing.maker}'s, cannot be opened: permission denied.",
            hint=f"`ls -l {node}` shows the group to join. {INSTEAD}",
            exit_code=ExitCode.CHIP_CLOSED,
        )
