"""What a kernel may be compiled with: the options that programs pass for NVIDIA's GPUs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

FP8 = ("fp8e4b15", "fp8e4b8", "fp8e4nv", "fp8e5", "fp8e5b16")


@dataclass(frozen=True)
class Options:
    """Those that mean something for a GPU only are taken and change nothing.

    Args:
        enable_fp_fusion: whether a product and a sum may be rounded once.
        check: whether each access of memory is judged (HEITU_CHECK_KERNELS).
        debug: whether `tl.device_assert` is looked at, and whole numbers that overflow are reported.
    """

    num_warps: int = 4
    num_ctas: int = 1
    num_stages: int = 3
    warp_size: int = 32
    maxnreg: int | None = None
    ptx_version: int | None = None
    ptx_options: str | None = None
    ir_override: str | None = None
    enable_fp_fusion: bool = True
    sched4reg: bool = False
    enable_reflect_ftz: bool = True
    launch_cooperative_grid: bool = False
    launch_cluster: bool = False
    launch_pdl: bool = False
    clc: bool = False
    supported_fp8_dtypes: tuple[str, ...] = FP8
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    default_dot_input_precision: str = "tf32"
    allowed_dot_input_precisions: tuple[str, ...] = ("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")
    max_num_imprecise_acc_default: int = 0
    extern_libs: tuple[tuple[str, str], ...] = ()
    debug: bool = False
    backend_name: str = "cpu"
    sanitize_overflow: bool = True
    arch: str | None = None
    instrumentation_mode: str = ""
    fpsan_homomorphic_casts: bool = False
    min_shared_mem: int | None = None
    check: bool = False

    def __post_init__(self) -> None:
        if self.num_warps <= 0 or self.num_warps & (self.num_warps - 1):
            raise AssertionError("num_warps must be a power of 2")

    def hash(self) -> str:
        """Of all options."""
        return hashlib.sha256(repr(sorted(self.__dict__.items())).encode()).hexdigest()


def options_from(given: dict[str, Any], **fixed: Any) -> Options:
    """The options among what a launch was given; None counts as not given."""
    names = {field.name for field in fields(Options)}
    chosen = {name: value for name, value in given.items() if name in names and value is not None}
    extern = chosen.get("extern_libs")
    if isinstance(extern, dict):
        chosen["extern_libs"] = tuple(extern.items())
    return Options(**{**chosen, **fixed})
