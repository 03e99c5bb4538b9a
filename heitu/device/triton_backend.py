"""Triton on the cuda device: Heitu's CPU backend in the place of the one for NVIDIA's GPUs.

Triton's backend for `cuda` would look for ptxas and libcuda. Ours answers to the same target, so that
programs and libraries that ask for it find what they know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, cast

from heitu.settings import settings


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


@cache
def _say_that_nothing_is_judged() -> None:
    if settings.chip is not None and not settings.quiet:
        said = f"heitu: Triton kernels run, but nothing judges them by the rules of {settings.chip} yet"
        print(said, file=sys.stderr)


def replace_backend(module: ModuleType) -> None:
    """Puts the classes below into `triton.backends`, which was just imported."""
    from triton._C.libtriton import nvidia
    from triton.backends.compiler import GPUTarget

    from heitu.kernels.triton.compiler import CPUBackend
    from heitu.kernels.triton.driver import CPUDriver

    class CUDABackend(CPUBackend):
        """Compiles what is meant for `cuda`."""

        @staticmethod
        def supports_target(target: GPUTarget) -> bool:
            return bool(target.backend == "cuda")

        def parse_options(self, options: dict[str, Any]) -> Any:
            if (options.get("num_ctas") or 1) > 1 and self.target.arch < 90:
                capability = f"sm_{self.target.arch}"
                raise ValueError(f"num_ctas > 1 needs compute capability 9.0; this device has {capability}.")
            return super().parse_options(options)

    class CUDADriver(CPUDriver):
        """Kernels take tensors of the cuda device, whose memory the CPU can read."""

        device_only = True

        def __init__(self) -> None:
            import torch

            super().__init__()
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
            return GPUTarget("cuda", major * 10 + minor, 32)

        def get_active_torch_device(self) -> Any:
            import torch

            return torch.device("cuda", self.get_current_device())

        def get_device_interface(self) -> Any:
            import torch

            return torch.cuda

        def launcher(self, source: Any, metadata: Any) -> Callable[..., None]:
            _say_that_nothing_is_judged()
            return super().launcher(source, metadata)

        def recording(self, written: list[int]) -> Any:
            import torch

            def record(launch: Callable[[], None], arguments: tuple[Any, ...]) -> None:
                given = [arguments[number] for number in written]
                # Triton wraps a tensor that is taken for one of another type.
                found = (getattr(value, "base", value) for value in given)
                tensors = [value for value in found if isinstance(value, torch.Tensor)]
                sys.modules["heitu_core"].capture_kernel(launch, tensors)

            return torch._C._cuda_isCurrentStreamCapturing, record

    cublas = getattr(nvidia, "cublas", None)
    if cublas is not None:
        cublas.CublasLt = CublasLt  # the stock one looks for libcublas.so
    module.backends["nvidia"] = module.Backend(CUDABackend, CUDADriver)
