"""The vendor's device module (torch.npu, torch.mlu, …), of which each plugin has other functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Plugin:
    """What the cuda device asks of the plugin's Python. It is there only once the plugin is imported.

    Args:
        package: the plugin's package: torch_npu.
        device: the name of its device: npu.
    """

    def __init__(self, package: str, device: str) -> None:
        self.package = package
        self.device = device

    @property
    def module(self) -> Any:
        """torch.npu."""
        return getattr(sys.modules["torch"], self.device)

    def find(self, *names: str) -> Any:
        """The first of these attributes that the plugin has, or None; a name may have dots."""
        for name in names:
            found = self.module
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is not None:
                return found
        return None

    def function(self, asked: str, *names: str) -> Callable[..., Any]:
        """As `find`, for what a program asked of torch.cuda by the name `asked`.

        Raises:
            NotImplementedError: the plugin has none of them.
        """
        found = self.find(*names)
        if found is None:
            ours = " or ".join(f"torch.{self.device}.{name}" for name in names)
            raise NotImplementedError(
                f"{asked} has no counterpart on this chip: {self.package} has no {ours}."
            )
        function: Callable[..., Any] = found
        return function

    def call(self, asked: str, name: str) -> Callable[..., Any]:
        """A function that calls the plugin's `name` when it is called."""
        return lambda *arguments, **named: self.function(asked, name)(*arguments, **named)
