"""Settings of cuBLAS, cuSOLVER and tunable operators: kept as a CUDA build keeps them.

The host's BLAS has no such workspaces or tuning, so beyond being remembered they change nothing.
"""

from __future__ import annotations

from typing import Any

KIB = 1024
CUBLAS_WORKSPACE = 32 * 1024 * KIB  # default of compute capability 9.0, in bytes
CUBLASLT_WORKSPACE = 32 * 1024 * KIB


def install(torch_c: Any, core: Any) -> None:
    """Supplies what torch.cuda, torch.backends.cuda and torch.cuda.tunable ask of them."""
    sizes = {"cublas": CUBLAS_WORKSPACE, "cublaslt": CUBLASLT_WORKSPACE}

    def set_size(library: str, size: int) -> None:
        sizes[library] = size

    torch_c._cuda_getCurrentBlasHandle = lambda: 1 + core.current_device()
    torch_c._cuda_getCurrentSolverHandle = lambda: 1 + core.current_device()
    torch_c._cuda_clearCublasWorkspaces = lambda: None
    torch_c._cuda_getCublasWorkspaceSize = lambda: sizes["cublas"]
    torch_c._cuda_getCublasLtWorkspaceSize = lambda: sizes["cublaslt"]
    torch_c._cuda_setCublasWorkspaceSize = lambda size: set_size("cublas", size)
    torch_c._cuda_setCublasLtWorkspaceSize = lambda size: set_size("cublaslt", size)
    torch_c._cuda_resetCublasWorkspaceSize = lambda: set_size("cublas", CUBLAS_WORKSPACE)
    torch_c._cuda_resetCublasLtWorkspaceSize = lambda: set_size("cublaslt", CUBLASLT_WORKSPACE)
