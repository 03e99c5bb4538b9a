"""Collectives of one process over several devices: what torch.cuda.comm and torch.cuda.nccl call.

A CUDA build has these functions in `torch._C`; here they are copies between devices and additions. NCCL
reduces in the order of its ring, these in the order of the tensors. Streams and communicators are accepted
and have no effect: work on emulated devices is done when the call returns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

UNIQUE_ID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES
# What copies and adds across devices, in this module and, with an underscore before it, in `torch._C`.
COPIES = (
    "broadcast", "broadcast_out", "broadcast_coalesced", "scatter", "scatter_out", "gather", "gather_out",
    "nccl_all_reduce", "nccl_reduce", "nccl_broadcast", "nccl_all_gather", "nccl_reduce_scatter",
)  # fmt: skip
PRODUCT, MAXIMUM, MINIMUM, AVERAGE = 1, 2, 3, 4  # ncclRedOp_t; the sum is 0


def install(torch_c: Any, core: Any) -> None:
    """Supplies the functions on `torch._C`."""
    major, minor, patch = core.nccl_version
    torch_c._nccl_version = lambda: (major << 32) | (minor << 16) | patch
    torch_c._nccl_version_suffix = lambda: b""
    torch_c._nccl_unique_id = lambda: os.urandom(UNIQUE_ID_BYTES)
    torch_c._nccl_init_rank = nccl_init_rank
    across = {name: globals()[name] for name in COPIES}
    for name, function in across.items():
        setattr(torch_c, f"_{name}", function)


# ---- torch.cuda.comm ----


def broadcast(tensor: Tensor, devices: Sequence[int]) -> list[Tensor]:
    """A copy of `tensor` on each device; on its own device, the tensor itself."""
    if not devices:
        raise RuntimeError("Expected at least one device to broadcast to")
    return [_on(tensor, device) for device in devices]


def broadcast_out(tensor: Tensor, out: Sequence[Tensor]) -> list[Tensor]:
    """Copies `tensor` into each tensor of `out`."""
    for index, target in enumerate(out):
        _require(
            target.is_cuda,
            f"Expected all output tensors to be CUDA tensors, but output tensor at index {index} has device "
            f"'{target.device}'",
        )
        _require(
            target.shape == tensor.shape,
            f"Expected all output tensors to have same shape as the source tensor {list(tensor.shape)}, but "
            f"output tensor at index {index} has shape {list(target.shape)}",
        )
    for target in out:
        target.copy_(tensor)
    return list(out)


def broadcast_coalesced(tensors: Sequence[Tensor], devices: Sequence[int], _: int) -> list[list[Tensor]]:
    """For each device the list of all tensors; `devices[0]` is where they lie."""
    for tensor in tensors:
        _require(
            tensor.is_cuda and tensor.get_device() == devices[0],
            "All tensors must be on devices[0]: " + str(devices[0]),
        )
    return [
        list(tensors),
        *([tensor.detach().to(f"cuda:{device}") for tensor in tensors] for device in devices[1:]),
    ]


def scatter(
    tensor: Tensor, devices: Sequence[int], sizes: Sequence[int] | None, dim: int, _: object
) -> list[Tensor]:
    """Cuts `tensor` along `dim`, one piece a device (-1: the CPU)."""
    _require(len(devices) > 0, "Expected at least one device to scatter to")
    if sizes is None:
        pieces = tensor.chunk(len(devices), dim)
    else:
        _require(
            len(sizes) == len(devices),
            "Expected devices and chunk_sizes to be of same length, but got "
            f"len(devices) = {len(devices)} and len(chunk_sizes) = {len(sizes)}",
        )
        pieces = tensor.split_with_sizes(list(sizes), dim)
    return [_on(piece, device) for piece, device in zip(pieces, devices, strict=False)]


def scatter_out(tensor: Tensor, out: Sequence[Tensor], dim: int, _: object) -> list[Tensor]:
    """Cuts `tensor` along `dim` into the sizes of `out` and copies the pieces there."""
    _require(len(out) > 0, "Expected at least one output tensor to scatter to")
    along = range(tensor.dim())[dim]
    for index, target in enumerate(out):
        _require(
            target.is_cuda,
            f"Expected all output tensors to be CUDA tensors, but output tensor at index {index} has device "
            f"'{target.device}'",
        )
        _require(
            target.dim() == tensor.dim() and _but(target, along) == _but(tensor, along),
            f"Output tensor at index {index} has incorrect shape: {list(target.shape)}. Expected same shape "
            f"except for scatter dim {along} as the source tensor: {list(tensor.shape)}",
        )
    sizes = [target.size(along) for target in out]
    _require(
        sum(sizes) == tensor.size(along),
        f"Total size for output tensors along scatter dim {along} does not match the source tensor size at "
        f"dim {along}. Expected {tensor.size(along)}, but got total size {sum(sizes)}",
    )
    for target, piece in zip(out, tensor.split_with_sizes(sizes, along), strict=True):
        target.copy_(piece)
    return list(out)


def gather(tensors: Sequence[Tensor], dim: int, destination: int | None) -> Tensor:
    """All tensors along `dim`, on `destination` (-1: the CPU; None: the current device)."""
    import torch

    along = _check_gather(tensors, dim)
    if destination is None:
        destination = torch.cuda.current_device()
    return torch.cat([_on(tensor, destination) for tensor in tensors], along)


def gather_out(tensors: Sequence[Tensor], out: Tensor, dim: int) -> Tensor:
    """All tensors along `dim`, in `out`."""
    along = _check_gather(tensors, dim)
    total = sum(tensor.size(along) for tensor in tensors)
    expected = [*tensors[0].shape]
    expected[along] = total
    _require(
        list(out.shape) == expected,
        f"Expected out tensor to have shape {expected}, but got {list(out.shape)}",
    )
    sizes = [tensor.size(along) for tensor in tensors]
    for target, tensor in zip(out.split_with_sizes(sizes, along), tensors, strict=True):
        target.copy_(tensor)
    return out


def _check_gather(tensors: Sequence[Tensor], dim: int) -> int:
    _require(len(tensors) > 0, "Expected at least one tensor to gather from")
    first = tensors[0]
    along = range(max(first.dim(), 1))[dim]
    for index, tensor in enumerate(tensors):
        _require(
            tensor.is_cuda,
            "Expected all input tensors to be CUDA tensors, but tensor at index "
            f"{index} has device '{tensor.device}'",
        )
        _require(
            tensor.dim() == first.dim(),
            f"Expected all input tensors to have the same number of dimensions, but tensor at index {index} "
            f"has {tensor.dim()} dimensions, (expected {first.dim()})",
        )
        _require(
            _but(tensor, along) == _but(first, along),
            f"Input tensor at index {index} has invalid shape {list(tensor.shape)}, but expected "
            f"{list(first.shape)}",
        )
    return along


# ---- torch.cuda.nccl ----


def nccl_init_rank(ranks: int, unique_id: bytes, rank: int) -> None:
    """Refuses: a communicator of several processes belongs to torch.distributed."""
    raise RuntimeError(
        f"torch.cuda.nccl.init_rank(ranks={ranks}, rank={rank}) is not available on emulated devices; use "
        'torch.distributed.init_process_group("nccl").'
    )


def nccl_all_reduce(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], op: int, streams: object, comms: object
) -> None:
    """outputs[i] = reduction of all inputs."""
    _check(inputs, outputs, 1, 1)
    result = _reduced(inputs, op)
    for output in outputs:
        output.copy_(result)


def nccl_reduce(
    inputs: Sequence[Tensor], output: Tensor, root: int, op: int, streams: object, comms: object
) -> None:
    """output, on the device of inputs[root], = reduction of all inputs."""
    _require(0 <= root < len(inputs), "invalid root")
    _check(inputs, [output if i == root else tensor for i, tensor in enumerate(inputs)], 1, 1)
    output.copy_(_reduced(inputs, op))


def nccl_broadcast(tensors: Sequence[Tensor], root: int, streams: object, comms: object) -> None:
    """Copies tensors[root] into all others."""
    _require(0 <= root < len(tensors), "invalid root")
    _check(tensors, tensors, 1, 1)
    for tensor in tensors:
        if tensor is not tensors[root]:
            tensor.copy_(tensors[root])


def nccl_all_gather(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], streams: object, comms: object
) -> None:
    """outputs[i] = all inputs, one after the other."""
    _check(inputs, outputs, len(inputs), 1)
    for output in outputs:
        for part, tensor in zip(output.view(-1).chunk(len(inputs)), inputs, strict=True):
            part.copy_(tensor.reshape(-1))


def nccl_reduce_scatter(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], op: int, streams: object, comms: object
) -> None:
    """outputs[i] = the i-th part of the reduction of all inputs."""
    _check(inputs, outputs, 1, len(inputs))
    parts = _reduced(inputs, op).reshape(-1).chunk(len(outputs))
    for output, part in zip(outputs, parts, strict=True):
        output.view(-1).copy_(part)


def _reduced(inputs: Sequence[Tensor], op: int) -> Tensor:
    import torch

    combine: dict[int, Callable[..., Any]] = {PRODUCT: torch.mul, MAXIMUM: torch.fmax, MINIMUM: torch.fmin}
    with torch.no_grad():
        result = inputs[0].clone()
        for tensor in inputs[1:]:
            result = combine.get(op, torch.add)(result, tensor.to(result.device))
        if op == AVERAGE:
            result = result / len(inputs) if result.is_floating_point() else result // len(inputs)
    return result


def _check(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], output_factor: int, input_factor: int
) -> None:
    _require(len(inputs) > 0, "input sequence can't be empty")
    _require(
        len(inputs) == len(outputs),
        f"inputs and outputs sequences have to be of the same length, but got input of length {len(inputs)} "
        f"and output of length {len(outputs)}",
    )
    seen: set[int] = set()
    for tensor, output in zip(inputs, outputs, strict=True):
        for one in (tensor, output):
            _require(
                one.is_cuda and not one.is_sparse, "input and output elements have to be cuda dense Tensors"
            )
            _require(one.dtype == inputs[0].dtype, "all inputs and outputs must be of the same Tensor type")
            _require(one.is_contiguous(), "all inputs and outputs must be contiguous")
        _require(tensor.get_device() not in seen, "inputs must be on unique devices")
        seen.add(tensor.get_device())
        _require(tensor.device == output.device, "input and output must be on the same device")
        _require(tensor.numel() == inputs[0].numel(), "all inputs must have the same number of elements")
        _require(
            output.numel() * input_factor == tensor.numel() * output_factor,
            "output has incorrect number of elements",
        )


def _on(tensor: Tensor, device: int) -> Tensor:
    return tensor.to("cpu" if device < 0 else f"cuda:{device}")


def _but(tensor: Tensor, dim: int) -> list[int]:
    return [size for index, size in enumerate(tensor.shape) if index != dim]


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise RuntimeError(text)
