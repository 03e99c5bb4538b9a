"""How a kernel is refused that a chip cannot run: by Triton's own exceptions, so that tuners pass it over."""

from __future__ import annotations

import ast
import linecache
from typing import Any

from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources

from heitu.kernels.triton.rules import ChipRules, Finding, Judgement, beyond


class ChipError(CompilationError):  # type: ignore[misc]
    """The chip's Triton lacks an operator, or the operator does not take a dtype."""


class TooLarge(OutOfResources):  # type: ignore[misc]
    """A program needs more memory beside its core than the chip has.

    Args:
        required: bytes, at least.
        limit: bytes.
        name: of the memory.
        where: the kernel and its place, and that the number is an estimate.
    """

    def __init__(self, required: int, limit: int, name: str, where: str) -> None:
        super().__init__(required, limit, name)
        self.where = where

    def __str__(self) -> str:
        return f"{super().__str__()} {self.where}"

    def __reduce__(self) -> Any:
        return type(self), (self.required, self.limit, self.name, self.where)


class TooManyPrograms(TooLarge):
    """A launch has more programs than the chip takes; `where` has all that is said."""

    def __str__(self) -> str:
        numbers = f"Required: {self.required}, Hardware limit: {self.limit}"
        return f"out of resource: {self.name}, {numbers}. {self.where}"


def refusal(kernel: str, judgement: Judgement, rules: ChipRules) -> Exception:
    """What to raise for a kernel that was refused."""
    finding = judgement.findings[0]
    if finding.rule == "memory":
        where = f"(estimated, at least; kernel {kernel}, {_place(finding)}, on {rules.chip})"
        return TooLarge(judgement.required or 0, judgement.limit or 0, rules.memory_name, where)
    said = f"{_place(finding)}: in kernel {kernel}: {finding.what} {finding.change}"
    more = len(judgement.findings) - 1
    said += f"\nand {more} more like it:" if more else ""
    for other in judgement.findings[1:4]:
        said += f"\n{_place(other)}: {other.what} {other.change}"
    lines = linecache.getlines(finding.file) if finding.file else []
    source = "".join(lines) if len(lines) >= finding.line > 0 else None
    node = ast.Pass(lineno=finding.line, col_offset=max(0, finding.column - 1))
    return ChipError(source, node, said)


def launch_refusal(kernel: str, finding: Finding, grid: tuple[int, int, int], rules: ChipRules) -> Exception:
    """What to raise for a launch of more programs than there may be."""
    required, limit, _ = beyond(rules, grid)
    where = f"{finding.what} {finding.change} (kernel {kernel}, {_place(finding)})"
    return TooManyPrograms(required, limit, "grid", where)


def _place(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.file else "at a place that is not known"
