"""What is said at the end of a program that ran on a chip: what the plugin did in another way than asked."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from heitu.backings import engine_thread
from heitu.rehearsal.frames import here
from heitu.settings import settings

MOST = 5  # lines of each kind
_HEADS = {
    "host": "{count} {operators} ran on the CPU, with copies: {package} has no kernel for {them}",
    "narrowed": "{package} gave another dtype than was asked for in {count} {operators}",
}


def install(core: Any, package: str) -> None:
    """Has it said when this process ends, in a few lines on stderr."""
    core.set_place(_place)
    process = os.getpid()

    def end() -> None:
        if os.getpid() != process:
            return
        if core.initialised():
            engine_thread.finish("cuda")
        say(core.notes(), package)

    atexit.register(end)


def say(notes: list[tuple[str, str, str, str, int]], package: str) -> None:
    """Prints (kind, operator, what, place, count) of each, those most called first; nothing for none."""
    if settings.quiet:
        return
    for kind, head in _HEADS.items():
        found = sorted((note for note in notes if note[0] == kind), key=lambda note: -note[4])
        if not found:
            continue
        words = (
            {"operators": "operator", "them": "it"}
            if len(found) == 1
            else {"operators": "operators", "them": "them"}
        )
        print(f"heitu: {head.format(count=len(found), package=package, **words)}:", file=sys.stderr)
        for _, operator, what, place, count in found[:MOST]:
            about = f" ({what})" if what else ""
            print(f"  {operator.removeprefix('aten::')}{about}  {count}x  {place}", file=sys.stderr)
        if len(found) > MOST:
            print(f"  and {len(found) - MOST} more", file=sys.stderr)


def _place() -> str:
    places = here(sys._getframe(0))
    place = places.user or places.site
    return "" if place is None else f"{os.path.relpath(place.file)}:{place.line}"
