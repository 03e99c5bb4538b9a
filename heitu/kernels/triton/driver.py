"""The driver's side of the backend, as Triton asks for it: the device, and the launch of kernels."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from heitu.kernels.triton import compilation
from heitu.kernels.triton.benchmark import do_bench
from heitu.kernels.triton.checking import poison
from heitu.kernels.triton.places import Move
from heitu.kernels.triton.signature import letters, unpacking
from heitu.settings import settings

# As H200's: what a program asks for in order to choose its blocks.
SHARED_BYTES = 232448
MOST_THREADS_OF_A_BLOCK = 1024
# Of a thread; programs divide by it in order to find how many blocks run at the same time.
REGISTERS = 32
# As many program instances run at the same time where they wait for each other, each on a thread.
MOST_AT_ONCE = 132
AS_TORCH = 0  # on as many threads as torch runs its operators

if settings.check_kernels:
    poison.install()


def threads() -> int:
    """How many threads there are: OMP_NUM_THREADS, else one for each processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else len(os.sched_getaffinity(0))


class Event:
    """A point in time. What is launched is done when the launch returns."""

    def __init__(self, enable_timing: bool = True, **_: Any) -> None:
        self.time = 0.0

    def record(self, stream: Any = None) -> None:
        """Takes the time."""
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing is to be waited for."""

    def query(self) -> bool:
        """Always true."""
        return True

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this one to `end`."""
        return (end.time - self.time) * 1000


class Interface:
    """What `triton.testing` asks of a device."""

    Event = Event

    @staticmethod
    def synchronize(device: Any = None) -> None:
        """Nothing is to be waited for."""

    @staticmethod
    def current_device() -> int:
        """There is one."""
        return 0

    @staticmethod
    def current_stream(device: Any = None) -> int:
        """There is one."""
        return 0

    @staticmethod
    @contextmanager
    def stream(stream: Any) -> Iterator[None]:
        """The one there is."""
        yield


class Libraries:
    """Loads compiled kernels."""

    def __init__(self) -> None:
        self._loaded: dict[int, ctypes.CDLL] = {}

    def load_binary(
        self, name: str, content: bytes, shared: int, device: int
    ) -> tuple[Any, int, int, int, int]:
        """The library, the address of its kernel, registers, spills and threads of a block."""
        library = compilation.load(content)
        address = ctypes.cast(library.heitu_kernel, ctypes.c_void_p).value or 0
        return library, address, REGISTERS, 0, MOST_THREADS_OF_A_BLOCK

    def unload_module(self, library: Any) -> None:
        """Libraries stay: another kernel may be the same one."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        """In NVIDIA's names."""
        return {
            "max_shared_mem": SHARED_BYTES,
            "max_num_regs": 65536,
            "multiprocessor_count": threads(),
            "warpSize": 32,
            "sm_clock_rate": 0,
            "mem_clock_rate": 0,
            "mem_bus_width": 0,
        }


class CPUDriver(DriverBase):  # type: ignore[misc]
    """Active where no other backend is."""

    device_only = False  # whether tensors of the CPU are refused

    def __init__(self) -> None:
        super().__init__()
        if settings.check_kernels:
            poison.install()
        self.utils = Libraries()
        self.launcher_cls = self.launcher

    @classmethod
    def is_active(cls) -> bool:
        """Whether there is no GPU for another backend, or the user asked for this one by its name."""
        from triton.backends import backends

        return os.environ.get("TRITON_DEFAULT_BACKEND") == "cpu" or not any(
            backend.driver.is_active() for backend in backends.values() if backend.driver is not CPUDriver
        )

    def launcher(self, source: Any, metadata: Any) -> Callable[..., None]:
        """What a launch of a compiled kernel calls."""
        from heitu.kernels.triton import launching  # it needs the whole of triton

        launching.install()
        move = Move(source, metadata)
        metadata = move.metadata()
        kinds = list(source.signature.values())
        constants = {key[0] for key in getattr(source, "constants", {}) if len(key) == 1}
        kinds = ["constexpr" if number in constants else kind for number, kind in enumerate(kinds)]
        sites = metadata.checked_sites
        at_once = -MOST_AT_ONCE if metadata.waits_for_others else 1 if sites else AS_TORCH
        compilation.share_threads(threads())
        launcher = compilation.runtime().Launcher(
            letters(kinds),
            metadata.scratch_bytes,
            at_once,
            self.device_only,
            *self.recording(metadata.written),
            **self.watching(metadata),
        )
        launch = move.launcher(unpacking(launcher, kinds))
        if not sites:
            return launch
        from heitu.kernels.triton.checking.launch import Checked

        names = [str(name) for name in source.signature]
        return Checked(launch, metadata.name, kinds, names, sites, metadata.waits_for_others)

    def recording(self, written: list[int]) -> tuple[Callable[..., Any], ...]:
        """What says whether launches are recorded now, and what is then called.

        The latter is given a function that runs the grid, and the pointers among the arguments, of which the
        kernel may write through those with the numbers `written`.
        """
        return ()

    def watching(self, metadata: Any) -> dict[str, Any]:
        """What launches of a kernel may not exceed, and where they are counted, as keywords of Launcher."""
        return {}

    def map_python_to_cpp_type(self, kind: str) -> str:
        """The C of an argument."""
        names = {
            "i1": "int8_t",
            "u1": "uint8_t",
            "fp32": "float",
            "f32": "float",
            "fp64": "double",
            "fp16": "double",
        }
        if kind.startswith("*"):
            return "void*"
        return names.get(kind) or f"{'u' if kind.startswith('u') else ''}int{kind[1:]}_t"

    def get_current_target(self) -> GPUTarget:
        """The target's name is `cpu`; 32 lanes a warp, as programs written for NVIDIA's GPUs expect."""
        return GPUTarget("cpu", 0, 32)

    def get_current_device(self) -> int:
        """There is one."""
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_current_stream(self, device: int) -> int:
        """There is one."""
        return 0

    def get_active_torch_device(self) -> Any:
        """Where tensors are made."""
        import torch

        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        """Events, streams, and what waits for them."""
        return Interface

    def get_benchmarker(self) -> Any:
        """Triton's own, which is not let repeat what takes long."""
        return do_bench

    def get_empty_cache_for_benchmark(self) -> Any:
        """What is overwritten between runs, so that data comes from memory: more than a cache holds."""
        import torch

        return torch.empty(8 * 1024 * 1024, dtype=torch.int, device=self.get_active_torch_device())

    def clear_cache(self, cache: Any) -> None:
        """Overwrites it."""
        cache.zero_()

    def allocate_default_profile_scratch(self, size: int, alignment: int, stream: Any) -> Any:
        """Nothing is profiled into memory."""
        raise NotImplementedError("Heitu's CPU backend has no profile scratch memory")
