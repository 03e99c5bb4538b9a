"""Puts a chip's way into a process: the cuda device over the plugin, or the maker's own redirection."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from heitu.backings import engine_thread, visible_devices
from heitu.backings.backing import Backing
from heitu.device.around_import import AroundImport
from heitu.settings import VENDOR_SHIM

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"


def build(backing: Backing, *, over_emulator: bool, via: str | None) -> None:
    """Has the libraries built that `install` will load.

    Raises:
        HeituError: no compiler, or a failed build.
    """
    from heitu.device.build import library_file

    if via is None:
        library_file(importlib.import_module("heitu.backings.forwarding").library())
    if over_emulator:
        library_file(importlib.import_module(f"{backing.emulator}.activation").library())


def install(backing: Backing, *, over_emulator: bool, via: str | None) -> None:
    """Makes the coming import of torch bring the chip. Torch must not be imported yet.

    Raises:
        HeituError: torch is already imported, or a library cannot be built.
    """
    visible_devices.agree(backing, os.environ)
    emulator: Any = importlib.import_module(backing.emulator) if over_emulator else None
    if via is not None:
        modules = [backing.plugin, *([backing.shim] if via == VENDOR_SHIM else [])]

        def bring(_: ModuleType) -> None:
            if over_emulator and backing.plugin in sys.modules:  # it is what imports torch
                emulator.activate()
            _import(modules)
            engine_thread.finish_at_exit(backing.device)

        sys.meta_path.insert(0, AroundImport("torch", _put_off_autoload, bring))
    else:
        from heitu.backings.forwarding import library
        from heitu.backings.forwarding.activation import install as forward
        from heitu.device.build import library_file

        forward(backing, library_file(library()))
    if over_emulator:
        sys.meta_path.insert(0, AroundImport(backing.plugin, lambda _: emulator.activate(), _nothing))


_autoload: list[str | None] = []


def _put_off_autoload(_: object) -> None:
    # The plugin comes when torch is whole, not in the middle of its import.
    _autoload.append(os.environ.get(AUTOLOAD))
    os.environ[AUTOLOAD] = "0"


def _import(modules: list[str]) -> None:
    before = _autoload.pop()
    if before is None:
        del os.environ[AUTOLOAD]
    else:
        os.environ[AUTOLOAD] = before
    for module in modules:
        importlib.import_module(module)


def _nothing(_: ModuleType) -> None:
    pass
