"""What is known of how a maker's chip executes PyTorch programs: the schema of the files in `vendors`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Way(str, enum.Enum):
    """How a CUDA program reaches the chip."""

    FORWARDED = "forwarded"  # a plugin with a device of its own name: the cuda device forwards to it
    NATIVE = "native"  # a build of torch whose device is called cuda already: Heitu's stays out of the way
    SHIM = "shim"  # the stock CUDA build of torch over libraries with CUDA's ABI: out of the way, too


class State(str, enum.Enum):
    """How far the way is tested."""

    VERIFIED = "verified on the plugin"  # same kernels and numbers as a program written for the plugin
    CONTRACT = "contract tested, not verified on the plugin"  # on a stand-in with the plugin's names
    RECOGNISED = "recognised; its own cuda device is used"


@dataclass(frozen=True)
class Pairing:
    """Versions that belong together.

    Args:
        torch: of torch, as far as it matters: "2.13.0", "2.11".
        plugin: of the plugin.
        toolkit: of the maker's toolkit, as in "CANN 9.1.0"; empty where it is not known.
    """

    torch: str
    plugin: str
    toolkit: str = ""


@dataclass(frozen=True)
class TritonBuild:
    """The Triton that serves the chip, which mainline Triton must not overwrite.

    Args:
        distribution: its name for pip.
        mark: what its version contains, where the name is mainline's.
    """

    distribution: str
    mark: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """By what a maker's own build of torch is told apart; one of them is enough.

    Args:
        versions: what the version contains after the plus sign, as "metax".
        fields: constants of torch/version.py that are set.
        modules: packages beside it.
    """

    versions: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backing:
    """One maker's way.

    Args:
        name: the name of its file, and of HEITU_BACKING.
        maker: as in the catalogue of chips.
        plugin: the Python package; empty where torch itself is built for the chip.
        distribution: its name for pip.
        device: the name of PyTorch's PrivateUse1 device, or "cuda".
        collectives: the backend of torch.distributed that nccl stands for.
        visible_devices: variables that choose devices, the one that programs set first; empty: none known.
        nodes: files by which the driver shows chips, as patterns; empty: none known.
        tools: commands that show the chips.
        toolkit: what the plugin is linked with, "CANN".
        toolkit_paths: where it lies by default.
        toolkit_variables: variables that say where it lies.
        version_files: files in it that have a line "version=...", as patterns.
        libraries: libraries of the toolkit without which the plugin cannot be imported.
        build: the maker's own build of torch.
        shim: the module of the maker's own redirection of CUDA programs.
        emulator: the package that emulates the toolkit, so that the plugin runs without the chip.
        emulated: what the toolkit calls the chips of the catalogue that it can be emulated for.
        autoloads: whether `import torch` imports the plugin by itself.
        install: how to get the plugin.
        pairings: versions that belong together.
        triton: the maker's Triton.
    """

    name: str
    maker: str
    way: Way
    state: State
    plugin: str = ""
    distribution: str = ""
    device: str = "cuda"
    collectives: str = "nccl"
    visible_devices: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    toolkit: str = ""
    toolkit_paths: tuple[str, ...] = ()
    toolkit_variables: tuple[str, ...] = ()
    version_files: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    build: TorchBuild = TorchBuild()
    shim: str = ""
    emulator: str = ""
    emulated: Mapping[str, str] = field(default_factory=dict)
    autoloads: bool = False
    install: str = ""
    pairings: tuple[Pairing, ...] = ()
    triton: tuple[TritonBuild, ...] = ()

    @property
    def is_inert(self) -> bool:
        """Whether the chip has a cuda device of its own, which Heitu's must not cover."""
        return self.way is not Way.FORWARDED
