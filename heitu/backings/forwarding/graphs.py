"""CUDA graphs: the plugin's own graphs."""

from __future__ import annotations

from typing import Any

from heitu.backings.forwarding.plugin import Plugin


def install(torch_c: Any, core: Any, plugin: Plugin) -> None:
    """Supplies _CUDAGraph and the functions about capture."""
    graph_class = f"{plugin.device.upper()}Graph"  # NPUGraph, MLUGraph, MUSAGraph, …

    class _CUDAGraph:
        def __new__(cls, *_: Any, **__: Any) -> Any:
            return super().__new__(cls)

        def __init__(self, keep_graph: bool = False) -> None:
            self._graph = plugin.function("torch.cuda.CUDAGraph", graph_class, f"graphs.{graph_class}")()

        def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
            self._graph.capture_begin(pool=pool, capture_error_mode=capture_error_mode)

        def capture_end(self) -> None:
            self._graph.capture_end()

        def replay(self) -> None:
            self._graph.replay()

        def reset(self) -> None:
            self._graph.reset()

        def pool(self) -> Any:
            return self._graph.pool()

        def instantiate(self) -> None:
            """The plugin's graphs are instantiated when capture ends."""

        def enable_debug_mode(self) -> None:
            self._graph.enable_debug_mode()

        def debug_dump(self, debug_path: str) -> None:
            self._graph.debug_dump(debug_path)

        def register_generator_state(self, generator: Any) -> None:
            self._graph.register_generator_state(core.plugin_generator(generator))

    def capturing() -> bool:
        function = plugin.find("is_current_stream_capturing", "graphs.is_current_stream_capturing")
        return bool(function()) if function is not None else False

    _CUDAGraph.__module__ = "torch._C"
    _CUDAGraph.__qualname__ = "_CUDAGraph"
    torch_c._CUDAGraph = _CUDAGraph
    torch_c._graph_pool_handle = plugin.call("torch.cuda.graph_pool_handle", "graph_pool_handle")
    torch_c._cuda_isCurrentStreamCapturing = capturing
