"""Names of operators that people write, held against those that there are."""

from __future__ import annotations

import difflib
from functools import cache

from heitu.chips import Chip, default_classes
from heitu.errors import ExitCode, HeituError


def check_allowed(names: tuple[str, ...]) -> None:
    """Refuses what --allow cannot mean: "isin", "isin.Tensor_Tensor" and "aten::isin" are aten's.

    Operators of other namespaces ("torchvision::nms") may come with a package, kernels ("triton::NAME") with
    the program: they are taken as they are.

    Raises:
        HeituError: torch has no such operator (USAGE).
    """
    for name in names:
        if "::" in name and not name.startswith("aten::"):
            continue
        bare = name.removeprefix("aten::")
        if bare not in _overloads() and bare not in _operators():
            raise HeituError(
                f"--allow {name}: torch has no such operator.",
                hint=_close(bare, _operators()),
                exit_code=ExitCode.USAGE,
            )


def check_rules(chip: Chip) -> None:
    """Refuses rules about operators that torch does not have.

    Raises:
        HeituError: a dtype rule names one (CHIP_FILE).
    """
    for rule in chip.dtypes:
        for name in rule.operators:
            if name.startswith("aten::") and name.removeprefix("aten::") not in _overloads():
                raise HeituError(
                    f"{chip.file}: dtypes, {rule.dtype}: torch has no operator {name}.",
                    hint=_close(name.removeprefix("aten::"), _overloads()),
                    exit_code=ExitCode.CHIP_FILE,
                )


def _close(name: str, known: frozenset[str]) -> str | None:
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"Close to it: {', '.join(found)}." if found else None


@cache
def _overloads() -> frozenset[str]:
    return frozenset(name.removeprefix("aten::") for name in default_classes())


@cache
def _operators() -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in _overloads())
