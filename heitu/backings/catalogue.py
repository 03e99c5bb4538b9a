"""Finds the files in `vendors` by their names; there is no list of them anywhere."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from heitu.backings import vendors
from heitu.backings.backing import Backing
from heitu.errors import ExitCode, HeituError
from heitu.settings import EMULATED


@cache
def names() -> tuple[str, ...]:
    """The names of all backings, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(vendors.__path__)))


@cache
def load(name: str) -> Backing:
    """The backing of that name.

    Raises:
        HeituError: there is none.
    """
    if name not in names():
        raise HeituError(
            f"There is no backing {name!r}.",
            hint=f"There are: {', '.join(names())}, and {EMULATED} for none of them.",
            exit_code=ExitCode.SETTING,
        )
    backing: Backing = importlib.import_module(f"{vendors.__name__}.{name}").BACKING
    return backing


def backings() -> tuple[Backing, ...]:
    """All of them."""
    return tuple(load(name) for name in names())


def backing_of(maker: str) -> Backing | None:
    """The backing for chips of a maker, named as in the catalogue of chips; None where it has none."""
    return next((backing for backing in backings() if backing.maker == maker), None)
