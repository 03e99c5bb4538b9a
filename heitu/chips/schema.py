"""What the catalogue can say of a chip. These dataclasses are the schema of chip files.

A fact that nobody knows is None. To let files state another fact, add a field here with its parser.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heitu.chips.facts import Fact
from heitu.chips.quantities import (
    assignment,
    bandwidth,
    choice,
    dots,
    extents,
    frequency,
    power,
    rate,
    size,
    text,
    texts,
    version,
    whole,
)

_UNITS: dict[Callable[[object], object], str] = {
    size: "B",
    bandwidth: "B/s",
    rate: "FLOP/s",
    power: "W",
    frequency: "Hz",
    version: "version",
}


def stated(parse: Callable[[object], Any], doc: str, unit: str | None = None) -> Any:
    """A field of a group: how its value is read, what it means, and the unit it is shown in."""
    shown_in = _UNITS.get(parse, "") if unit is None else unit
    return field(default=None, metadata={"parse": parse, "doc": doc, "unit": shown_in})


class Integration(str, enum.Enum):
    """How the maker brings PyTorch to the chip."""

    OWN_DEVICE = "own-device"  # A: a plugin with a device name of its own (PrivateUse1)
    CUDA_FORK = "cuda-fork"  # B: a fork of torch whose device is called cuda
    CUDA_SHIM = "cuda-shim"  # C: the stock CUDA build of torch over libraries with CUDA's ABI
    UPSTREAM = "upstream"  # PyTorch itself
    NONE_PUBLIC = "none-public"


class Others(str, enum.Enum):
    """What happens to an operator that the chip's list does not have and no composite serves."""

    HOST_FALLBACK = "host_fallback"  # runs on the CPU with copies there and back
    ERROR = "error"


class Verdict(str, enum.Enum):
    """What a dtype rule says."""

    REFUSED = "refused"  # it raises
    NARROWED = "narrowed"  # computed in `to`, a smaller dtype
    EMULATED = "emulated"  # right, and slow
    STATED_OK = "stated_ok"
    STATED_NO = "stated_no"  # said not to be supported; what happens then is not said


@dataclass(frozen=True)
class Software:
    """PyTorch on the chip."""

    integration: Fact[Integration] | None = stated(choice(Integration), "how PyTorch reaches the chip")
    module: Fact[str] | None = stated(text, "what Python imports for it")
    device: Fact[str] | None = stated(text, "device string")
    namespace: Fact[str] | None = stated(text, "what stands where torch.cuda stands")
    torch_versions: Fact[str] | None = stated(text, "releases of torch it is made for")
    collectives: Fact[str] | None = stated(text, "name of the process group's backend")
    visible_devices: Fact[tuple[str, ...]] | None = stated(texts, "variables that choose devices")
    management_tool: Fact[tuple[str, ...]] | None = stated(texts, "commands that show the devices")
    management_binding: Fact[str] | None = stated(text, "Python package for the same")
    device_nodes: Fact[tuple[str, ...]] | None = stated(texts, "files under /dev")
    cuda_shim: Fact[str] | None = stated(text, "the maker's own redirection of CUDA programs")
    licence: Fact[str] | None = stated(text, "of the PyTorch package")
    where: Fact[str] | None = stated(text, "where to get it")


@dataclass(frozen=True)
class Kernels:
    """Writing kernels for the chip."""

    language: Fact[str] | None = stated(text, "kernel language")
    compiler: Fact[str] | None = stated(text, "its compiler")
    triton_package: Fact[str] | None = stated(text, "the Triton that serves the chip")
    triton_backend: Fact[str] | None = stated(text, "backend of Triton's GPUTarget")
    triton_arch: Fact[str] | None = stated(text, "arch of Triton's GPUTarget")
    warp_size: Fact[int] | None = stated(whole, "threads a warp as Triton has it; 0: no warps")
    smallest_dot: Fact[tuple[str, ...]] | None = stated(
        dots, "smallest M, N and K of tl.dot by the width of its operands"
    )
    float8: Fact[tuple[str, ...]] | None = stated(texts, "8-bit floats, as tl calls them")
    triton_dtypes: Fact[str] | None = stated(text, "file of the dtypes that tl's operators take")


@dataclass(frozen=True)
class Operators:
    """PyTorch's operators on the chip."""

    listed_in: Fact[str] | None = stated(text, "file of what the maker registers")
    same_as: Fact[str] | None = stated(text, "the device whose kernels these are (cuda)")
    others: Fact[Others] | None = stated(choice(Others), "what happens to an operator that is missing")
    fallback_off: Fact[str] | None = stated(assignment, "environment that makes the host fallback an error")
    fallback_warning: Fact[str] | None = stated(text, "what the plugin says then; {operator} is its name")
    missing_error: Fact[str] | None = stated(text, "what NotImplementedError says; {operator} is its name")
    on_host: Fact[tuple[str, ...]] | None = stated(
        texts, "listed operators that run on the host all the same"
    )
    documented_as: Fact[str] | None = stated(text, "the chip's generation in the maker's documents")
    dtype_statements: Fact[str] | None = stated(text, "file of the maker's statements on dtypes")


