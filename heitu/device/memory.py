"""Device memory: the functions of `torch._C` behind torch.cuda.memory.

The allocator itself is the core's (csrc/allocator.h). Errors that torch's CUDA build raises keep its text.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

NO_OTHER_ALLOCATOR = (
    "Heitu's cuda device keeps its memory in its own caching allocator, so CUDAPluggableAllocator and "
    "change_current_allocator are not supported; run the program without them."
)
STATES = ("state", "all")
CONTEXTS = ("state", "alloc", "all")


class MemPoolContext:
    """Names the pool in use; torch before 2.8 opens one beside routing allocations."""

    _active = threading.local()

    def __init__(self, pool: Any) -> None:
        self._previous = self.active_pool()
        self._active.pool = pool

    def __del__(self) -> None:
        self._active.pool = self._previous

    @classmethod
    def active_pool(cls) -> Any:
        """The pool of this thread's latest context that still lives, or None."""
        return getattr(cls._active, "pool", None)


def install(torch_c: Any, core: ModuleType) -> None:
    """Supplies allocation, statistics, history, pools and pinned memory."""
    _install_allocation(torch_c, core)
    _install_statistics(torch_c, core)
    _install_history(torch_c, core)
    _install_pools(torch_c, core)


def watch_profilers(torch: Any, core: ModuleType) -> None:
    """Has allocations reported to profilers from the first start of one on, and not before."""

    def watched(start: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(start)
        def start_reporting(*arguments: Any, **named: Any) -> Any:
            core.report_memory_use(True)
            return start(*arguments, **named)

        return start_reporting

    autograd = torch.autograd
    for name in ("_enable_profiler", "_enable_profiler_legacy"):
        replacement = watched(getattr(torch._C._autograd, name))
        for module in (torch._C._autograd, autograd, autograd.profiler):
            if hasattr(module, name):
                setattr(module, name, replacement)
    core.report_memory_use(False)


def _install_allocation(torch_c: Any, core: ModuleType) -> None:
    class _cuda_CUDAAllocator:
        """The native allocator; there is one, and it cannot be replaced."""

    native = _cuda_CUDAAllocator()

    def refuse(*_: object) -> None:
        raise RuntimeError(NO_OTHER_ALLOCATOR)

    torch_c._cuda_CUDAAllocator = _cuda_CUDAAllocator
    torch_c._cuda_getAllocator = lambda: native
    torch_c._cuda_customAllocator = refuse
    torch_c._cuda_changeCurrentAllocator = refuse
    torch_c._cuda_getAllocatorBackend = lambda: "native"
    torch_c._cuda_cudaCachingAllocator_raw_alloc = core.raw_allocate
    torch_c._cuda_cudaCachingAllocator_raw_delete = core.raw_release
    torch_c._cuda_cudaCachingAllocator_enable = core.set_caching
    torch_c._cuda_cudaCachingAllocator_is_enabled = core.caching
    torch_c._cuda_cudaCachingAllocator_set_allocator_settings = core.set_allocator_settings
    torch_c._cuda_cudaHostAllocator = core.pinned_allocator
    torch_c._host_emptyCache = core.empty_host_cache
    torch_c._cuda_emptyCache = core.empty_cache
    # Torch before 2.12 guards cudaFree with these; giving memory back needs no guard here.
    torch_c._cuda_lock_mutex = torch_c._cuda_unlock_mutex = lambda: None
    torch_c._cuda_setMemoryFraction = core.set_memory_fraction
    torch_c._cuda_getMemoryFraction = core.memory_fraction
    torch_c._cuda_attach_out_of_memory_observer = core.attach_out_of_memory_observer


def _install_statistics(torch_c: Any, core: ModuleType) -> None:
    torch_c._cuda_memoryStats = core.memory_stats
    torch_c._cuda_resetAccumulatedMemoryStats = core.reset_accumulated_stats
    torch_c._cuda_resetPeakMemoryStats = core.reset_peak_stats
    torch_c._cuda_hostMemoryStats = core.host_memory_stats
    torch_c._cuda_resetAccumulatedHostMemoryStats = core.reset_accumulated_host_stats
    torch_c._cuda_resetPeakHostMemoryStats = core.reset_peak_host_stats


def _install_history(torch_c: Any, core: ModuleType) -> None:
    def snapshot(pool: tuple[Any, ...] | None = None) -> dict[str, Any]:
        active = MemPoolContext.active_pool()
        if pool is None and active is not None:
            pool = active.id
        first, second, traces = (0, 0, True) if pool is None else (*pool, True)[:3]
        result: dict[str, Any] = core.memory_snapshot((first, second), bool(traces))
        return result

    def record(
        enabled: str | None,
        context: str | None,
        stacks: str,
        max_entries: int,
        clear_history: bool = False,
        compile_context: bool = False,
        global_record_annotations: bool = False,
        skip_actions: Iterable[str] = (),
    ) -> None:
        if enabled is not None and enabled not in STATES:
            raise RuntimeError("expected state to be 'state', 'all', or None")
        if context is not None and context not in CONTEXTS:
            raise RuntimeError("expected context to be 'state', 'alloc', 'all', or None")
        if stacks not in ("python", "all"):
            raise RuntimeError("expected stacks to be 'python', or 'all'")
        entries = max_entries if enabled == "all" else 1
        core.record_history(
            enabled is not None, context or "", stacks == "all", entries, clear_history, list(skip_actions)
        )

    def record_legacy(
        enabled: bool,
        record_context: bool,
        trace_alloc_max_entries: int,
        trace_alloc_record_context: bool,
        record_context_cpp: bool,
        clear_history: bool = False,
        compile_context: bool = False,
        global_record_annotations: bool = False,
        skip_actions: Iterable[str] = (),
    ) -> None:
        context = "alloc" if trace_alloc_record_context else "state" if record_context else ""
        core.record_history(
            enabled, context, record_context_cpp, trace_alloc_max_entries, clear_history, list(skip_actions)
        )

    torch_c._cuda_memorySnapshot = snapshot
    torch_c._cuda_record_memory_history = record
    torch_c._cuda_record_memory_history_legacy = record_legacy
    torch_c._cuda_isHistoryEnabled = core.history_enabled
    torch_c._cuda_allocationTraceback = core.allocation_traceback
    torch_c._cuda_setMemoryMetadata = core.set_memory_metadata
    torch_c._cuda_getMemoryMetadata = core.memory_metadata


def _install_pools(torch_c: Any, core: ModuleType) -> None:
    class _MemPool:
        """A pool of device memory, of the device that is current when it is made."""

        def __init__(
            self,
            allocator: object | None = None,
            is_user_created: bool = True,
            use_on_oom: bool = False,
            no_split: bool = False,
        ) -> None:
            if allocator is not None:
                raise RuntimeError(NO_OTHER_ALLOCATOR)
            sys.modules["torch.cuda"]._lazy_init()
            self._device: int = core.current_device()
            self._id: tuple[int, int] = core.new_pool_id(is_user_created)
            core.acquire_pool(self._device, self._id)
            if use_on_oom:
                core.set_pool_use_on_oom(self._device, self._id, True)
            if no_split:
                core.set_pool_no_split(self._device, self._id)

        def __del__(self) -> None:
            if hasattr(self, "_id"):
                core.release_pool(self._device, self._id)
                core.empty_cache(self._id)

        @property
        def id(self) -> tuple[int, int]:
            return self._id

        @property
        def allocator(self) -> None:
            return None

        def use_count(self) -> int:
            return int(core.pool_use_count(self._device, self._id))

    _MemPool.__module__ = "torch._C"
    torch_c._MemPool = _MemPool
    torch_c._MemPoolContext = MemPoolContext
    torch_c._cuda_beginAllocateToPool = core.begin_allocate_to_pool
    torch_c._cuda_beginAllocateCurrentThreadToPool = core.begin_allocate_thread_to_pool
    torch_c._cuda_beginAllocateCurrentStreamToPool = core.begin_allocate_stream_to_pool
    torch_c._cuda_endAllocateToPool = core.end_allocate_to_pool
    torch_c._cuda_endAllocateCurrentStreamToPool = core.end_allocate_to_pool
    torch_c._cuda_releasePool = core.release_pool
    torch_c._cuda_checkPoolLiveAllocations = core.pool_live_blocks_equal
    torch_c._cuda_CUDAAllocator_AllocatorState = core.PoolCheckpoint
    torch_c._cuda_getCheckpointState = core.checkpoint_pool
    torch_c._cuda_setCheckpointPoolState = core.restore_pool
