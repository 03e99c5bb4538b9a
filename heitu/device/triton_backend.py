"""Triton on the cuda device: Heitu's CPU backend in the place of the one for NVIDIA's GPUs.

Triton's backend for `cuda` would look for ptxas and libcuda. Ours answers to the same target, so that
programs and libraries that ask for it find what they know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace as replaced
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from heitu.settings import settings

if TYPE_CHECKING:
    from heitu.kernels.triton.ir import Location
    from heitu.kernels.triton.rules import ChipRules, Judgement


class Watch(Protocol):
    """Who wants to know of kernels: a rehearsal, whose chip's rules they are held to."""

    @property
    def rules(self) -> ChipRules:
        """What is known of the chip."""

    def refused(self, name: str, defined: Location | None, judgement: Judgement) -> None:
        """A kernel was compiled that the chip cannot run."""

    def loaded(self, name: str, defined: Location | None, judgement: Judgement) -> int:
        """A kernel is about to be launched. Returns the address of its count (64 bits), or 0."""

    def defect(self, kind: str, kernel: str, at: tuple[str, int] | None, argument: str, text: str) -> int:
        """A kernel accessed memory wrongly. Returns the address of the count of such accesses, or 0."""


_watch: Watch | None = None


def watch(one: Watch | None) -> None:
    """Has every kernel of this process judged."""
    global _watch
    _watch = one


def patch(torch: Any, core: ModuleType) -> None:
    """Supplies what code that inductor generates calls; it is compiled out of a CPU build of torch."""
    from heitu.device.patches import replace

    cuda = torch.device("cuda")

    def empty_strided(size: Any, stride: Any, dtype: Any) -> Any:
        return torch.empty_strided(size, stride, dtype=dtype, device=cuda)

    replace(torch._C._dynamo.guards, "_empty_strided_cuda", empty_strided)
    if settings.check_kernels:
        from heitu.kernels.triton.checking import poison

        poison.install()
    if "triton.backends" in sys.modules:
        replace_backend(sys.modules["triton.backends"])


class CublasLt:
    """NVIDIA's library of matrix products, as Triton's tutorials reach it: `libtriton.nvidia.cublas`."""

    def __init__(self, workspace: Any) -> None:
        """`workspace` is memory that a GPU computes in, and is not used."""

    def matmul(self, a: Any, b: Any, c: Any) -> None:
        """c (M, N) becomes a (M, K) times b (N, K) transposed, added up in float32."""
        c.copy_(a.float() @ b.float().T)

    def gemm(self, a: Any, b: Any, c: Any, d: Any, alpha: float, beta: float) -> None:
        """d (M, N) becomes alpha times a (M, K) times b (N, K) transposed, and beta times c."""
        d.copy_(alpha * (a.float() @ b.float().T) + beta * c.float())


