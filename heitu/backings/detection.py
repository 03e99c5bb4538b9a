"""Which chips are present, looked at from outside: no plugin and no torch is imported, no tool is run."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heitu.backings.backing import Backing
from heitu.backings.catalogue import backings
from heitu.device.installed_torch import InstalledTorch, find_torch


def _has_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a folder that is no package has none


@dataclass(frozen=True)
class Machine:
    """What is looked at; tests bring their own.

    Args:
        root: where the file system begins.
        environment: the variables.
        has_module: whether a top-level module could be imported.
        which: the path of a command, or None.
        torch: the torch that would be imported.
        path: where distributions are looked for.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    has_module: Callable[[str], bool] = _has_module
    which: Callable[[str], str | None] = shutil.which
    torch: Callable[[], InstalledTorch | None] = find_torch
    path: Sequence[str] = field(default_factory=lambda: sys.path)

    def files(self, pattern: str) -> list[Path]:
        """The files of that absolute pattern, in order."""
        return [Path(found) for found in sorted(glob.glob(str(self.root) + pattern))]


@dataclass(frozen=True)
class Presence:
    """What there is of one maker's chips.

    Args:
        nodes: device files.
        unreachable: those of them that this user may not open.
        tool: a command that shows chips, where it is on PATH.
        installed: whether the plugin, or the maker's build of torch, is there.
    """

    backing: Backing
    nodes: tuple[Path, ...]
    unreachable: tuple[Path, ...]
    tool: str | None
    installed: bool

    @property
    def is_present(self) -> bool:
        """Whether there is a chip. Where the names of its files are not known, its tool stands for them."""
        return bool(self.nodes) or (not self.backing.nodes and self.tool is not None)

    @property
    def evidence(self) -> str:
        """What shows it, in words."""
        if self.nodes:
            more = f" and {len(self.nodes) - 1} more" if len(self.nodes) > 1 else ""
            return f"{self.nodes[0]}{more}"
        return self.tool or f"no {' or '.join(self.backing.nodes) or 'device file'}"


def look_at(machine: Machine, backing: Backing) -> Presence:
    """What there is of one maker's chips."""
    nodes = tuple(node for pattern in backing.nodes for node in machine.files(pattern))
    closed = tuple(node for node in nodes if not os.access(node, os.R_OK | os.W_OK))
    tools = (machine.which(tool) for tool in backing.tools)
    installed = machine.has_module(backing.plugin) if backing.plugin else is_build_of(machine, backing)
    return Presence(backing, nodes, closed, next(filter(None, tools), None), installed)


def detect(machine: Machine) -> list[Presence]:
    """What there is of each maker's chips; all backings, in their order."""
    return [look_at(machine, backing) for backing in backings()]


def is_build_of(machine: Machine, backing: Backing) -> bool:
    """Whether the torch that would be imported is the maker's own build."""
    if any(machine.has_module(module) for module in backing.build.modules):
        return True
    torch = machine.torch()
    if torch is None:
        return False
    local = torch.version.partition("+")[2]
    return any(mark in local for mark in backing.build.versions) or any(
        torch.constant(name) for name in backing.build.fields
    )


def torch_build(machine: Machine) -> Presence | None:
    """The maker whose build of torch is installed, or None for a build that is for no chip.

    A maker's fork may also set what upstream's builds set, so PyTorch's own two come last.
    """
    inert = [backing for backing in backings() if backing.is_inert]
    inert.sort(key=lambda backing: backing.name in ("nvidia", "rocm"))
    found = next((backing for backing in inert if is_build_of(machine, backing)), None)
    return None if found is None else look_at(machine, found)
