"""What has to be put right in torch's Python once the plugin is imported. All of it is undone by `undo()`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from heitu.collectives.comm import COPIES
from heitu.device import legacy_types
from heitu.device.patches import replace
from heitu.device.runtime import CUDA_VERSION

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
    _patch_storage(torch, core)
    legacy_types.patch(torch, core)


def _patch_storage(torch: Any, core: Any) -> None:
    """Lets torch.UntypedStorage be made and resized on cuda."""
    storage_class = torch.UntypedStorage
    base = torch._C.StorageBase

    def is_cuda(device: object) -> bool:
        return device is not None and torch.device(device).type == "cuda"

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not is_cuda(kwargs.get("device")):
            return base.__new__(cls, *args, **kwargs)
        device = torch.device(kwargs.pop("device"))
        index = -1 if device.index is None else device.index
        torch.cuda._lazy_init()
        if len(args) == 1 and isinstance(args[0], int) and args[0] >= 0 and not kwargs:
            return core.new_memory(args[0], index).untyped_storage()
        host = base.__new__(cls, *args, **kwargs)  # takes a sequence's values, or refuses the arguments
        return core.new_memory(host.nbytes(), index).untyped_storage().copy_(host)

    def resize_(self: Any, size: int) -> Any:
        if self.device.type != "cuda":
            return base.resize_(self, size)
        if not isinstance(size, int):
            raise RuntimeError(f"resize_ expects an int, but got {type(size).__name__}")
        if size < 0:
            raise RuntimeError(f"Requested storage size ({size}) cannot be represented as a size_t")
        core.resize_storage(self, size)
        return self

    replace(storage_class, "__new__", staticmethod(new))
    replace(storage_class, "resize_", resize_)
