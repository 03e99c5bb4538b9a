"""The list of kernels with one defect each."""

from __future__ import annotations

from collections.abc import Callable

from heitu.kernels.triton.checking.library import Kind

CASES: dict[str, tuple[Kind, Callable[[bool], None]]] = {}


def case(kind: Kind) -> Callable[[Callable[[bool], None]], Callable[[bool], None]]:
    """Registers a function that launches a kernel with or without its defect, which is of this kind."""

    def register(run: Callable[[bool], None]) -> Callable[[bool], None]:
        CASES[run.__name__] = kind, run
        return run

    return register
