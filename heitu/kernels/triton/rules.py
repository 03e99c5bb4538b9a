"""What a chip's Triton can do, and what of a kernel goes beyond it. Nothing here runs anything.

A kernel is judged by its IR (TTIR). Whole numbers have no sign there, so a rule about them holds for those
with and without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from heitu.kernels.triton.footprint import Footprint, shared_memory, tiles
from heitu.kernels.triton.ir import Function, Location, Module, Operation, Type
from heitu.kernels.triton.vocabulary import (
    ATOMICS,
    CASTS,
    DTYPES,
    INSTEAD,
    NOT_JUDGED,
    ON_MEMORY,
    OPERATORS,
    SHOWN,
)


@dataclass(frozen=True)
class ChipRules:
    """What is known of a chip. What is None or empty is unknown, and not judged.

    Attributes:
        chip: its name for people.
        same: it runs what the stock Triton compiles, so nothing but its limits is judged.
        source: of `taken` and `refused`, with its date.
        taken: operator of triton.language → dtypes, in torch's names.
        refused: likewise, of those that it does not take.
        warp_size: threads a warp; 0 or 1: no warps.
        threads: of a program, at most.
        on_chip_memory: bytes beside one core.
        kept_back: see footprint.shared_memory.
        grid_programs: programs of one launch, at most.
        grid_extents: in x, y and z, at most.
        smallest_dot: bits of an operand's elements → M, N, K.
        float8: 8-bit floats, as triton.language calls them.
    """

    chip: str
    same: bool = False
    source: str = ""
    taken: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refused: Mapping[str, frozenset[str]] = field(default_factory=dict)
    warp_size: int | None = None
    threads: int | None = None
    on_chip_memory: int | None = None
    kept_back: int | None = None
    grid_programs: int | None = None
    grid_extents: tuple[int, ...] = ()
    smallest_dot: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    float8: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> str:
        """A digest of all of it: the same of two that say the same."""
        tables = (self.taken, self.refused)
        ordered = [{name: sorted(each) for name, each in table.items()} for table in tables]
        said = [*ordered, replace(self, taken={}, refused={})]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @property
    def has_warps(self) -> bool:
        """Whether tiles are spread over the registers of threads."""
        return self.warp_size is not None and self.warp_size > 1

    @property
    def memory_name(self) -> str:
        """What a message calls the memory beside a core; Triton's word where there are warps."""
        return "shared memory" if self.has_warps else "on-chip memory"


@dataclass(frozen=True)
class Finding:
    """One thing that the chip cannot do.

    Attributes:
        rule: "operator", "dtype", "memory" or "grid".
        what: a sentence.
        change: what to do about it, a sentence.
        file: where in the program, with line and column from 1; empty and 0 where that is not known.
    """

    rule: str
    what: str
    change: str
    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Judgement:
    """What is said of one kernel.

    Attributes:
        verdict: "native" (all of it is known to be possible), "refused" (some of it is known not to be), or
            "unknown".
        required: bytes of on-chip memory, at least, estimated; None where it is not known what lies there.
        limit: bytes of on-chip memory; None where that is not known.
        findings: why it is refused.
        unknown: what nothing certain is known of, as "operator dtype".
    """

    verdict: str
    required: int | None = None
    limit: int | None = None
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Judgement:
        """The inverse."""
        findings = tuple(Finding(**each) for each in said["findings"])
        return cls(said["verdict"], said["required"], said["limit"], findings, tuple(said["unknown"]))


def judge(module: Module, rules: ChipRules, num_warps: int, num_stages: int) -> Judgement:
    """Judges the kernel of a module, and the functions that it calls, compiled with these options."""
    findings: dict[Finding, None] = {}
    unknown: dict[str, None] = {}
    for operation in () if rules.same else _operations(module):
        for operators, dtype in _uses(operation):
            said = _support(rules, operators, dtype)
            if said is False:
                findings[_finding(rules, operation, operators[0], dtype)] = None
            elif said is None:
                unknown[f"{operators[0]} {SHOWN.get(dtype, dtype)}"] = None
    required = _footprint(module.kernel, rules, num_warps, num_stages)
    if required is not None and rules.on_chip_memory is not None and required.bytes > rules.on_chip_memory:
        findings[_too_large(rules, required)] = None
    nothing_known = not rules.same and not rules.taken and not rules.refused
    return Judgement(
        verdict="refused" if findings else "unknown" if unknown or nothing_known else "native",
        required=None if required is None else required.bytes,
        limit=rules.on_chip_memory,
        findings=tuple(findings),
        unknown=() if nothing_known else tuple(unknown),
    )


