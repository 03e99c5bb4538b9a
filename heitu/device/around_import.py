"""A finder that runs steps around the import of one module, without showing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class AroundImport(MetaPathFinder):
    """Runs steps before a module is created and after it was executed; finds nothing by itself."""

    def __init__(
        self,
        name: str,
        before: Callable[[ModuleSpec], None] | None,
        after: Callable[[ModuleType], None],
    ) -> None:
        self._name = name
        self._before = before
        self._after = after

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, AroundImport) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _AroundLoader(spec.loader, spec, self._before, self._after)
                return spec
        return None


class _AroundLoader(Loader):
    def __init__(
        self,
        inner: Loader,
        spec: ModuleSpec,
        before: Callable[[ModuleSpec], None] | None,
        after: Callable[[ModuleType], None],
    ) -> None:
        self._inner = inner
        self._spec = spec
        self._before = before
        self._after = after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        if self._before is not None:
            self._before(spec)
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module and its spec look as if nobody had stood in between.
        self._spec.loader = self._inner
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = self._inner
        self._inner.exec_module(module)
        self._after(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)
