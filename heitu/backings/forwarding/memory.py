"""Device memory: the functions of `torch._C` behind torch.cuda.memory, answered by the plugin's allocator."""

from __future__ import annotations

from typing import Any

from heitu.backings.forwarding.plugin import Plugin
from heitu.device.memory import MemPoolContext


def install(torch_c: Any, core: Any, plugin: Plugin) -> None:
    """Supplies allocation, statistics, history and pools, as far as the plugin has them."""
    _install_allocation(torch_c, core, plugin)
    _install_statistics(torch_c, plugin)
    _install_history(torch_c, plugin)
    _install_pools(torch_c, plugin)


def _install_allocation(torch_c: Any, core: Any, plugin: Plugin) -> None:
    class _cuda_CUDAAllocator:  # noqa: N801
        """The plugin's allocator; there is one, and it cannot be replaced."""

    native = _cuda_CUDAAllocator()

    def refuse(*_: object) -> None:
        raise RuntimeError(
            f"Memory of this chip is {plugin.package}'s: CUDAPluggableAllocator and change_current_allocator "
            "are not supported; run the program without them."
        )

    def fraction(share: float, device: int) -> None:
        asked = "torch.cuda.set_per_process_memory_fraction"
        plugin.function(asked, "set_per_process_memory_fraction")(share, device)

    def settings(text: str) -> None:
        asked = "torch.cuda.memory._set_allocator_settings"
        plugin.function(asked, "memory._set_allocator_settings")(text)

    torch_c._cuda_CUDAAllocator = _cuda_CUDAAllocator
    torch_c._cuda_getAllocator = lambda: native
    torch_c._cuda_customAllocator = refuse
    torch_c._cuda_changeCurrentAllocator = refuse
    torch_c._cuda_getAllocatorBackend = lambda: "native"
    torch_c._cuda_cudaCachingAllocator_set_allocator_settings = settings
    torch_c._cuda_emptyCache = plugin.call("torch.cuda.empty_cache", "empty_cache")
    torch_c._host_emptyCache = lambda: (plugin.find("memory.host_empty_cache") or (lambda: None))()
    torch_c._cuda_lock_mutex = torch_c._cuda_unlock_mutex = lambda: None
    torch_c._cuda_setMemoryFraction = fraction
    torch_c._cuda_getMemoryFraction = plugin.call(
        "torch.cuda.get_per_process_memory_fraction", "get_per_process_memory_fraction"
    )


def _install_statistics(torch_c: Any, plugin: Plugin) -> None:
    def statistics(device: int) -> dict[str, Any]:
        nested = plugin.find("memory_stats_as_nested_dict", "memory.memory_stats_as_nested_dict")
        if nested is not None:
            told = dict(nested(device))
        else:
            told = _nest(plugin.function("torch.cuda.memory_stats", "memory_stats")(device))
        return _completed(told)

    def reset_peaks(device: int) -> None:
        asked = "torch.cuda.reset_peak_memory_stats"
        plugin.function(asked, "reset_peak_memory_stats", "reset_max_memory_allocated")(device)

    torch_c._cuda_memoryStats = statistics
    torch_c._cuda_resetPeakMemoryStats = reset_peaks
    for ours, theirs in (
        ("_cuda_resetAccumulatedMemoryStats", "reset_accumulated_memory_stats"),
        ("_cuda_hostMemoryStats", "host_memory_stats_as_nested_dict"),
        ("_cuda_resetAccumulatedHostMemoryStats", "reset_accumulated_host_memory_stats"),
        ("_cuda_resetPeakHostMemoryStats", "reset_peak_host_memory_stats"),
    ):
        setattr(torch_c, ours, plugin.call(f"torch.cuda.{theirs}", theirs))


def _install_history(torch_c: Any, plugin: Plugin) -> None:
    def snapshot(pool: object = None) -> dict[str, Any]:
        return dict(plugin.function("torch.cuda.memory._snapshot", "memory._snapshot")())

    def record(enabled: str | None, context: str | None, stacks: str, entries: int, *_: object) -> None:
        asked = "torch.cuda.memory._record_memory_history"
        plugin.function(asked, "memory._record_memory_history")(enabled, context, stacks, entries)

    torch_c._cuda_memorySnapshot = snapshot
    torch_c._cuda_record_memory_history = record


# What torch.cuda.memory_summary and its kin read.
_COUNTS = ("num_alloc_retries", "num_ooms")
_BY_POOL = (
    "allocation", "segment", "active", "inactive_split", "allocated_bytes", "reserved_bytes", "active_bytes",
    "inactive_split_bytes", "requested_bytes",
)  # fmt: skip
_OVERSIZE = ("oversize_allocations", "oversize_segments")


def _completed(told: dict[str, Any]) -> dict[str, Any]:
    """The plugin's statistics, with 0 for what it does not keep and CUDA does."""
    zeros = {"current": 0, "peak": 0, "allocated": 0, "freed": 0}
    for name in _COUNTS:
        told.setdefault(name, 0)
    for name in _BY_POOL:
        pools = told.setdefault(name, {})
        for pool in ("all", "small_pool", "large_pool"):
            pools[pool] = {**zeros, **pools.get(pool, {})}
    for name in _OVERSIZE:
        told[name] = {**zeros, **told.get(name, {})}
    return told


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    """ "a.b.c": 1 as {"a": {"b": {"c": 1}}}, as `torch._C` gives statistics."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _install_pools(torch_c: Any, plugin: Plugin) -> None:
    class _MemPool:
        """A pool of the plugin's allocator."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._pool = plugin.function("torch.cuda.MemPool", "MemPool")(*arguments, **named)

        @property
        def id(self) -> tuple[int, int]:
            first, second = self._pool.id
            return int(first), int(second)

        @property
        def allocator(self) -> None:
            return None

        def use_count(self) -> int:
            return int(self._pool.use_count())

    _MemPool.__module__ = "torch._C"
    torch_c._MemPool = _MemPool
    torch_c._MemPoolContext = MemPoolContext
    package = plugin.package

    def of_plugin(name: str) -> Any:
        """The plugin's own function of this kind, found when it is called."""

        def call(*arguments: Any) -> Any:
            import sys

            extension = getattr(sys.modules.get(package), "_C", None)
            function = getattr(extension, f"_{plugin.device}_{name}", None)
            if function is None:
                raise NotImplementedError(
                    f"Memory pools have no counterpart on this chip: {package} has no "
                    f"_{plugin.device}_{name}."
                )
            return function(*arguments)

        return call

    for name in (
        "beginAllocateToPool",
        "beginAllocateCurrentThreadToPool",
        "beginAllocateCurrentStreamToPool",
        "endAllocateToPool",
        "endAllocateCurrentStreamToPool",
        "releasePool",
    ):
        setattr(torch_c, f"_cuda_{name}", of_plugin(name))