@dataclass(frozen=True)
class Hardware:
    """What the chip is made of."""

    memory_bytes: Fact[int] | None = stated(size, "device memory that one torch device has")
    memory_bandwidth: Fact[float] | None = stated(bandwidth, "of the device memory, peak")
    link_bandwidth: Fact[float] | None = stated(bandwidth, "between chips, peak")
    board_power: Fact[float] | None = stated(power, "power limit")
    cores: Fact[int] | None = stated(whole, "independent cores, in the maker's own count")


@dataclass(frozen=True)
class Peak:
    """Peak rates, dense (no sparsity), multiply and add counted as two. One field a dtype."""

    float64: Fact[float] | None = stated(rate, "")
    float32: Fact[float] | None = stated(rate, "")
    tfloat32: Fact[float] | None = stated(rate, "float32 in and out, products in a shorter format")
    bfloat16: Fact[float] | None = stated(rate, "")
    float16: Fact[float] | None = stated(rate, "")
    float8: Fact[float] | None = stated(rate, "")
    float4: Fact[float] | None = stated(rate, "")
    int8: Fact[float] | None = stated(rate, "", unit="OP/s")


@dataclass(frozen=True)
class Properties:
    """What torch.cuda.get_device_properties reports, under its names."""

    name: Fact[str] | None = stated(text, "")
    capability: Fact[tuple[int, int]] | None = stated(version, "major and minor")
    multi_processor_count: Fact[int] | None = stated(whole, "")
    warp_size: Fact[int] | None = stated(whole, "")
    max_threads_per_multi_processor: Fact[int] | None = stated(whole, "")
    max_threads_per_block: Fact[int] | None = stated(whole, "")
    shared_memory_per_block: Fact[int] | None = stated(size, "")
    shared_memory_per_block_optin: Fact[int] | None = stated(size, "")
    shared_memory_per_multiprocessor: Fact[int] | None = stated(size, "")
    regs_per_multiprocessor: Fact[int] | None = stated(whole, "32-bit registers")
    L2_cache_size: Fact[int] | None = stated(size, "")
    clock_rate: Fact[float] | None = stated(frequency, "")
    memory_clock_rate: Fact[float] | None = stated(frequency, "")
    memory_bus_width: Fact[int] | None = stated(whole, "bits")


@dataclass(frozen=True)
class Limits:
    """What one kernel launch may ask for."""

    grid_programs: Fact[int] | None = stated(whole, "programs (blocks) in one launch")
    grid_free: Fact[str] | None = stated(assignment, "environment in which grid_programs is no limit")
    grid_extents: Fact[tuple[int, ...]] | None = stated(extents, "programs (blocks) in x, y and z")
    on_chip_memory: Fact[int] | None = stated(size, "memory beside one core, for one program")


@dataclass(frozen=True)
class Market:
    """What a buyer asks of the maker."""

    listing: Fact[str] | None = stated(text, "stock exchange")
    units_shipped: Fact[str] | None = stated(text, "as reported")
    users: Fact[tuple[str, ...]] | None = stated(texts, "named users")


@dataclass(frozen=True)
class DtypeRule:
    """What the chip does with a dtype, everywhere or in some operators.

    Attributes:
        dtype: torch's name without `torch.`.
        verdict: a Fact, whose `note` says under what condition.
        to: the dtype in which it is computed, where it is narrowed.
        operators: overloads as the lists spell them ("aten::mm", "aten::add.Tensor"); empty means all.
        message: what the plugin says when it raises, where that is known.
    """

    dtype: str
    verdict: Fact[Verdict]
    to: str = ""
    operators: tuple[str, ...] = ()
    message: str = ""

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What a later rule must have in common to take this one's place."""
        return self.dtype, self.operators


@dataclass(frozen=True)
class Chip:
    """One entry of the catalogue.

    Attributes:
        name: what `--chip` takes.
        title: the maker's name and the chip's, for people.
        maker: the company.
        file: where it is written; other files it names lie relative to that.
        notes: what is known and has no field, by a word of its own.
    """

    name: str
    title: str
    maker: str
    file: Path = field(compare=False)
    software: Software = field(default_factory=Software)
    kernels: Kernels = field(default_factory=Kernels)
    operators: Operators = field(default_factory=Operators)
    hardware: Hardware = field(default_factory=Hardware)
    peak: Peak = field(default_factory=Peak)
    properties: Properties = field(default_factory=Properties)
    limits: Limits = field(default_factory=Limits)
    market: Market = field(default_factory=Market)
    dtypes: tuple[DtypeRule, ...] = ()
    notes: tuple[tuple[str, Fact[str]], ...] = ()


GROUPS: Mapping[str, type[Any]] = {
    "software": Software,
    "kernels": Kernels,
    "operators": Operators,
    "hardware": Hardware,
    "peak": Peak,
    "properties": Properties,
    "limits": Limits,
    "market": Market,
}

DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn_x2"),
    *("complex128", "complex64", "complex32", "int64", "int32", "int16", "int8", "bool"),
    *("uint64", "uint32", "uint16", "uint8"),
)
