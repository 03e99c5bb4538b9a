"""What a CPU build of torch has compiled out of Python-visible classes, put back after the import.

Each patch says why; all are undone by `undo()`. They touch nothing unless the device is active.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from heitu.device.memory import watch_profilers
from heitu.device.runtime import CUDA_VERSION


def apply(torch: ModuleType, core: ModuleType) -> None:
    """Settles on the imported torch what could not be settled before."""
    module: Any = torch
    # Set any earlier, torch._native would install kernels written in Triton for a true GPU.
    module._C._has_cuda = True
    module.version.cuda = f"{CUDA_VERSION // 1000}.{CUDA_VERSION % 1000 // 10}"
    # The main thread runs its backward passes itself. A device thread of the autograd engine would wait for
    # the same processor, and abort the process if the program ends while that thread frees Python objects.
    module._C._set_multithreading_enabled(False)
    watch_profilers(module, core)
    _resize_storages(module, core)


def _resize_storages(torch: Any, core: ModuleType) -> None:
    """UntypedStorage.resize_ knows CUDA in a CUDA build only; FSDP frees parameters by it."""
    original = torch.UntypedStorage.resize_

    def resize_(self: Any, size: int) -> Any:
        if self.device.type != "cuda":
            return original(self, size)
        core.resize_storage(self, size)
        return self

    torch.UntypedStorage.resize_ = resize_
