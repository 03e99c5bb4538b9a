"""What has to be put right in torch's Python once the plugin is imported. All of it is undone by `undo()`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from heitu.collectives.comm import COPIES
from heitu.device import legacy_types
from heitu.device.patches import replace
from heitu.device.runtime import CUDA_VERSION
from heitu.device.storage import allow_on_cuda

# Plugins replace these by functions that know their own device alone and fail on cuda's storages.
KEPT = (
    ("serialization", "save"),
    ("serialization", "load"),
    ("serialization", "_save"),
    ("serialization", "_load"),
    ("serialization", "_legacy_save"),
    ("serialization", "_legacy_load"),
    ("", "save"),
    ("", "load"),
    *(("_C", f"_{name}") for name in COPIES),
)


@contextmanager
def kept(torch: Any) -> Iterator[None]:
    """Puts back, after the plugin is imported, what it must not replace."""
    before = [(owner, name, getattr(owner, name, None)) for owner, name in _owners(torch)]
    yield
    for owner, name, value in before:
        if value is not None and getattr(owner, name, None) is not value:
            setattr(owner, name, value)


def _owners(torch: Any) -> Iterator[tuple[Any, str]]:
    for module, name in KEPT:
        yield (getattr(torch, module) if module else torch), name


def apply(torch: Any, core: Any) -> None:
    """Settles on the imported torch what could not be settled before."""
    replace(torch._C, "_has_cuda", True)
    replace(torch.version, "cuda", f"{CUDA_VERSION // 1000}.{CUDA_VERSION % 1000 // 10}")
    queued = torch.cuda._queued_calls
    # Capabilities of other makers' chips mean nothing to torch's check of what it was compiled for.
    queued[:] = [call for call in queued if call[0] is not torch.cuda._check_capability]
    allow_on_cuda(
        torch, lambda size, index: core.new_memory(size, index).untyped_storage(), core.resize_storage
    )
    legacy_types.patch(torch, core)
