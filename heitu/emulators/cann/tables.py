"""The operator tables of the CANN emulator, and the C++ that is made from them.

A line describes one operator: its C parameters in their order, and what computes it.

    aclnnAdd(self, other, Scalar alpha, >out) = add.Tensor
    aclnnEye(int n, int m, >out) = eye.m(n, m)
    aclnnApplyAdamWV2(...) : adamw_v2

A parameter is a tensor unless a kind stands before its name; `>` marks a tensor (or a list of them) that a
result is written into. After `=` stands an overload of PyTorch's, run on the CPU: with all parameters but
the results in their order, or with what is listed, where `name=word` sets an argument by name and a word is
a parameter, its element type (`out.dtype`), its content as int64 (`indices.int64`) or a literal. After `:`
stands a kernel written in C++. Operators that torch_npu knows and no line describes are in `known.txt`; they
fail by name, but those behind a `-` are not offered at all: their arguments are not public, and the plugin
falls back to what came before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATORS = Path(__file__).resolve().parent / "operators"
KNOWN = OPERATORS / "known.txt"
KINDS = {
    "Tensor": "const Tensor*",
    "Tensors": "const TensorList*",
    "Scalar": "const Scalar*",
    "Scalars": "const ScalarList*",
    "ints": "const IntArray*",
    "floats": "const FloatArray*",
    "bools": "const BoolArray*",
    "int": "int64_t",
    "int32": "int32_t",
    "int8": "int8_t",
    "bool": "bool",
    "double": "double",
    "float": "float",
    "dtype": "int32_t",
    "str": "const char*",
}
LINE = re.compile(
    r"(?P<name>aclnn\w+)\((?P<parameters>.*?)\)\s*(?P<how>[=:])\s*(?P<target>[\w.]+)(?:\((?P<words>.*)\))?$"
)


@dataclass(frozen=True)
class Parameter:
    """A C parameter of an operator."""

    kind: str
    name: str
    is_result: bool


@dataclass(frozen=True)
class Operator:
    """An operator of CANN's.

    Args:
        target: "aten::add.Tensor", ":kernel" for one written here, "" for one that is not emulated.
        words: what `target` is called with; None means every parameter but the results.
    """

    name: str
    parameters: tuple[Parameter, ...]
    target: str
    words: tuple[str, ...] | None = None

    def call(self) -> str:
        """The words, with parameters as "#index", joined with ";"."""
        places = {parameter.name: f"#{index}" for index, parameter in enumerate(self.parameters)}
        places |= {f"{parameter.name}.dtype": f"@{i}" for i, parameter in enumerate(self.parameters)}
        places |= {f"{parameter.name}.int64": f"^{i}" for i, parameter in enumerate(self.parameters)}
        words = self.words
        if words is None:
            words = tuple(parameter.name for parameter in self.parameters if not parameter.is_result)
        spelled = []
        for word in words:
            before, equals, value = word.rpartition("=")
            spelled.append(f"{before}{equals}{places.get(value, value)}")
        return ";".join(spelled)

    def names(self) -> str:
        """The names of the parameters, joined with ";"."""
        return ";".join(parameter.name for parameter in self.parameters)

    def results(self) -> str:
        """The indices of the results."""
        return ";".join(str(i) for i, parameter in enumerate(self.parameters) if parameter.is_result)


def tables() -> list[Path]:
    """The files that describe operators."""
    return sorted(path for path in OPERATORS.glob("*.txt") if path != KNOWN)


def emulated() -> list[Operator]:
    """The operators that the tables describe."""
    found = [operator for path in tables() for operator in _read(path)]
    names = [operator.name for operator in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"operators described twice: {', '.join(twice)}")
    return found


def missing() -> list[str]:
    """The operators that torch_npu asks for and no table describes."""
    have = {operator.name for operator in emulated()}
    known = (name.lstrip("-") for name in KNOWN.read_text("utf-8").split())
    return [name for name in known if name not in have]


def generate() -> dict[str, str]:
    """The C++ functions of all operators, by file name."""
    hidden = {name[1:] for name in KNOWN.read_text("utf-8").split() if name.startswith("-")}
    every = [*emulated(), *(Operator(name, (), "") for name in missing() if name not in hidden)]
    lines = ['#include "operators.h"', "", "namespace heitu::cann {", ""]
    lines += ["const Operator kOperators[] = {"]
    lines += [
        f'    {{"{each.name}", "{each.names()}", "{each.target}", "{each.call()}", "{each.results()}"}},'
        for each in every
    ]
    lines += ["};", "const size_t kOperatorCount = sizeof kOperators / sizeof *kOperators;", ""]
    lines += ["#pragma GCC visibility push(default)", 'extern "C" {']
    for index, operator in enumerate(every):
        lines += _functions(index, operator)
    lines += ['}  // extern "C"', "#pragma GCC visibility pop", "", "}  // namespace heitu::cann", ""]
    return {"operator_table.cpp": "\n".join(lines)}


def _functions(index: int, operator: Operator) -> Iterator[str]:
    first, second = f"int {operator.name}GetWorkspaceSize", f"int {operator.name}"
    if not operator.target:
        yield f"{first}() {{ return refuse({index}); }}"
        yield f"{second}() {{ return refuse({index}); }}"
        return
    declared = [f"{KINDS[each.kind]} p{place}" for place, each in enumerate(operator.parameters)]
    declared += ["uint64_t* workspace", "Executor** executor"]
    packed = [
        f"pack_type(p{place})" if each.kind == "dtype" else f"pack(p{place})"
        for place, each in enumerate(operator.parameters)
    ]
    yield f"{first}({', '.join(declared)}) {{"
    yield f"  return prepare({index}, workspace, executor, {{{', '.join(packed)}}});"
    yield "}"
    yield f"{second}(void*, uint64_t, Executor* executor, void* stream) {{"
    yield "  return launch(executor, stream);"
    yield "}"


def _read(path: Path) -> Iterator[Operator]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        parts = LINE.match(text)
        if parts is None:
            raise ValueError(f"{path}:{number}: not an operator: {text}")
        try:
            parameters = tuple(_parameter(word) for word in _words(parts["parameters"]))
        except KeyError as unknown:
            raise ValueError(f"{path}:{number}: unknown kind {unknown}") from None
        words = None if parts["words"] is None else tuple(_words(parts["words"]))
        target = f":{parts['target']}" if parts["how"] == ":" else f"aten::{parts['target']}"
        yield Operator(parts["name"], parameters, target, words)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parameter(text: str) -> Parameter:
    is_result = text.startswith(">")
    kind, _, name = text.lstrip(">").strip().rpartition(" ")
    kind = kind.strip() or "Tensor"
    if kind not in KINDS:
        raise KeyError(kind)
    return Parameter(kind, name, is_result)
