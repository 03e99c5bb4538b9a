"""The catalogue of chips: what is known of each, with source, date and kind.

`load("ascend-910b")` gives a frozen `Chip`, `names()` says which there are; docs/chips.md explains the files.
"""

from heitu.chips.catalogue import aliases, load, names
from heitu.chips.facts import Fact, Kind
from heitu.chips.operators import (
    OperatorList,
    TritonDtypes,
    default_classes,
    dtype_statements,
    operator_list,
    triton_dtypes,
)
from heitu.chips.schema import Chip, DtypeRule, Integration, Others, Verdict

__all__ = [
    "Chip",
    "DtypeRule",
    "Fact",
    "Integration",
    "Kind",
    "OperatorList",
    "Others",
    "TritonDtypes",
    "Verdict",
    "aliases",
    "default_classes",
    "dtype_statements",
    "load",
    "names",
    "operator_list",
    "triton_dtypes",
]