def replace_backend(module: ModuleType) -> None:
    """Puts the classes below into `triton.backends`, which was just imported."""
    from triton._C.libtriton import nvidia
    from triton.backends.compiler import GPUTarget

    from heitu.kernels.triton.compiler import CPUBackend
    from heitu.kernels.triton.driver import CPUDriver, Libraries
    from heitu.kernels.triton.ir import Location
    from heitu.kernels.triton.rules import Judgement, judge, too_many_programs

    class CUDABackend(CPUBackend):
        """Compiles what is meant for `cuda`; in a rehearsal, by the rules of its chip."""

        @staticmethod
        def supports_target(target: GPUTarget) -> bool:
            return bool(target.backend == "cuda")

        def hash(self) -> str:
            # What Triton has kept was judged by the rules that its name stands for.
            return super().hash() if _watch is None else f"{super().hash()}-{_watch.rules.identity}"

        def parse_options(self, options: dict[str, Any]) -> Any:
            if (options.get("num_ctas") or 1) > 1 and self.target.arch < 90:
                capability = f"sm_{self.target.arch}"
                raise ValueError(f"num_ctas > 1 needs compute capability 9.0; this device has {capability}.")
            if _watch is not None and _watch.rules.float8 and options.get("supported_fp8_dtypes") is None:
                options = {**options, "supported_fp8_dtypes": _watch.rules.float8}
            return super().parse_options(options)

        def min_dot_size(self, left: Any, right: Any) -> tuple[int, int, int]:
            smallest = {} if _watch is None else _watch.rules.smallest_dot
            return smallest.get(left.scalar.primitive_bitwidth, super().min_dot_size(left, right))

        def judge(self, module: Any, metadata: dict[str, Any], options: Any) -> None:
            if _watch is None:
                return
            kernel = module.kernel
            judgement = judge(module, _watch.rules, options.num_warps, options.num_stages)
            if judgement.verdict == "refused":
                from heitu.kernels.triton.refusals import refusal  # it needs the whole of triton

                _watch.refused(kernel.name, kernel.location, judgement)
                raise refusal(kernel.name, judgement, _watch.rules)
            metadata["judgement"] = judgement.to_plain()

    class DeviceLibraries(Libraries):
        """Kernels of the cuda device, which says what it is."""

        def load_binary(
            self, name: str, content: bytes, shared: int, device: int
        ) -> tuple[Any, int, int, int, int]:
            *found, threads = super().load_binary(name, content, shared, device)
            if _watch is not None:
                # Without warps a program has no threads, and num_warps means nothing.
                threads = (_watch.rules.threads or threads) if _watch.rules.warp_size != 0 else 2**31
            return (*found, threads)

        def get_device_properties(self, device: int) -> dict[str, int]:
            import torch

            found: Any = torch.cuda.get_device_properties(device)
            shared = found.shared_memory_per_block_optin
            if _watch is not None and _watch.rules.on_chip_memory is not None:
                shared = _watch.rules.on_chip_memory
            return {
                **super().get_device_properties(device),
                "max_shared_mem": shared,
                "max_num_regs": found.regs_per_multiprocessor,
                "multiprocessor_count": found.multi_processor_count,
                "warpSize": found.warp_size,
                "sm_clock_rate": found.clock_rate,
                "mem_clock_rate": found.memory_clock_rate,
                "mem_bus_width": found.memory_bus_width,
            }

    class CUDADriver(CPUDriver):
        """Kernels take tensors of the cuda device, whose memory the CPU can read."""

        device_only = True

        def __init__(self) -> None:
            import torch

            super().__init__()
            if settings.check_kernels and _watch is not None:
                from heitu.kernels.triton.checking import report

                report.tell(_watch.defect)
            self.utils = DeviceLibraries()
            # As attributes, because a launch calls them.
            this: Any = self
            this.get_current_device = torch.cuda.current_device
            this.set_current_device = torch.cuda.set_device
            this.get_current_stream = torch._C._cuda_getCurrentRawStream
            this.get_device_capability = torch.cuda.get_device_capability

        @classmethod
        def is_active(cls) -> bool:
            # Before 3.7 Triton knows no default, and takes exactly one that is active.
            return os.environ.get("TRITON_DEFAULT_BACKEND") != "cpu"

        def get_current_target(self) -> GPUTarget:
            major, minor = cast(Any, self).get_device_capability()
            known = None if _watch is None else _watch.rules.warp_size
            return GPUTarget("cuda", major * 10 + minor, known if known and known > 1 else 32)

        def get_active_torch_device(self) -> Any:
            import torch

            return torch.device("cuda", self.get_current_device())

        def get_device_interface(self) -> Any:
            import torch

            return torch.cuda

        def recording(self, written: list[int]) -> Any:
            import torch

            def record(launch: Callable[[], None], arguments: tuple[Any, ...]) -> None:
                given = [arguments[number] for number in written]
                # Triton wraps a tensor that is taken for one of another type.
                found = (getattr(value, "base", value) for value in given)
                tensors = [value for value in found if isinstance(value, torch.Tensor)]
                sys.modules["heitu_core"].capture_kernel(launch, tensors)

            return torch._C._cuda_isCurrentStreamCapturing, record

        def watching(self, metadata: Any) -> dict[str, Any]:
            if _watch is None:
                return {}
            rules, name = _watch.rules, metadata.name
            defined = Location(*metadata.defined) if metadata.defined else None
            judgement = Judgement.from_plain(metadata.judgement)

            def beyond(x: int, y: int, z: int) -> None:
                from heitu.kernels.triton.refusals import launch_refusal

                finding = too_many_programs(rules, (x, y, z), defined)
                if _watch is not None:
                    _watch.refused(name, defined, replaced(judgement, verdict="refused", findings=(finding,)))
                raise launch_refusal(name, finding, (x, y, z), rules)

            extents = rules.grid_extents or (0, 0, 0)
            return {
                "most": (*extents, rules.grid_programs or 0),
                "beyond": beyond if any(extents) or rules.grid_programs else None,
                "launches": _watch.loaded(name, defined, judgement),
            }

    cublas = getattr(nvidia, "cublas", None)
    if cublas is not None:
        cublas.CublasLt = CublasLt  # the stock one looks for libcublas.so
    module.backends["nvidia"] = module.Backend(CUDABackend, CUDADriver)
