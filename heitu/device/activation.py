"""Puts the cuda device into a process, around the import of torch.

`torch._C` asks for CUDA's hooks while it is initialised and `torch.cuda` looks at `torch._C` while it is
imported, so the device has to come in between: one finder wraps the loading of `torch._C`, another that
of `torch` for what can only be settled when the whole package is there.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Protocol

from heitu.device.around_import import AroundImport
from heitu.device.triton_backend import replace_backend
from heitu.errors import ExitCode, HeituError
from heitu.settings import MAX_DEVICES, settings


class Companion(Protocol):
    """What wants to have a say in the device's coming to life."""

    def before_kernels(self, core: ModuleType, torch_c: ModuleType) -> None:
        """When the devices are counted, and no kernel is registered yet."""

    def after_torch(self, core: ModuleType, torch: ModuleType) -> None:
        """When the whole of torch is there."""


def install(companion: Companion | None = None) -> None:
    """Makes the coming import of torch bring the cuda device. Safe to call twice.

    Raises:
        HeituError: torch is already imported without it, or the core cannot be built.
    """
    if any(isinstance(finder, AroundImport) for finder in sys.meta_path):
        return
    if "torch" in sys.modules:
        raise HeituError(
            "torch is already imported, so the cuda device cannot be put into it any more.",
            hint="Call heitu.enable() before the first `import torch` (in a notebook: restart the kernel).",
            exit_code=ExitCode.TORCH_IMPORTED,
        )
    from heitu.device.build import core_library

    device = _Device(core_library(), companion)
    sys.meta_path.insert(0, AroundImport("torch._C", device.before_c, device.after_c))
    sys.meta_path.insert(0, AroundImport("torch", None, device.after_torch))
    sys.meta_path.insert(0, AroundImport("triton.backends", None, replace_backend))


class _Device:
    """The steps of coming to life, in their order."""

    def __init__(self, library: Path, companion: Companion | None = None) -> None:
        self._library = library
        self._companion = companion
        self._core: ModuleType | None = None

    def before_c(self, _: ModuleSpec) -> None:
        try:
            ctypes.CDLL(str(self._library), mode=os.RTLD_NOW | os.RTLD_LOCAL)
        except OSError as error:
            raise HeituError(
                f"The core does not load: {error}.",
                hint=f"Remove {self._library}, so that it is built anew, and run `heitu doctor`.",
                exit_code=ExitCode.CORE_UNUSABLE,
            ) from None

    def after_c(self, torch_c: ModuleType) -> None:
        from heitu.device import bindings

        loader = importlib.machinery.ExtensionFileLoader("heitu_core", str(self._library))
        spec = importlib.util.spec_from_file_location("heitu_core", self._library, loader=loader)
        assert spec is not None
        core = importlib.util.module_from_spec(spec)
        loader.exec_module(core)
        sys.modules["heitu_core"] = self._core = core
        core.set_device_count(visible_devices())
        if settings.dry:
            core.begin_dry_run()
        if self._companion is not None:
            self._companion.before_kernels(core, torch_c)
        torchgen = Path(torch_c.__file__ or "").parent.parent / "torchgen"
        core.install(str(torchgen))
        bindings.supply(torch_c, core)

    def after_torch(self, torch: ModuleType) -> None:
        from heitu.device import patches

        assert self._core is not None
        patches.apply(torch, self._core)
        if settings.dry:
            from heitu.device import dry

            dry.apply(torch, self._core)
        if self._companion is not None:
            self._companion.after_torch(self._core, torch)


def visible_devices() -> int:
    """Number of emulated devices that the program sees."""
    return len(visible_indices())


def visible_indices() -> list[int]:
    """Emulated devices that CUDA_VISIBLE_DEVICES leaves of all there are, by CUDA's own rules.

    CUDA reads the list up to the first entry that names no device; entries are indices or UUIDs
    (docs.nvidia.com/cuda, CUDA environment variables).
    """
    total = _all_devices()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return list(range(total))
    seen: list[int] = []
    for entry in listed.split(","):
        word = entry.strip()
        if word.upper().startswith(("GPU-", "MIG-")):
            index = next((i for i in range(total) if device_uuid(i).startswith(word[4:])), None)
            word = "" if index is None else str(index)
        if not word.isdigit() or int(word) >= total:
            break
        if int(word) in seen:  # CUDA shows no device at all when one is named twice
            return []
        seen.append(int(word))
    return seen


def _all_devices() -> int:
    """HEITU_DEVICES; unset, as many as the launcher started processes here: a GPU each, as they expect."""
    if type(settings).devices.variable in os.environ:
        return settings.devices
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(settings.devices, min(int(local), MAX_DEVICES)) if local.isdigit() else settings.devices


def device_uuid(index: int) -> str:
    """UUID of an emulated device; the last group is its index."""
    return f"48656974-7500-4000-8000-{index:012x}"
