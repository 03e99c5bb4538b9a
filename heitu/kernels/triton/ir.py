"""Triton's intermediate representation (TTIR), typed: what the reader makes and the lowering takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Union

Attribute = Union[int, float, bool, str, "Type", list["Attribute"], dict[str, "Attribute"], None]


@dataclass(frozen=True)
class Type:
    """A scalar, or a tensor of scalars.

    Args:
        element: MLIR's name of the scalar (`f32`, `bf16`, `i1`, `f8E4M3FN`, `index`), or `ptr`.
        shape: extents; empty for a scalar.
        pointee: what a pointer points to.
    """

    element: str
    shape: tuple[int, ...] = ()
    pointee: Type | None = None

    @property
    def is_tensor(self) -> bool:
        return bool(self.shape)

    @property
    def is_pointer(self) -> bool:
        return self.element == "ptr"

    @property
    def is_float(self) -> bool:
        return self.element[0] in "fb"

    @property
    def is_integer(self) -> bool:
        return self.element[0] == "i"

    @property
    def bits(self) -> int:
        """The width of the scalar."""
        if self.element in ("ptr", "index"):
            return 64
        if self.element.startswith("f8"):
            return 8
        return int(self.element.lstrip("ibf"))

    @property
    def scalar(self) -> Type:
        return Type(self.element, (), self.pointee)

    def of_shape(self, shape: tuple[int, ...]) -> Type:
        return Type(self.element, shape, self.pointee)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def __str__(self) -> str:
        scalar = f"!tt.ptr<{self.pointee}>" if self.is_pointer else self.element
        return f"tensor<{'x'.join(map(str, self.shape))}x{scalar}>" if self.shape else scalar


@dataclass(frozen=True)
class Location:
    """Where in the program an operation comes from; lines and columns from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(eq=False)
class Value:
    """A result of an operation, or an argument of a block."""

    name: str
    type: Type
    operation: Operation | None = None
    users: list[Operation] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(eq=False)
class Operation:
    """One operation.

    Args:
        name: with its dialect, as `arith.addi`.
        successors: for branches: blocks, each with the values that it is given.
    """

    name: str
    operands: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)
    successors: list[tuple[str, list[Value]]] = field(default_factory=list)
    location: Location | None = None
    block: Block | None = None

    @property
    def result(self) -> Value:
        return self.results[0]

    def integer(self, name: str, otherwise: int = 0) -> int:
        """An attribute that is a whole number."""
        value = self.attributes.get(name, otherwise)
        assert isinstance(value, int), (self.name, name, value)
        return value

    def integers(self, name: str) -> list[int]:
        """An attribute that is a list of whole numbers."""
        value = self.attributes[name]
        assert isinstance(value, list), (self.name, name, value)
        return [int(each) for each in value]  # type: ignore[arg-type]

    def text(self, name: str, otherwise: str = "") -> str:
        """An attribute that is a word or a text."""
        return str(self.attributes.get(name, otherwise))

    def walk(self) -> Iterator[Operation]:
        """Every operation in its regions, outer ones first."""
        for region in self.regions:
            yield from _walk(region)

    def __repr__(self) -> str:
        return f"{self.results} = {self.name} {self.operands} {self.attributes}"


@dataclass(eq=False)
class Block:
    """Operations in their order, the last of which ends it."""

    label: str
    arguments: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    parent: Operation | None = None

    @property
    def end(self) -> Operation:
        return self.operations[-1]


@dataclass(eq=False)
class Region:
    """The blocks of an operation; the first is entered."""

    blocks: list[Block] = field(default_factory=list)

    @property
    def block(self) -> Block:
        return self.blocks[0]


@dataclass(eq=False)
class Function:
    """A kernel, or a function that kernels call."""

    name: str
    arguments: list[Value]
    results: list[Type]
    body: Region
    public: bool
    location: Location | None = None

    def walk(self) -> Iterator[Operation]:
        """Every operation in it, outer ones first."""
        yield from _walk(self.body)


@dataclass(eq=False)
class Module:
    """What Triton compiles at once: a kernel and the functions that it calls."""

    functions: dict[str, Function]

    @cached_property
    def kernel(self) -> Function:
        """The function that is launched."""
        return next(function for function in self.functions.values() if function.public)


def _walk(region: Region) -> Iterator[Operation]:
    for block in region.blocks:
        for operation in block.operations:
            yield operation
            yield from operation.walk()


class Groups:
    """Values that are, or may be, one."""

    def __init__(self) -> None:
        self._parents: dict[int, Value] = {}

    def of(self, value: Value) -> Value:
        """What stands for its group."""
        while (parent := self._parents.get(id(value))) is not None:
            value = parent
        return value

    def join(self, values: Iterable[Value]) -> None:
        """They are one from now on."""
        first: Value | None = None
        for value in values:
            group = self.of(value)
            if first is None:
                first = group
            elif group is not first:
                self._parents[id(group)] = first
