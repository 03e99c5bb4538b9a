"""Puts the cuda device over a vendor's plugin into a process, around the import of torch.

The library has to be there before `torch._C` asks for CUDA's hooks, the plugin can only be imported when the
whole of torch is there; in between the device answers that it has no devices yet.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from heitu.backings.forwarding import NAME
from heitu.device.around_import import AroundImport
from heitu.errors import ExitCode, HeituError

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"


class Forwarded(Protocol):
    """What has to be known of a vendor's plugin."""

    @property
    def plugin(self) -> str:
        """Its Python package: torch_npu."""

    @property
    def device(self) -> str:
        """The name that it gives PyTorch's PrivateUse1 device: npu."""

    @property
    def collectives(self) -> str:
        """Its backend of torch.distributed: hccl."""


def install(backing: Forwarded, library: Path) -> None:
    """Makes the coming import of torch bring the cuda device over the plugin. Safe to call twice.

    Raises:
        HeituError: torch is already imported without it.
    """
    if any(isinstance(finder, AroundImport) for finder in sys.meta_path):
        return
    if "torch" in sys.modules:
        raise HeituError(
            "torch is already imported, so the cuda device cannot be put into it any more.",
            hint="Call heitu.enable() before the first `import torch` (in a notebook: restart the kernel).",
            exit_code=ExitCode.TORCH_IMPORTED,
        )
    device = _Device(backing, library)
    sys.meta_path.insert(0, AroundImport("torch._C", device.before_c, device.after_c))
    sys.meta_path.insert(0, AroundImport("torch", device.before_torch, device.after_torch))


class _Device:
    """The steps of coming to life, in their order."""

    def __init__(self, backing: Forwarded, library: Path) -> None:
        self._backing = backing
        self._library = library
        self._core: Any = None
        self._autoload: str | None = None

    def before_torch(self, _: ModuleSpec) -> None:
        # The plugin comes when torch is whole, not in the middle of its import.
        self._autoload = os.environ.get(AUTOLOAD)
        os.environ[AUTOLOAD] = "0"

    def before_c(self, _: ModuleSpec) -> None:
        try:
            # For all to see: it answers at::getAccelerator in PyTorch's stead (csrc/accelerator.cpp).
            ctypes.CDLL(str(self._library), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
        except OSError as error:
            raise HeituError(
                f"The library over the vendor's plugin does not load: {error}.",
                hint=f"Remove {self._library}, so that it is built anew, and run `heitu doctor`.",
                exit_code=ExitCode.CORE_UNUSABLE,
            ) from None

    def after_c(self, torch_c: ModuleType) -> None:
        from heitu.backings.forwarding import supply

        loader = importlib.machinery.ExtensionFileLoader(NAME, str(self._library))
        spec = importlib.util.spec_from_file_location(NAME, self._library, loader=loader)
        assert spec is not None
        core = importlib.util.module_from_spec(spec)
        loader.exec_module(core)
        sys.modules[NAME] = core
        self._core = core
        supply.supply(torch_c, core, self._backing)

    def after_torch(self, torch: ModuleType) -> None:
        from heitu.backings.forwarding import ending, patches

        with patches.kept(torch):
            _import_plugin(self._backing)
        if self._autoload is None:
            os.environ.pop(AUTOLOAD, None)
        else:
            os.environ[AUTOLOAD] = self._autoload
        torch_c: Any = sys.modules["torch._C"]
        torchgen = Path(torch_c.__file__ or "").parent.parent / "torchgen"
        self._core.install(str(torchgen))
        self._core.set_accelerator("cuda")
        patches.apply(torch, self._core)
        ending.install(self._core, self._backing.plugin)


def _import_plugin(backing: Forwarded) -> None:
    try:
        importlib.import_module(backing.plugin)
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise HeituError(
            f"{backing.plugin} cannot be imported: {reason[0] if reason else type(error).__name__}.",
            hint="`heitu doctor` shows what does not fit; `heitu run --emulate` runs without the chip.",
            exit_code=ExitCode.PLUGIN_UNUSABLE,
        ) from error
