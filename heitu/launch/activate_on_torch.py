"""Activation put off until the process imports torch, so that one that never does pays almost nothing."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` alone would cost more than all the rest of this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class TorchWatch:
    """A finder that finds nothing itself: the first search for torch installs the cuda device."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns None for all but torch; for torch, what the finders of the device make of it."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        import importlib.util

        from heitu.launch.environment import install_device

        install_device()
        # The import system is iterating over the list that install() has just changed, so ask it afresh.
        return importlib.util.find_spec(name)


def watch() -> None:
    """Has this process activate the cuda device when it comes to import torch."""
    if "torch" not in sys.modules and not any(isinstance(finder, TorchWatch) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchWatch())
