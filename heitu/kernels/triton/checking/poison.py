"""Memory that is allocated and not written holds a pattern, by which a read of it is known.

Operators of torch write memory without anybody being told, so that what was written cannot be followed; what
still holds the pattern was not. The pattern is a word of 32 bits, another one in each process: as good as no
number that was computed equals it. Of smaller elements the whole word around them has to hold it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import random
import sys
from collections.abc import Callable
from typing import Any

from heitu.settings import settings

# Larger memory is left as it is: what is allocated and never touched takes no memory.
MOST_BYTES = 1 << 30
FUNCTIONS = ("empty", "empty_like", "empty_strided", "empty_permuted")
METHODS = ("new_empty", "new_empty_strided")
GUARDS = ("_empty_strided_cpu", "_empty_strided_cuda")

# As a float it is NaN, so that what is computed from it is seen to be wrong too.
pattern = 0x7FA00000 | random.Random(os.urandom(8)).getrandbits(21)
_storages: dict[int, Any] = {}  # by the address of the storage's own structure


def install() -> None:
    """Has what torch allocates for Python without values hold the pattern, if torch is imported by now."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        return
    # A dry run leaves large memory untouched, so that it takes none.
    if settings.dry or hasattr(torch.empty, "_heitu_original"):
        return
    for name in FUNCTIONS:
        _replace(torch, name)
    for name in METHODS:
        _replace(torch.Tensor, name)
    for name in GUARDS:
        if hasattr(torch._C._dynamo.guards, name):
            _replace(torch._C._dynamo.guards, name)


def _replace(owner: Any, name: str) -> None:
    original = getattr(owner, name)
    setattr(owner, name, _poisoning(original))
    if getattr(owner, "__name__", "") == "torch":  # TorchScript knows operators by their functions
        from torch.jit import _builtins

        _builtins._register_builtin(getattr(owner, name), f"aten::{name}")


def _poisoning(original: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    @functools.wraps(original)
    def allocate(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        if not torch.compiler.is_compiling() and kwargs.get("out") is None:
            _fill(made)
        return made

    allocate._heitu_original = original  # type: ignore[attr-defined]
    return allocate


def _fill(made: Any) -> None:
    """Fills memory that was just allocated; what has none, or is a subclass, stays as it was made."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef

    if type(made) is not torch.Tensor or made.layout is not torch.strided:
        return
    if made.device.type not in ("cpu", "cuda"):
        return
    storage = made.untyped_storage()
    count, address = storage.nbytes(), storage.data_ptr()
    if not 4 <= count <= MOST_BYTES or address == 0:
        return
    word = pattern.to_bytes(4, "little")
    # The word lies at addresses that 4 divides, wherever the storage begins.
    turned = word[address % 4 :] + word[: address % 4]
    _write(address, count, turned)
    if len(_storages) > 1000 and len(_storages) % 1000 == 1:
        _forget()
    _storages[storage._cdata] = StorageWeakRef(storage), address, count


def _write(address: int, count: int, word: bytes) -> None:
    """Doubles what is written until the memory is full of it."""
    ctypes.memmove(address, word, 4)
    done = 4
    while done < count:
        more = min(done, count - done)
        ctypes.memmove(address + done, address, more)
        done += more


def _forget() -> None:
    for key in [key for key, (reference, _, _) in _storages.items() if reference.expired()]:
        del _storages[key]


def holds(storage: Any) -> bool:
    """Whether the memory of a storage held the pattern when it was allocated."""
    entry = _storages.get(storage._cdata)
    return entry is not None and not entry[0].expired()


def live() -> list[tuple[int, int]]:
    """Address and bytes of each memory that held the pattern."""
    _forget()
    return [(address, count) for _, address, count in _storages.values()]