def too_many_programs(rules: ChipRules, grid: tuple[int, int, int], kernel: Location | None) -> Finding:
    """What is said of a launch whose grid goes beyond the chip's."""
    required, limit, where = beyond(rules, grid)
    shown = " × ".join(map(str, grid))
    what = f"A grid of {shown} has {required} programs{where}; {rules.chip} takes {limit}."
    change = "Let each program do more: larger blocks, or a loop over several."
    if where in (" in y", " in z"):
        change = f"Put what is more than {limit} in x."
    return _at(kernel, "grid", what, change)


def beyond(rules: ChipRules, grid: tuple[int, int, int]) -> tuple[int, int, str]:
    """The number of programs that is too high, its limit, and its direction ("" for all of them)."""
    for extent, most, axis in zip(grid, rules.grid_extents, "xyz", strict=False):
        if extent > most:
            return extent, most, f" in {axis}"
    return grid[0] * grid[1] * grid[2], rules.grid_programs or 0, ""


def _operations(module: Module) -> Iterator[Operation]:
    for function in module.functions.values():
        yield from function.walk()


def _footprint(kernel: Function, rules: ChipRules, num_warps: int, num_stages: int) -> Footprint | None:
    if rules.warp_size is None:
        return None
    if rules.has_warps:
        return shared_memory(kernel, num_warps, num_stages, rules.kept_back)
    return tiles(kernel)


def _uses(operation: Operation) -> Iterator[tuple[tuple[str, ...], str]]:
    """The operators that an operation may come from, and each dtype at work in it."""
    name = operation.name
    if name in NOT_JUDGED or name.startswith(("scf.", "cf.", "ttg.", "gpu.")):
        return
    if name == "tt.atomic_rmw":
        operators: tuple[str, ...] = (f"atomic_{ATOMICS[operation.text('operation')]}",)
    elif name == "tt.extern_elementwise":
        symbol = operation.text("symbol").removeprefix("__nv_")
        operators = (symbol.removesuffix("f"), symbol)
    else:
        operators = OPERATORS.get(name, (name.partition(".")[2],))
    for dtype in dict.fromkeys(DTYPES.get(kind.element, kind.element) for kind in _at_work(operation)):
        yield operators, dtype


def _at_work(operation: Operation) -> Iterator[Type]:
    """The types that a rule is about: of tiles, and of memory; not of addresses, nor of single numbers."""
    name = operation.name
    if name in ON_MEMORY:
        pointee = operation.operands[0].type.pointee
        if pointee is not None:
            yield pointee
        return
    kinds = [value.type for value in operation.operands]
    if name in CASTS:
        kinds += [value.type for value in operation.results]
    elif name in ("tt.dot", "tt.dot_scaled"):
        kinds = [operation.operands[0].type, operation.operands[1].type]
    elif name == "tt.gather":
        kinds = kinds[:1]
    elif name == "arith.select":
        kinds = kinds[1:]
    for kind in kinds:
        if kind.is_tensor and not kind.is_pointer:
            yield kind


def _support(rules: ChipRules, operators: tuple[str, ...], dtype: str) -> bool | None:
    """Whether the chip's Triton takes it; None where nothing certain is known."""
    if any(dtype in rules.taken.get(operator, ()) for operator in operators):
        return True
    if all(dtype in rules.refused.get(operator, ()) for operator in operators):
        return False
    return None


def _finding(rules: ChipRules, operation: Operation, operator: str, dtype: str) -> Finding:
    taken = rules.taken.get(operator, frozenset())
    source = f" ({rules.source})" if rules.source else ""
    if not taken:
        what = f"tl.{operator} is not in the Triton of {rules.chip}{source}."
        return _at(operation.location, "operator", what, "Write it without this operator.")
    takes = ", ".join(SHOWN.get(each, each) for each in DTYPES.values() if each in taken)
    what = f"tl.{operator} does not take {SHOWN.get(dtype, dtype)} on {rules.chip}; it takes {takes}{source}."
    instead = next((each for each in INSTEAD.get(dtype, ()) if each in taken), None)
    if instead is None:
        change = "Write it with another operator."
    elif operation.name in ON_MEMORY:
        change = f"Pass a tensor of torch.{instead}."
    else:
        change = f"Compute in tl.{instead}."
    return _at(operation.location, "dtype", what, change)


def _too_large(rules: ChipRules, required: Footprint) -> Finding:
    what = (
        f"{required.bytes} of {rules.on_chip_memory} bytes of {rules.memory_name} are needed, at least "
        f"(estimated), on {rules.chip}."
    )
    change = "Reduce block sizes or num_stages." if rules.has_warps else "Reduce block sizes."
    return _at(required.location, "memory", what, change)


def _at(place: Location | None, rule: str, what: str, change: str) -> Finding:
    if place is None:
        return Finding(rule, what, change)
    return Finding(rule, what, change, place.file, place.line, place.column)
