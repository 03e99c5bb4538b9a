"""CUDA_VISIBLE_DEVICES and the variable of the chip's maker: whichever is set counts, and both are."""

from __future__ import annotations

from collections.abc import MutableMapping

from heitu.backings.backing import Backing
from heitu.errors import ExitCode, HeituError

CUDA = "CUDA_VISIBLE_DEVICES"
AGREED = "HEITU_VISIBLE_DEVICES"  # what both were made to say: a process that changes one is told by it


def agree(backing: Backing, environment: MutableMapping[str, str]) -> str | None:
    """Makes both variables say the same; returns what the user should know, or None.

    A process started by one that they agreed in may change either; the changed one counts.

    Raises:
        HeituError: both are set and differ, or an entry means nothing to the chip.
    """
    variables = [name for name in backing.visible_devices if name != CUDA]
    asked = environment.get(CUDA)
    if not backing.visible_devices:
        if asked is None:
            return None
        return f"{CUDA}={asked} has no effect: no variable that chooses {backing.maker}'s devices is known"
    if not variables:
        return None
    variable, agreed = variables[0], environment.get(AGREED)
    theirs = environment.get(variable)
    changed = [value for value in (asked, theirs) if value is not None and value != agreed]
    if len({_indices(value) for value in changed}) > 1:
        raise HeituError(
            f"{CUDA}={asked} and {variable}={theirs} choose different devices of the same chip.",
            hint="Unset one of them; each alone is carried over to the other.",
            exit_code=ExitCode.DEVICES,
        )
    value = changed[0] if changed else agreed
    if value is None:
        return None
    if value == asked:
        value = _for_the_maker(value, variable)
    environment[CUDA] = environment[variable] = environment[AGREED] = value
    return None


def _indices(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(","))


def _for_the_maker(value: str, variable: str) -> str:
    """The list up to the first entry that names no device, as CUDA reads it."""
    kept = []
    for word in _indices(value):
        if word.upper().startswith(("GPU-", "MIG-")):
            raise HeituError(
                f"{CUDA}={value}: {word} names a device by its UUID, which {variable} has no word for.",
                hint=f"Give indices: {CUDA}=0,1",
                exit_code=ExitCode.DEVICES,
            )
        if not word.isdigit():
            break
        kept.append(word)
    return ",".join(kept)
