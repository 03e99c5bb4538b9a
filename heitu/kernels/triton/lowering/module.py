"""The C of a whole module."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from heitu.kernels.triton.ir import Block, Function, Module, Operation, Region, Type
from heitu.kernels.triton.lowering import checked, control
from heitu.kernels.triton.lowering.calls import CONTEXT, argument_values, call, signature
from heitu.kernels.triton.lowering.elementwise import expression, is_elementwise
from heitu.kernels.triton.lowering.nest import Nest
from heitu.kernels.triton.lowering.operations import ROOTS
from heitu.kernels.triton.lowering.representation import (
    UnsupportedError,
    from_memory,
    memory_type,
    register_type,
)
from heitu.kernels.triton.lowering.scope import Scope, is_put_off
from heitu.kernels.triton.lowering.shapes import ZERO

AXES = {"x": 0, "y": 1, "z": 2}
# What says something to compilers for GPUs only.
HINTS = (
    "llvm.intr.assume",
    "ttg.local_barrier",
    "ttg.warp_specialize.partitions",
    "tt.grid_dependency_wait",  # the launch before has ended by then
    "tt.grid_dependency_launch_dependents",
)
ENDS = (
    "scf.yield",
    "scf.condition",
    "tt.reduce.return",
    "tt.scan.return",
    "tt.map_elementwise.return",
    "ub.unreachable",
    "llvm.unreachable",
)


class LoweringError(Exception):
    """A kernel that this backend cannot compile; says which operation, and where in the program it stands."""

    def __init__(self, operation: Operation, reason: str) -> None:
        where = f"{operation.location}: " if operation.location else ""
        super().__init__(f"{where}not supported by Heitu's CPU backend: {reason}")


@dataclass(frozen=True)
class Program:
    """A compiled module before the compiler.

    Args:
        text: the C.
        entry: the name of its function.
        scratch_bytes: the memory that a program instance needs for its tiles.
    """

    text: str
    entry: str
    scratch_bytes: int


def lower(module: Module, threads: int = 128) -> Program:
    """The C of a module. Raises LoweringError.

    Args:
        threads: how many a block would have on a GPU, each of which prints.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))  # expressions are as deep as a block is long
    others = [function for function in module.functions.values() if function is not module.kernel]
    lowered = {function.name: _Function(function, module, threads) for function in [*others, module.kernel]}
    depth = {name: each.scope.scratch_bytes for name, each in lowered.items()}
    total = _deepest(module, module.kernel.name, depth, ())
    parts = ['#include "heitu_kernel.h"']
    names = {each.name for function in module.functions.values() for each in function.walk()}
    if "tt.extern_elementwise" in names:
        parts.append('#include "heitu_libdevice.h"')
    if checked.ENTER in names:
        parts.append('#include "heitu_check.h"')
    parts += [f"{signature(function)};" for function in others]
    for function in others:
        parts += [signature(function), *lowered[function.name].body()]
    entry = "heitu_kernel"
    parts += [
        f'__attribute__((visibility("default"))) void {entry}(const uint64_t* arguments, {CONTEXT})',
        *lowered[module.kernel.name].body(),
        "",
    ]
    return Program("\n".join(parts), entry, total)


def _deepest(module: Module, name: str, own: dict[str, int], path: tuple[str, ...]) -> int:
    if name in path:
        return 0  # a recursion, which Triton refuses
    called = {
        operation.text("callee") for operation in module.functions[name].walk() if operation.name == "tt.call"
    }
    return own[name] + max((_deepest(module, each, own, (*path, name)) for each in called), default=0)


