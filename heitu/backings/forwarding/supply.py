"""Supplies the `torch._C._cuda_*` functions and classes that a CUDA build of torch has compiled in."""

from __future__ import annotations

from typing import Any

from heitu.backings.forwarding import collectives, devices, graphs, memory, runtime, streams
from heitu.backings.forwarding.activation import Forwarded
from heitu.backings.forwarding.plugin import Plugin
from heitu.collectives import comm
from heitu.device import blas, kernels

NCCL_VERSION = (2, 28, 9)  # as the emulated device has it; the plugin's group is another library's


def supply(torch_c: Any, core: Any, backing: Forwarded) -> None:
    """Sets them on `torch._C`, before torch.cuda is imported and looks for them."""
    plugin = Plugin(backing.plugin, backing.device)
    for area in (devices, runtime, streams, memory, graphs):
        area.install(torch_c, core, plugin)
    blas.install(torch_c, core)
    kernels.install(torch_c, core)
    collectives.install(torch_c, core, backing.collectives)
    core.nccl_version = NCCL_VERSION
    comm.install(torch_c, core)
