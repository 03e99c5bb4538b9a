"""Triton kernels in a rehearsal: what the catalogue says of the chip's Triton, and who is told of kernels."""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from heitu.chips import Chip, Fact, triton_dtypes
from heitu.chips.schema import Integration
from heitu.kernels.triton.rules import ChipRules, Judgement

if TYPE_CHECKING:
    from heitu.kernels.triton.ir import Location
    from heitu.rehearsal.recording import Recording


T = TypeVar("T")


class Kernels:
    """Has kernels judged by a chip's rules, and their launches counted (heitu.device.triton_backend.Watch).

    Attributes:
        recording: where they are written down; None: nowhere.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self.recording: Recording | None = None
        self._refused: set[tuple[str, Location | None, Judgement]] = set()

    @cached_property
    def rules(self) -> ChipRules:
        """Looked up when the first kernel comes: most programs have none."""
        return chip_rules(self._chip)

    def refused(self, name: str, defined: Location | None, judgement: Judgement) -> None:
        """Writes it down, once: a program may try it again and again."""
        one = name, defined, judgement
        if one not in self._refused:
            self._refused.add(one)
            self._write(*one)

    def loaded(self, name: str, defined: Location | None, judgement: Judgement) -> int:
        """Writes it down, and gives the address of its count. Raises RuntimeError in a strict run."""
        address = self._write(name, defined, judgement)
        if self.recording is not None and judgement.verdict == "unknown":
            self.recording.forbid(
                name, f"nothing certain is known of {', '.join(judgement.unknown) or 'its Triton'}"
            )
        return address

    def defect(self, kind: str, kernel: str, at: tuple[str, int] | None, argument: str, text: str) -> int:
        """Writes it down, and gives the address of its count, or 0."""
        return 0 if self.recording is None else self.recording.defect(kind, kernel, at, argument, text)

    def _write(self, name: str, defined: Location | None, judgement: Judgement) -> int:
        if self.recording is None:
            return 0
        place = None if defined is None else (defined.file, defined.line)
        return self.recording.kernel("triton", name, place, judgement.to_plain())


def chip_rules(chip: Chip) -> ChipRules:
    """What is known of a chip's Triton.

    Raises:
        HeituError: a file that the chip names is wrong.
    """
    kernels, limits = chip.kernels, chip.limits
    table = triton_dtypes(chip)
    same = _value(chip.operators.same_as) == "cuda"
    return ChipRules(
        chip=chip.title,
        same=same,
        source="" if table is None else f"{table.source.partition(':')[0]}, {table.date}",
        taken={} if table is None else table.taken,
        refused={} if table is None else table.refused,
        warp_size=_value(kernels.warp_size),
        threads=_value(chip.properties.max_threads_per_block),
        on_chip_memory=_value(limits.on_chip_memory),
        kept_back=_kept_back(chip),
        grid_programs=None if _is_set(limits.grid_free) else _value(limits.grid_programs),
        grid_extents=_value(limits.grid_extents) or (),
        smallest_dot=dict(_dot(each) for each in _value(kernels.smallest_dot) or ()),
        float8=_value(kernels.float8) or (),
    )


def _kept_back(chip: Chip) -> int | None:
    """By how many the copies of operands in shared memory are fewer than a loop's stages.

    As the wheel of Triton 3.9.0 compiles for NVIDIA's GPUs (2026-11-22, its own figures of shared memory for
    products in loops of 1 to 4 stages): sm_80 has one fewer, sm_90 has as many. Of others it is unknown.
    """
    capability = chip.properties.capability
    if _value(chip.software.integration) is not Integration.UPSTREAM or capability is None:
        return None
    return 0 if capability.value == (9, 0) else 1


def _is_set(variable: Fact[str] | None) -> bool:
    name, _, wanted = ("", "", "") if variable is None else variable.value.partition("=")
    return bool(name) and os.environ.get(name) == wanted


def _value(fact: Fact[T] | None) -> T | None:
    return None if fact is None else fact.value


def _dot(text: str) -> tuple[int, tuple[int, int, int]]:
    bits, m, n, k = map(int, re.findall(r"\d+", text))
    return bits, (m, n, k)
