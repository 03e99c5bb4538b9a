"""What each stand-in is called, and what it has; no more than is known of the vendor's own plugin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heitu.chips.operators import _operator_list

HERE = Path(__file__).parent
OPERATORS = HERE.parent.parent / "heitu" / "chips" / "operators"

# Operators that each stand-in overrides with derivatives of its own, whatever its list has: the passage by
# which a plugin's fused operators are reached is to be tested on each.
OVERRIDDEN = (
    "scaled_dot_product_attention",
    "softmax.int",
    "lstm.input",
    "layer_norm",
    "matmul",
    "gelu",
    "silu",
)


@dataclass(frozen=True)
class Vendor:
    """A vendor's names.

    Args:
        plugin: the package, and the name of its distribution.
        device: the name of PrivateUse1.
        collective: the name of its process group.
        visible: the variable that hides devices, None where none is known.
        shim: the vendor's own redirection of cuda, None where it has none.
        operators: the list of what it registers, in heitu/chips/operators; None: that of Moore Threads.
        missing: collectives that its process group lacks.
    """

    plugin: str
    device: str
    collective: str
    visible: str | None
    shim: str | None = None
    operators: str | None = None
    missing: tuple[str, ...] = ()
    version: str = "2.13.0"

    def names(self) -> list[str]:
        """Public names of torch.<device>."""
        path = HERE / "api" / f"{self.device}.txt"
        path = path if path.is_file() else HERE / "api" / "common.txt"
        return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

    def overloads(self) -> list[str]:
        """Operators of aten that it registers kernels for, without the namespace."""
        listed = _operator_list(OPERATORS / f"{self.operators or 'moore-threads-2.7.1'}.txt")
        found = {name.removeprefix("aten::") for name in listed.overloads if name.startswith("aten::")}
        if not listed.complete or self.operators is None:
            whole = _operator_list(OPERATORS / "moore-threads-2.7.1.txt")
            found |= {name.removeprefix("aten::") for name in whole.overloads if name.startswith("aten::")}
        return sorted(found)


VENDORS = (
    Vendor(
        "torch_npu", "npu", "hccl", "ASCEND_RT_VISIBLE_DEVICES",
        "torch_npu.contrib.transfer_to_npu", "ascend-2.13.0",
    ),
    Vendor(
        "torch_mlu", "mlu", "cncl", "MLU_VISIBLE_DEVICES", "torch_mlu.utils.gpu_migration", "cambricon-2.4.1"
    ),
    Vendor("torch_musa", "musa", "mccl", "MUSA_VISIBLE_DEVICES", "torchada", "moore-threads-2.7.1"),
    Vendor(
        "torch_gcu", "gcu", "eccl", "TOPS_VISIBLE_DEVICES", "torch_gcu.transfer_to_gcu", "enflame-torch-fl"
    ),
    Vendor("torch_supa", "supa", "bccl", None, "torch_supa.contrib.transfer_to_supa", "biren-torch-supa"),
    Vendor("torch_txda", "txda", "flagcx", "TXDA_VISIBLE_DEVICES", "torch_txda.transfer_to_txda"),
    Vendor(
        "torch_ptpu", "ptpu", "pccl", "TANG_VISIBLE_DEVICES",
        # flagos-ai/Megatron-LM-FL#183 (2026): what PCCL lacks.
        missing=(
            "_reduce_scatter_base", "alltoall_base", "allreduce_coalesced", "allgather_into_tensor_coalesced"
        ),
    ),
)  # fmt: skip
