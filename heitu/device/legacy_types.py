"""torch.cuda.FloatTensor and its kin: types with which a CPU build refuses to make tensors."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from heitu.device.patches import replace, when_undone


def patch(torch: Any, core: ModuleType) -> None:
    """Lets the types make tensors, and be the default tensor type.

    torch/csrc/tensor/python_tensor.cpp asks whether CUDA was compiled in; isinstance, `Tensor.type` and
    the types' attributes work without.
    """
    for tensor_type in _tensor_types(torch):
        core.enable_tensor_type(tensor_type)
        when_undone(lambda tensor_type=tensor_type: core.disable_tensor_type(tensor_type))  # type: ignore[misc]
    set_default = torch._C._set_default_tensor_type
    meta = type(torch.cuda.FloatTensor)

    def set_default_tensor_type(tensor_type: Any) -> None:
        if type(tensor_type) is meta and tensor_type.is_cuda:
            torch.cuda._lazy_init()
            core.without_cuda_flag(tensor_type, set_default)
        else:
            set_default(tensor_type)

    replace(torch._C, "_set_default_tensor_type", set_default_tensor_type)


def _tensor_types(torch: Any) -> Iterator[type]:
    meta = type(torch.cuda.FloatTensor)
    for module in (torch.cuda, torch.cuda.sparse):
        for value in list(vars(module).values()):
            if isinstance(value, meta):
                yield value
