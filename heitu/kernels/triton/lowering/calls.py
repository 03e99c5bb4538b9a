"""Calls of functions that are not inlined, and regions that are functions of scalars."""

from __future__ import annotations

from heitu.kernels.triton.ir import Function, Operation, Type, Value
from heitu.kernels.triton.lowering.representation import register_type
from heitu.kernels.triton.lowering.scope import Scope

# What every function of a program instance is given besides its own arguments.
CONTEXT = "const int32_t* program, const int32_t* programs, char* scratch"


def parameter(kind: Type, name: str) -> str:
    """A parameter: a scalar, or the address of a tile."""
    return f"{register_type(kind)}{'*' if kind.is_tensor else ''} {name}"


def function_name(function: Function) -> str:
    """In C."""
    return "function_" + "".join(letter if letter.isalnum() else "_" for letter in function.name)


def signature(function: Function) -> str:
    """Results are written where pointers behind the arguments point to."""
    arguments = [parameter(value.type, f"a{index}") for index, value in enumerate(function.arguments)]
    results = [f"{register_type(kind)}* r{index}" for index, kind in enumerate(function.results)]
    return f"static void {function_name(function)}({', '.join([CONTEXT, *arguments, *results])})"


def call(scope: Scope, operation: Operation, functions: dict[str, Function]) -> None:
    """`tt.call`: the callee uses the memory behind what the caller uses."""
    callee = functions[operation.text("callee")]
    arguments = [
        scope.as_tile(each) if each.type.is_tensor else scope.scalar(each) for each in operation.operands
    ]
    places = [scope.place_for(result) for result in operation.results]
    results = [
        place if result.type.is_tensor else f"&{place}"
        for result, place in zip(operation.results, places, strict=True)
    ]
    context = ["program", "programs", "scratch + SCRATCH_OF_THIS"]
    scope.write(f"{function_name(callee)}({', '.join([*context, *arguments, *results])});")


def argument_values(function: Function) -> list[tuple[Value, str]]:
    """The arguments with their names in C."""
    return [(value, f"a{index}") for index, value in enumerate(function.arguments)]
