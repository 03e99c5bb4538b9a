"""What a CPU build of torch has compiled out of Python-visible classes, put back after the import.

Each patch says why; all are undone by `undo()`. They touch nothing unless the device is active.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from heitu.device.memory import watch_profilers
from heitu.device.runtime import CUDA_VERSION

_undoing: list[Callable[[], None]] = []


def apply(torch: ModuleType, core: ModuleType) -> None:
    """Settles on the imported torch what could not be settled before."""
    from heitu.device import kernels, legacy_types, storage, triton_backend

    module: Any = torch
    # Set any earlier, torch._native would install kernels written in Triton for a true GPU.
    replace(module._C, "_has_cuda", True)
    replace(module.version, "cuda", f"{CUDA_VERSION // 1000}.{CUDA_VERSION % 1000 // 10}")
    # The main thread runs its backward passes itself. A device thread of the autograd engine would wait for
    # the same processor, and abort the process if the program ends while that thread frees Python objects.
    module._C._set_multithreading_enabled(False)
    when_undone(lambda: module._C._set_multithreading_enabled(True))
    watch_profilers(module, core)
    for area in (storage, legacy_types, kernels, triton_backend):
        area.patch(module, core)


def replace(owner: object, name: str, value: object) -> None:
    """Sets an attribute until `undo()`; one that `owner` merely inherited is inherited again then."""
    own = vars(owner)
    if name in own:
        before = own[name]
        when_undone(lambda: setattr(owner, name, before))
    else:
        when_undone(lambda: delattr(owner, name))
    setattr(owner, name, value)


def when_undone(step: Callable[[], None]) -> None:
    """Adds a step to `undo()`."""
    _undoing.append(step)


def undo() -> None:
    """Puts torch back as it was imported, the last change first."""
    while _undoing:
        _undoing.pop()()
