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
    # What torch.compile's trees of graphs ask of tensors and storages.
    torch_c._construct_CUDA_Tensor_From_Storage_And_Metadata = core.tensor_over_storage
    torch_c._tensors_data_ptrs_at_indices_equal = core.tensors_lie_at
    torch_c._has_Standard_Deleter = core.storage_owns_memory
    torch_c._free_And_Remove_DeleterFn = core.free_storage_memory
    torch_c._set_storage_access_error_msg = core.refuse_tensor_access
    torch_c._set_storage_data_ptr_access_error_msg = core.refuse_storage_access


_NO_RAW_GRAPH = (
    "The emulated device has no cudaGraph_t: its graphs are recorded PyTorch operators, which "
    "only CUDAGraph.replay() can run."
)
