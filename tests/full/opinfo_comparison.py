"""How results of the two devices are compared, and how what differs is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

# For dtypes that only CUDA computes: the CPU computes the same in this one.
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
# Where CPU and device round differently, this is asked which of them is nearer.
FINER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def brief(error: BaseException | str) -> str:
    """The first telling line of an error."""
    text = str(error).strip() or type(error).__name__
    line = re.sub(r"0x[0-9a-f]+", "0x…", " ".join(text.split()))
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    return f"{kind}{line}"[:240]


@dataclass
class Comparison:
    """Compares results of the two sides and collects what differs."""

    values: bool = True
    placed: bool = True  # whether the arguments name the device
    strides: bool = True
    narrow: torch.dtype | None = None  # the dtype, where the CPU computed in a wider one
    wide: bool = False  # whether CUDA gives some results of 16-bit floats in 32 bits, where the CPU does not
    problems: list[str] = field(default_factory=list)

    def say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def tree(self, host: Any, device: Any) -> None:
        host_leaves, host_form = pytree.tree_flatten(host)
        device_leaves, device_form = pytree.tree_flatten(device)
        if len(host_leaves) != len(device_leaves):
            self.say(f"results: {device_form} instead of {host_form}")
            return
        for one, other in zip(host_leaves, device_leaves, strict=True):
            if isinstance(one, Tensor) and isinstance(other, Tensor):
                self.tensor(one, other)
            elif type(one) is not type(other):
                self.say(f"type: {type(other).__name__} instead of {type(one).__name__}")
            elif isinstance(one, (bool, int, float, complex)) and self.values:
                self._close(torch.tensor(one), torch.tensor(other))
            elif isinstance(one, torch.dtype | torch.Size | str) and one != other and not self.narrow:
                self.say(f"result: {other} instead of {one}")

    def tensor(self, host: Tensor, device: Tensor) -> None:
        if self.wide and device.dtype == WIDER.get(host.dtype):
            device = device.to(host.dtype)
        if device.device.type != "cuda" and self.placed:
            self.say(f"device: a result is on {device.device}")
        if host.layout != device.layout:
            self.say(f"layout: {device.layout} instead of {host.layout}")
            return
        if host.dtype != device.dtype and not (self.narrow and host.dtype == WIDER.get(device.dtype)):
            self.say(f"dtype: {dtype_name(device.dtype)} instead of {dtype_name(host.dtype)}")
            return
        if not host.is_nested:
            if host.shape != device.shape:
                self.say(f"shape: {tuple(device.shape)} instead of {tuple(host.shape)}")
                return
            if self.strides and host.layout is torch.strided and _strides(host) != _strides(device):
                self.say("strides differ")
        if (host.is_conj(), host.is_neg()) != (device.is_conj(), device.is_neg()):
            self.say("lazy conjugation or negation differs")
        if host.requires_grad != device.requires_grad:
            self.say(f"requires_grad: {device.requires_grad} instead of {host.requires_grad}")
        if self.values:
            self._close(host.detach().cpu(), device.detach().cpu())

    def _close(self, host: Tensor, device: Tensor) -> None:
        tolerance: dict[str, float] = {}
        if host.dtype != device.dtype:  # rounded at every step on the device, once here
            coarse = device.dtype == torch.bfloat16
            # Steps in between round relative to the largest value (sums, Fourier transforms).
            share = 4e-2 if coarse else 5e-3
            finite = host.abs()[host.isfinite()]
            largest = float(finite.max()) if finite.numel() else 0.0
            tolerance = {"rtol": share, "atol": share * min(max(largest, 1.0), 16.0)}
            host, device = host.resolve_conj(), device.to(host.dtype).resolve_conj()
            # Near the end of the narrow dtype's range, steps in between may leave it.
            limit = torch.finfo(torch.bfloat16 if coarse else torch.float16).max / 4
            near = (
                (torch.view_as_real(host).abs() > limit).any(-1) if host.is_complex() else host.abs() > limit
            )
            host, device = host.masked_fill(near, 0), device.masked_fill(near, 0)
        try:
            torch.testing.assert_close(device, host, equal_nan=True, **tolerance)
        except AssertionError as error:
            lines = str(error).splitlines()
            found = [
                line for line in lines if line.startswith(("Mismatched", "Greatest absolute", "Expected"))
            ]
            self.say("values: " + brief("; ".join(found) or str(error)))
        except Exception as error:
            self.say("values cannot be compared: " + brief(error))


def _strides(tensor: Tensor) -> list[int]:
    if tensor.numel() == 0:
        return []
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


def aliases(arguments: Any, results: Any) -> list[tuple[int, int, bool]]:
    """For each result: which argument's memory it shares (-1: none), from where, and whether it is it."""
    tensors = [leaf for leaf in pytree.tree_leaves(arguments) if _has_memory(leaf)]
    found = []
    for result in pytree.tree_leaves(results):
        if not _has_memory(result):
            continue
        place = result.untyped_storage()._cdata
        owner = next((i for i, t in enumerate(tensors) if t.untyped_storage()._cdata == place), -1)
        same = owner >= 0 and any(result is t for t in tensors)
        found.append((owner, result.storage_offset() if owner >= 0 else 0, same))
    return found


def _has_memory(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and type(value) is Tensor
        and value.layout is torch.strided
        and not value.is_nested
        and value.numel() > 0
    )


def as_near(host: Any, device: Any, exact: Any) -> bool:
    """Whether the device's result is about as near to the exact one as the CPU's."""
    if not isinstance(exact, Tensor) or exact.layout is not torch.strided or exact.numel() == 0:
        return True
    fine = torch.complex128 if exact.is_complex() else torch.float64
    one, other, best = (side.detach().cpu().to(fine) for side in (host, device, exact))
    # A rounding of the largest value besides: the CPU may be exact by luck.
    least = torch.finfo(host.dtype).eps if host.is_floating_point() or host.is_complex() else 0.0
    limit = 10 * (one - best).abs().nan_to_num(nan=torch.inf).max() + 4 * least * best.abs().max()
    distance = (other - best).abs().max()
    return bool(distance.isfinite() and distance <= limit)
