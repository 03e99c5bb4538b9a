"""What a loop adds up: in one chain of operations or, where it is long, in several side by side."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heitu.kernels.triton.lowering.elementwise import MATH

if TYPE_CHECKING:
    from heitu.kernels.triton.lowering.scope import Scope

# An addition takes several cycles, and the next one to the same number waits for it. Four parts of a row,
# added up side by side, keep the processor busy; in a short row it takes as long to add the four up.
PARTS = 4
SHORTEST = 256  # elements of a row
# Each part has the statements of the loop once more. Where these are many, or compute an elementary function,
# they take longer than the addition, and so much longer to compile.
MOST_STATEMENTS = 16
FUNCTION = re.compile(rf"\bht_(?:{'|'.join(MATH)})_")


@dataclass(frozen=True)
class Total:
    """One number that a loop makes of all elements of a row, in any order.

    Attributes:
        name: of the variable.
        kind: its C type.
        operator: OpenMP's name of the combination.
        identity: the C of what changes nothing.
        combine: gives statements, and the C of two totals made one.
    """

    name: str
    kind: str
    operator: str
    identity: str
    combine: Callable[[str, str], tuple[list[str], str]]

    def pragma(self, *others: str) -> str:
        """What stands before a loop that adds up in this variable, and in the others."""
        return f"omp simd reduction({self.operator}:{','.join((self.name, *others))})"

    def is_worth_parts(self, extent: int, statements: list[str]) -> bool:
        """Whether a loop of so many turns at most is better written in parts."""
        return (
            extent >= SHORTEST
            and len(statements) <= MOST_STATEMENTS
            and not any(FUNCTION.search(statement) for statement in statements)
        )

    def write_in_parts(self, scope: Scope, counter: str, end: str, statements: list[str]) -> str:
        """Writes a loop from 0 as far as it has whole parts. Returns the C of where it ended."""
        part, turn = scope.fresh("part"), scope.fresh("turn")
        others = [scope.fresh("total") for _ in range(PARTS - 1)]
        scope.write(
            f"const int64_t {part} = {end} / {PARTS};",
            *(f"{self.kind} {other} = {self.identity};" for other in others),
            f"#pragma {self.pragma(*others)}",
            f"for (int64_t {turn} = 0; {turn} < {part}; ++{turn}) {{",
        )
        mine = re.compile(rf"\b{self.name}\b")
        for number, name in enumerate((self.name, *others)):
            scope.write(
                f"{{ const int64_t {counter} = {turn} + {number} * {part};",
                *(mine.sub(name, statement) for statement in statements),
                "}",
            )
        scope.write("}")
        for other in others:
            lines, made = self.combine(self.name, other)
            scope.write(*lines, f"{self.name} = {made};")
        return end if end.isdigit() and int(end) % PARTS == 0 else f"{PARTS} * {part}"
