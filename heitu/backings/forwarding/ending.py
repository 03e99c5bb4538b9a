"""What is said at the end of a program that ran on a chip: what the plugin did in another way than asked."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import time
from typing import Any

from heitu.rehearsal.frames import here
from heitu.settings import settings

MOST = 5  # lines of each kind
# Seconds for threads of the autograd engine other than that of the current device.
GRACE = 0.1
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
            _let_engine_finish()
        say(core.notes(), package)

    atexit.register(end)


def _let_engine_finish() -> None:
    """Waits until the engine's thread has freed the Python objects of the last backward pass.

    PyTorch aborts if such a thread asks for Python's lock when Python has ended. It does one pass after the
    other, so that one more, of a view, tells that it is done with those before. What that one is made of is
    never freed, and no kernel runs for it.
    """
    torch: Any = sys.modules["torch"]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            start = torch.empty(1, device="cuda", requires_grad=True)
            result, gradient = start.view(1, 1), torch.empty(1, 1, device="cuda")
            derived = torch.autograd.grad(result, start, gradient)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object([start, result, gradient, derived]))
    except RuntimeError:
        pass  # the device has failed, and the program has been told
    time.sleep(GRACE)


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
