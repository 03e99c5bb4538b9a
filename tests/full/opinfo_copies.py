"""Copies of a call's arguments on another device, of the same form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Copies:
    """Copies of a call's arguments on a device: same layout, same sharing of memory among them."""

    def __init__(
        self, device: str, dtypes: dict[torch.dtype, torch.dtype] | None = None, grad: bool = False
    ) -> None:
        self.device = device
        self.dtypes = dtypes or {}
        self.grad = grad
        self._tensors: dict[int, Tensor] = {}
        self._storages: dict[tuple[int, torch.dtype], Tensor] = {}
        self.leaves: list[Tensor] = []
        self.placed = False  # whether a copied value says on which device the call is

    def __call__(self, value: Any) -> Any:
        return pytree.tree_map(self._copy, value)

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor | torch.device) or (isinstance(value, str) and value == "cpu"):
            self.placed = True
        if isinstance(value, Tensor):
            key = id(value)
            if key not in self._tensors:
                self._tensors[key] = self._tensor(value)
            return self._tensors[key]
        if isinstance(value, torch.device):
            return torch.device(self.device) if value.type == "cpu" else value
        if isinstance(value, torch.dtype):
            return self.dtypes.get(value, value)
        if isinstance(value, torch.Generator) and self.device != "cpu":
            return torch.Generator(self.device).manual_seed(value.initial_seed())
        if isinstance(value, slice):
            return slice(*(self._copy(part) for part in (value.start, value.stop, value.step)))
        return self.device if isinstance(value, str) and value == "cpu" else value

    def _tensor(self, tensor: Tensor) -> Tensor:
        dtype = self.dtypes.get(tensor.dtype, tensor.dtype)
        with torch.no_grad():
            if (
                tensor.layout is not torch.strided
                or tensor.is_nested
                or type(tensor)
                not in (
                    Tensor,
                    torch.nn.Parameter,
                )
                or tensor.is_quantized
            ):
                copy = tensor.detach().clone().to(self.device, dtype)
            else:
                copy = self._strided(tensor.detach(), dtype)
        if tensor.requires_grad and self.grad:
            copy.requires_grad_()
            self.leaves.append(copy)
        return copy

    def _strided(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        conjugate, negative = tensor.is_conj(), tensor.is_neg()
        plain = tensor.conj() if conjugate else tensor
        plain = torch._neg_view(plain) if negative else plain
        storage = plain.untyped_storage()
        key = (storage.data_ptr() or id(storage), plain.dtype)
        if key not in self._storages:
            count = storage.nbytes() // plain.element_size()
            whole = torch.empty(0, dtype=plain.dtype).set_(storage, 0, (count,), (1,))
            self._storages[key] = torch.empty(count, dtype=dtype, device=self.device).copy_(whole)
        copy = self._storages[key].as_strided(plain.size(), plain.stride(), plain.storage_offset())
        copy = torch._neg_view(copy) if negative else copy
        return copy.conj() if conjugate else copy
