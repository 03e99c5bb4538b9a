"""Storages of the device: made, resized and sent to other processes.

The C++ of torch.UntypedStorage (torch/csrc/StorageMethods.cpp, StorageSharing.cpp) knows the cuda device
only in a CUDA build; the rest of the class works on any device.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

from heitu.device.patches import replace

# Of memory: process, descriptor, inode, bytes of the segment. Of a counter: process, descriptor, inode.
_MEMORY = struct.Struct("<qqQQ")
_COUNTER = struct.Struct("<qqQ")


def install(torch_c: Any, core: ModuleType) -> None:
    """Supplies torch.cuda.ipc_collect."""
    torch_c._cuda_ipc_collect = core.collect_sent


def allow_on_cuda(torch: Any, make: Callable[[int, int], Any], resize: Callable[[Any, int], None]) -> None:
    """Lets torch.UntypedStorage be made and resized on cuda.

    Args:
        make: gives a storage of so many bytes on the device of that index, -1: the current one.
        resize: gives a storage memory of so many bytes.
    """
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
            return make(args[0], index)
        host = base.__new__(cls, *args, **kwargs)  # takes a sequence's values, or refuses the arguments
        return make(host.nbytes(), index).copy_(host)

    def resize_(self: Any, size: int) -> Any:
        if self.device.type != "cuda":
            return base.resize_(self, size)
        if not isinstance(size, int):
            raise RuntimeError(f"resize_ expects an int, but got {type(size).__name__}")
        if size < 0:
            raise RuntimeError(f"Requested storage size ({size}) cannot be represented as a size_t")
        resize(self, size)
        return self

    replace(storage_class, "__new__", staticmethod(new))
    replace(storage_class, "resize_", resize_)


def patch(torch: Any, core: ModuleType) -> None:
    """Lets torch.UntypedStorage be made, resized and shared on cuda."""
    storage_class = torch.UntypedStorage
    allow_on_cuda(torch, core.new_storage, core.resize_storage)

    def share(self: Any) -> tuple[Any, ...]:
        if self.device.type != "cuda":
            raise RuntimeError("_share_cuda_: only available on CUDA")
        if self.nbytes() == 0:
            return self.device.index, None, 0, 0, None, 0, None, None
        memory, counter = core.send_storage(self)
        *segment, offset = memory
        *place, index = counter
        # The device has computed everything when a call returns, so there is no event to wait for.
        return (
            self.device.index,
            _MEMORY.pack(*segment),
            self.nbytes(),
            offset,
            _COUNTER.pack(*place),
            index,
            b"",
            False,
        )

    def receive(
        device: int,
        handle: bytes,
        size: int,
        offset: int,
        counter: bytes,
        counter_index: int,
        event: bytes,
        wait_for_event: bool,
    ) -> Any:
        memory = (*_MEMORY.unpack(handle), offset)
        return core.receive_storage(memory, (*_COUNTER.unpack(counter), counter_index), size, device)

    def release(counter: bytes, index: int) -> None:
        core.release_sent((*_COUNTER.unpack(counter), index))

    replace(storage_class, "_share_cuda_", share)
    replace(storage_class, "_new_shared_cuda", staticmethod(receive))
    replace(storage_class, "_release_ipc_counter_cuda", staticmethod(release))
