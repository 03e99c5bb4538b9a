"""Supplies the `torch._C._cuda_*` functions and classes that a CUDA build of torch has compiled in."""

from __future__ import annotations

from types import ModuleType

from heitu.collectives import comm, process_group
from heitu.device import blas, cudnn, graphs, kernels, memory, properties, runtime, storage, streams


def supply(torch_c: ModuleType, core: ModuleType) -> None:
    """Sets them on `torch._C`, before torch.cuda is imported and looks for them."""
    areas = (
        properties, runtime, streams, memory, graphs, blas, cudnn, storage, kernels, comm, process_group,
    )  # fmt: skip
    for area in areas:
        area.install(torch_c, core)
