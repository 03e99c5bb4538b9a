"""Initialisation, versions, the CUDA runtime (cudart) and NVTX."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

CUDA_VERSION = 12080  # reported everywhere as 12.8, which knows the H200
ARCHITECTURES = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"
CLOCK_HZ = 1_980_000_000  # the H200's boost clock, to turn cycles into time


class cudaError(enum.IntEnum):
    """Codes of the CUDA runtime that torch's own Python compares with (driver_types.h)."""

    success = 0
    invalidValue = 1
    memoryAllocation = 2
    initializationError = 3
    invalidDevice = 101
    alreadyMapped = 208
    notReady = 600
    peerAccessAlreadyEnabled = 704
    hostMemoryAlreadyRegistered = 712
    hostMemoryNotRegistered = 713


_ERROR_TEXTS = {
    cudaError.success: "no error",
    cudaError.invalidValue: "invalid argument",
    cudaError.memoryAllocation: "out of memory",
    cudaError.initializationError: "initialization error",
    cudaError.invalidDevice: "invalid device ordinal",
    cudaError.notReady: "device not ready",
    cudaError.peerAccessAlreadyEnabled: "peer access is already enabled",
    cudaError.hostMemoryAlreadyRegistered: "part or all of the requested memory range is already mapped",
    cudaError.hostMemoryNotRegistered: "pointer does not correspond to a registered memory region",
}


def install(torch_c: Any, core: Any) -> None:
    """Supplies _cuda_init, _cudart, _nvtx and what reports versions."""
    sync_debug_mode = 0

    def cuda_init() -> None:
        if core.in_bad_fork():
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
                "multiprocessing, you must use the 'spawn' start method"
            )
        if core.device_count() == 0:
            raise RuntimeError("No CUDA GPUs are available")
        core.initialize()
        cuda: Any = sys.modules["torch.cuda"]
        cuda.has_magma = True
        cuda.has_half = True
        cuda.default_generators = core.default_generators()
        cuda._get_device_properties = torch_c._heitu_get_device_properties

    def set_sync_debug_mode(mode: int) -> None:
        nonlocal sync_debug_mode
        if mode not in (0, 1, 2):
            raise RuntimeError("invalid value of debug_mode, expected one of 0,1,2")
        sync_debug_mode = mode
        core.set_sync_debug(mode)

    def synchronize() -> None:
        core.refuse_in_capture()
        core.synchronize_device(core.current_device())

    torch_c._cuda_init = cuda_init
    torch_c._cuda_isInBadFork = core.in_bad_fork
    torch_c._cuda_getCompiledVersion = lambda: CUDA_VERSION
    torch_c._cuda_getArchFlags = lambda: _architectures(core)
    torch_c._cuda_set_sync_debug_mode = set_sync_debug_mode
    torch_c._cuda_get_sync_debug_mode = lambda: sync_debug_mode
    torch_c._cuda_synchronize = synchronize
    torch_c._cuda_sleep = lambda cycles: core.occupy_stream(int(cycles) * 1_000_000_000 // CLOCK_HZ)
    torch_c._cuda_busy_wait_for_flag = lambda: None
    torch_c._cuda_clear_flag = lambda: None
    torch_c._cudart = cudart(core.memory_info, core.register_pinned, core.unregister_pinned)
    torch_c._nvtx = nvtx()
    torch_c._has_magma = True


def _architectures(core: ModuleType) -> str:
    """What torch says it was compiled for: CUDA's usual list, and whatever the devices are."""
    capabilities = (core.properties(index) for index in range(core.device_count()))
    own = {f"sm_{facts.major}{facts.minor}": None for facts in capabilities}
    return " ".join([*(name for name in own if name not in ARCHITECTURES.split()), ARCHITECTURES])


def cudart(
    memory_info: Callable[[int], tuple[int, int]],
    register: Callable[[int, int], bool],
    unregister: Callable[[int], bool],
) -> ModuleType:
    """The functions of the CUDA runtime that torch exposes; each returns its error code.

    Args:
        memory_info: bytes free and in all, of a device.
        register: pins host memory (address, bytes); False where it is pinned already.
        unregister: its reverse; False where it is not pinned.
    """
    cudart: Any = ModuleType("torch._C._cudart")

    def host_register(pointer: int, size: int, flags: int) -> cudaError:
        added = register(pointer, size)
        return cudaError.success if added else cudaError.hostMemoryAlreadyRegistered

    def host_unregister(pointer: int) -> cudaError:
        removed = unregister(pointer)
        return cudaError.success if removed else cudaError.hostMemoryNotRegistered

    def stream_create(_: int) -> cudaError:
        return cudaError.success

    cudart.cudaError = cudaError
    cudart.cudaGetErrorString = lambda code: _ERROR_TEXTS.get(code, f"unrecognized error code {int(code)}")
    cudart.cudaProfilerStart = lambda: cudaError.success
    cudart.cudaProfilerStop = lambda: cudaError.success
    cudart.cudaHostRegister = host_register
    cudart.cudaHostUnregister = host_unregister
    cudart.cudaStreamCreate = stream_create
    cudart.cudaStreamDestroy = stream_create
    cudart.cudaMemGetInfo = memory_info
    module: ModuleType = cudart
    return module


def nvtx() -> ModuleType:
    """Ranges and marks. No profiler reads them here, but depths and handles are as NVTX gives them."""
    module: Any = ModuleType("torch._C._nvtx")
    state = SimpleNamespace(depth=0, handle=0)

    def push(_: str) -> int:
        state.depth += 1
        return int(state.depth) - 1

    def pop() -> int:
        state.depth -= 1
        return int(state.depth)

    def start(_: str) -> int:
        state.handle += 1
        return int(state.handle)

    module.rangePushA = push
    module.rangePop = pop
    module.rangeStartA = start
    module.rangeEnd = lambda handle: None
    module.markA = lambda message: None
    module.deviceRangeStart = lambda message, stream: start(message)
    module.deviceRangeEnd = lambda handle, stream: None
    made: ModuleType = module
    return made
