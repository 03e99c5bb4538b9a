"""Says that a chip does not answer: its plugin sees no device, where none was hidden from it."""

from __future__ import annotations

import sys
from functools import cache

from heitu.backings.backing import Backing
from heitu.backings.catalogue import load
from heitu.backings.detection import Machine, look_at
from heitu.backings.visible_devices import CUDA
from heitu.settings import settings


@cache
def say_once() -> None:
    """To be called when a program asks for the number of devices and it is zero."""
    said = None if settings.backing is None else complaint(load(settings.backing), Machine())
    if said is not None:
        print(f"heitu: {said}", file=sys.stderr)


def complaint(backing: Backing, machine: Machine) -> str | None:
    """What is wrong and what to try, or None where the devices are hidden on purpose."""
    listed = machine.environment.get(CUDA)
    if listed is not None and not listed.split(",")[0].strip().isdigit():
        return None
    presence = look_at(machine, backing)
    here = f"though {presence.evidence} is here" if presence.nodes else f"and there is {presence.evidence}"
    tool = next(iter(backing.tools), None)
    ask = f"; does `{tool}` show it?" if tool else "."
    return f"{backing.plugin} sees no device, {here}{ask} `heitu doctor` looks further."
