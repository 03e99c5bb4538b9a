"""CUDA graphs, for torch.cuda.graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn


def install(torch_c: Any, core: Any) -> None:
    """Supplies _CUDAGraph and the functions about capture."""
    base: Any = core.Graph

    class _CUDAGraph(base):  # type: ignore[misc]
        _debug = False

        def enable_debug_mode(self) -> None:
            self._debug = True

        def debug_dump(self, debug_path: str) -> None:
            """Writes the recorded operators, in their order, as a DOT graph."""
            if not self._debug:
                raise RuntimeError("CUDA graphs debug not enabled. Call [graph].enable_debug_mode() first.")
            names = self.operator_names()
            nodes = [f'  n{i} [label="{name}"];' for i, name in enumerate(names)]
            edges = [f"  n{i} -> n{i + 1};" for i in range(len(names) - 1)]
            Path(debug_path).write_text("\n".join(["digraph cuda_graph {", *nodes, *edges, "}", ""]))

        def raw_cuda_graph(self) -> NoReturn:
            raise RuntimeError(_NO_RAW_GRAPH)

        def raw_cuda_graph_exec(self) -> NoReturn:
            raise RuntimeError(_NO_RAW_GRAPH)

    _CUDAGraph.__module__ = "torch._C"
    _CUDAGraph.__qualname__ = "_CUDAGraph"
    torch_c._CUDAGraph = _CUDAGraph
    torch_c._graph_pool_handle = lambda: core.new_pool_id(True)
    torch_c._cuda_isCurrentStreamCapturing = core.capturing


_NO_RAW_GRAPH = (
    "The emulated device has no cudaGraph_t: its graphs are recorded PyTorch operators, which "
    "only CUDAGraph.replay() can run."
)