class _Function:
    """One function on its way to C."""

    def __init__(self, function: Function, module: Module, threads: int) -> None:
        self.function = function
        self.module = module
        self.scope = Scope(function, self.region, threads)
        self._arguments()
        self.region(function.body)

    def region(self, region: Region) -> None:
        """Lowers the blocks of a region; those behind the first are jumped to."""
        scope = self.scope
        first, *others = region.blocks
        for block in others:
            scope.labels[block.label] = block, scope.fresh("block")
            for argument in block.arguments:
                scope.place_for(argument)
        self.block(first)
        for block in others:
            scope.write(f"{scope.labels[block.label][1]}:;")
            with scope.perhaps(block):
                self.block(block)

    def _arguments(self) -> None:
        scope = self.scope
        if self.function is not self.module.kernel:
            for value, name in argument_values(self.function):
                (scope.tiles if value.type.is_tensor else scope.names)[value] = name
            return
        for number, value in enumerate(self.function.arguments):
            kind = value.type
            # An argument lies in 8 bytes of its own, as it would in memory.
            scope.write(
                f"{memory_type(kind)} m{number}; memcpy(&m{number}, arguments + {number}, sizeof m{number});"
            )
            scope.define(value, from_memory(kind, f"m{number}"))

    def body(self) -> list[str]:
        """The C between the braces, with them."""
        text = [line.replace("SCRATCH_OF_THIS", str(self.scope.scratch_bytes)) for line in self.scope.lines]
        return ["{", *self.scope.declarations, *text, "}"]

    def block(self, block: Block) -> None:
        """Lowers the operations of a block in their order."""
        for operation in block.operations:
            try:
                self.operation(operation)
            except UnsupportedError as reason:
                raise LoweringError(operation, str(reason)) from None
            if not is_put_off(operation):
                self.scope.done.add(operation)
        if block.parent is not None:  # nothing behind a region can ask for what it reads
            inside = set(block.operations)
            self.scope.loads = [value for value in self.scope.loads if value.operation not in inside]

    def operation(self, operation: Operation) -> None:
        """Lowers one operation, or leaves it to those who use its results."""
        scope, name = self.scope, operation.name
        if is_put_off(operation):
            if name == "tt.load":
                scope.loads.append(operation.result)
        elif name in ROOTS:
            ROOTS[name](scope, operation)
        elif name in checked.ROOTS:
            checked.ROOTS[name](scope, operation)
        elif name == "scf.for":
            control.loop(scope, operation, self.block)
        elif name == "scf.if":
            control.condition(scope, operation, self.block)
        elif name == "scf.while":
            control.repetition(scope, operation, self.block)
        elif name in ("cf.br", "cf.cond_br"):
            control.branch(scope, operation)
        elif name == "tt.call":
            scope.settle_loads(set())
            call(scope, operation, self.module.functions)
        elif name == "tt.return":
            self._return(operation)
        elif name not in ENDS and name not in HINTS:
            self._scalar(operation)

    def _return(self, operation: Operation) -> None:
        for number, value in enumerate(operation.operands):
            if value.type.is_tensor:
                tile = self.scope.as_tile(value)
                self.scope.write(f"memcpy(r{number}, {tile}, sizeof(*{tile}) * {value.type.size});")
            else:
                self.scope.write(f"*r{number} = {self.scope.scalar(value)};")
        self.scope.write("return;")

    def _scalar(self, operation: Operation) -> None:
        scope, name = self.scope, operation.name
        if name == "arith.constant":
            return
        if name == "tt.get_program_id":
            text = f"program[{AXES[operation.text('axis')]}]"
        elif name == "tt.get_num_programs":
            text = f"programs[{AXES[operation.text('axis')]}]"
        elif name == "ub.poison":
            text = "0"
        elif name == "tt.load":
            text = self._load(operation)
        elif name == "tt.unsplat":
            self._unsplat(operation)
            return
        elif is_elementwise(operation):
            text = expression(operation, [scope.scalar(each) for each in operation.operands])
        else:
            raise UnsupportedError(name)
        scope.define(operation.result, text)

    def _load(self, operation: Operation) -> str:
        pointer, *rest = operation.operands
        kind: Type = operation.result.type
        text = from_memory(kind, f"*({memory_type(kind)}*){self.scope.scalar(pointer)}")
        if not rest:
            return text
        other = self.scope.scalar(rest[1]) if len(rest) > 1 else "0"
        return f"{self.scope.scalar(rest[0])} ? {text} : {other}"

    def _unsplat(self, operation: Operation) -> None:
        """The one element of a tensor."""
        scope = self.scope
        (source,) = operation.operands
        kind = register_type(operation.result.type)
        name = scope.fresh("v")
        scope.write(f"{kind} {name};")
        nest = Nest(scope, source.type.shape)
        nest.emit(
            lambda nest: nest.statement(
                0, f"{name} = {nest.value(source, (ZERO,) * len(source.type.shape))[0]};"
            )
        )
        scope.names[operation.result] = name
