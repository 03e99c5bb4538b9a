"""Initialisation, versions, the CUDA runtime (cudart) and NVTX."""

from __future__ import annotations

import sys
from typing import Any

from heitu.backings.forwarding.plugin import Plugin
from heitu.device.runtime import ARCHITECTURES, CUDA_VERSION, cudart, nvtx


def install(torch_c: Any, core: Any, plugin: Plugin) -> None:
    """Supplies _cuda_init, _cudart, _nvtx and what reports versions."""

    def cuda_init() -> None:
        if core.in_bad_fork():
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
                "multiprocessing, you must use the 'spawn' start method"
            )
        if core.device_count() == 0:
            raise RuntimeError("No CUDA GPUs are available")
        initialise = plugin.find("_lazy_init", "init")
        if initialise is not None:
            initialise()
        cuda: Any = sys.modules["torch.cuda"]
        cuda.has_magma = False
        cuda.has_half = True
        core.tell_default_generators(list(plugin.find("default_generators") or ()))
        cuda.default_generators = core.default_generators()
        cuda._get_device_properties = torch_c._heitu_get_device_properties
        core.note_initialised()

    def memory_info(device: int) -> tuple[int, int]:
        free, total = plugin.function("torch.cuda.mem_get_info", "mem_get_info")(device)
        return int(free), int(total)

    debug_mode = 0

    def set_sync_debug_mode(mode: int) -> None:
        nonlocal debug_mode
        if mode not in (0, 1, 2):
            raise RuntimeError("invalid value of debug_mode, expected one of 0,1,2")
        function = plugin.find("set_sync_debug_mode")
        if function is not None:
            function(mode)
        debug_mode = mode

    torch_c._cuda_init = cuda_init
    torch_c._cuda_isInBadFork = core.in_bad_fork
    torch_c._cuda_getCompiledVersion = lambda: CUDA_VERSION
    torch_c._cuda_getArchFlags = lambda: ARCHITECTURES
    torch_c._cuda_set_sync_debug_mode = set_sync_debug_mode
    torch_c._cuda_get_sync_debug_mode = lambda: debug_mode
    torch_c._cuda_synchronize = lambda: core.synchronize_device(core.current_device())
    torch_c._cuda_sleep = plugin.call("torch.cuda._sleep", "_sleep")
    torch_c._cuda_ipc_collect = lambda: (plugin.find("ipc_collect") or (lambda: None))()
    torch_c._cudart = cudart(memory_info, lambda address, size: True, lambda address: True)
    torch_c._nvtx = nvtx()
    torch_c._has_magma = False
