"""CUDA graphs, for torch.cuda.graphs."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def install(torch_c: ModuleType, core: ModuleType) -> None:
    """Supplies _CUDAGraph and the functions about capture."""

    class _CUDAGraph:
        def __new__(cls, keep_graph: bool = False) -> Any:
            return object.__new__(cls)

    torch_c._CUDAGraph = _CUDAGraph
    torch_c._graph_pool_handle = lambda: core.new_pool_id(True)
    torch_c._cuda_isCurrentStreamCapturing = lambda: False
