"""A chip's entry in the catalogue as rules for the core, and what it makes the device look like."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

from heitu.chips import Chip, default_classes, operator_list
from heitu.chips.facts import Fact
from heitu.chips.operators import DefaultClass, OperatorList
from heitu.chips.schema import DtypeRule, Integration, Others, Verdict

T = TypeVar("T")

MISSING = (
    "Could not run '{operator}' with arguments from the '{device}' backend: "
    "the plugin of {title} does not register it, and has no fallback for it."
)
REFUSED_DTYPE = "'{operator}' does not take {dtype} on {title} ({source}, {date})."
# c10::ScalarType counts them so (c10/core/ScalarType.h, the order is part of PyTorch's file format).
_SCALAR_TYPES = (
    *("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    *("complex32", "complex64", "complex128", "bool", "qint8", "quint8", "qint32", "bfloat16"),
    *("quint4x2", "quint2x4", "bits1x8", "bits2x4", "bits4x2", "bits8", "bits16"),
    *("float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz", "uint16", "uint32", "uint64"),
    *("uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7"),
    *("int1", "int2", "int3", "int4", "int5", "int6", "int7", "float8_e8m0fnu", "float4_e2m1fn_x2"),
)
SCALAR_TYPES = {name: number for number, name in enumerate(_SCALAR_TYPES)}
DTYPE_NAMES = dict(enumerate(_SCALAR_TYPES))
# As DtypeRuling::Kind in the core.
_KINDS = {Verdict.REFUSED: 1, Verdict.NARROWED: 2, Verdict.EMULATED: 3, Verdict.STATED_NO: 4}
_FLOATING = ("float", "bfloat", "complex")


def value_of(fact: Fact[T] | None, default: T) -> T:
    """The value of a fact, or `default` where nobody knows."""
    return default if fact is None else fact.value


class Rules:
    """What the core is told of a chip."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip

    @cached_property
    def same_device(self) -> bool:
        """Whether the chip runs the kernels of the cuda device."""
        return value_of(self.chip.operators.same_as, "") == "cuda"

    @cached_property
    def own_device(self) -> bool:
        """Whether the maker's plugin brings a device of its own."""
        return value_of(self.chip.software.integration, Integration.UPSTREAM) is Integration.OWN_DEVICE

    @cached_property
    def list(self) -> OperatorList | None:
        """What the plugin registers, where that is known."""
        return operator_list(self.chip)

    @cached_property
    def listed(self) -> Mapping[str, frozenset[str]]:
        """Overload → dispatch keys of the plugin's device."""
        if self.list is None:
            return {}
        # torch_mlu's files call torchvision's namespace "vision".
        return {name.replace("vision::", "torchvision::", 1) if name.startswith("vision::") else name: keys
                for name, keys in self.list.overloads.items()}  # fmt: skip

    @cached_property
    def on_host(self) -> set[str]:
        """What the plugin registers and runs on the host all the same."""
        return set() if self.chip.operators.on_host is None else set(self.chip.operators.on_host.value)

    @cached_property
    def others(self) -> str:
        """The verdict of an operator that the plugin does not register and nothing composes."""
        stated = self.chip.operators.others
        if stated is None:
            return "unknown"
        return "refused" if stated.value is Others.ERROR or self._fallback_is_off() else "fallback"

    def _fallback_is_off(self) -> bool:
        name, _, off = value_of(self.chip.operators.fallback_off, "").partition("=")
        return bool(name) and os.environ.get(name) == off

    def verdict(self, overload: str, torch: str = "2.13") -> str:
        """native, composite, fallback, refused or unknown, from the tables alone (dense tensors).

        The core asks PyTorch's dispatcher instead of the table of default kernels; both must agree.
        """
        if self.same_device:
            return "native"
        if self.list is None:
            return "unknown"
        if self.listed.get(overload, frozenset()) & {"PrivateUse1", "AutogradPrivateUse1"}:
            return "fallback" if overload in self.on_host else "native"
        if not self.list.complete:
            return "unknown"
        default = default_classes(torch).get(overload)
        if default in (
            DefaultClass.COMPOSITE_EXPLICIT,
            DefaultClass.COMPOSITE_EXPLICIT_NON_FUNCTIONAL,
            DefaultClass.COMPOSITE_IMPLICIT,
        ):
            return "composite"
        return self.others

    def install(self, core: Any) -> None:
        """Sets the rules, before the core registers its kernels."""
        chip, operators = self.chip, self.chip.operators
        device = value_of(chip.software.device, chip.name)
        missing = value_of(operators.missing_error, MISSING)
        core.set_rules(
            chip.name,
            self.same_device,
            self.own_device,
            self.list is not None,
            self.list is not None and self.list.complete,
            {overload: ",".join(sorted(keys)) for overload, keys in self.listed.items()},
            self.on_host,
            self.others,
            value_of(operators.fallback_warning, ""),
            missing.replace("{device}", device).replace("{title}", chip.title),
            [self._row(index, rule) for index, rule in enumerate(chip.dtypes) if _acts(rule)],
        )

    def _row(self, index: int, rule: DtypeRule) -> tuple[int, int, int, int, set[str], str]:
        verdict, message = rule.verdict.value, rule.message
        if verdict is Verdict.REFUSED and not message:
            message = REFUSED_DTYPE.replace("{dtype}", f"torch.{rule.dtype}").replace(
                "{title}", self.chip.title
            )
            message = message.replace("{source}", rule.verdict.source).replace("{date}", rule.verdict.date)
        if verdict is Verdict.NARROWED and not rule.dtype.startswith(_FLOATING):
            # Which kernels narrow whole numbers is not published: the call is marked, its numbers stay.
            return index, SCALAR_TYPES[rule.dtype], _KINDS[Verdict.EMULATED], 0, set(rule.operators), message
        to = SCALAR_TYPES[rule.to] if rule.to else 0
        return index, SCALAR_TYPES[rule.dtype], _KINDS[verdict], to, set(rule.operators), message


def _acts(rule: DtypeRule) -> bool:
    return rule.verdict.value in _KINDS


def dress(core: Any, chip: Chip) -> None:
    """Makes the emulated devices report the chip's properties. What is unknown stays the device's own."""
    stated = chip.properties
    for index in range(core.device_count()):
        facts = core.properties(index)
        facts.name = f"{value_of(stated.name, chip.title)} (emulated by Heitu)"
        if stated.capability is not None:
            facts.major, facts.minor = stated.capability.value
        if chip.hardware.memory_bytes is not None:
            facts.total_memory = chip.hardware.memory_bytes.value
        for name in _COPIED:
            fact = getattr(stated, name)
            if fact is not None:
                setattr(facts, name, int(fact.value))
        for name in ("clock_rate", "memory_clock_rate"):
            fact = getattr(stated, name)
            if fact is not None:
                setattr(facts, name, int(fact.value / 1000))  # Hz → kHz


_COPIED = (
    "multi_processor_count",
    "warp_size",
    "max_threads_per_multi_processor",
    "max_threads_per_block",
    "shared_memory_per_block",
    "shared_memory_per_block_optin",
    "shared_memory_per_multiprocessor",
    "regs_per_multiprocessor",
    "L2_cache_size",
    "memory_bus_width",
)
