"""What a kernel does to the world around it, as its intermediate representation tells."""

from __future__ import annotations

from heitu.kernels.triton.ir import Function, Groups, Module, Operation, Value

_WRITES = ("tt.store", "tt.atomic_rmw", "tt.atomic_cas", "tt.atomic_store", "tt.call")


def waits_for_others(module: Module) -> bool:
    """Whether program instances wait for each other, so that they have to run at the same time."""
    return any(
        operation.name == "tt.atomic_poll"
        or (
            operation.name == "scf.while"
            and any(inner.name.startswith("tt.atomic") for inner in operation.walk())
        )
        for function in module.functions.values()
        for operation in function.walk()
    )


def asserts(module: Module) -> bool:
    """Whether a launch may raise what a program's assertion says."""
    operations = (each for function in module.functions.values() for each in function.walk())
    return any(each.name == "tt.assert" for each in operations)


def shared_bytes(module: Module, warps: int) -> int:
    """What a GPU takes for reductions at least: a word for each warp. Programs divide by it."""
    operations = (each for function in module.functions.values() for each in function.walk())
    return 4 * warps if any(each.name == "tt.reduce" for each in operations) else 0


def written(kernel: Function) -> list[int]:
    """The numbers of the arguments through which a kernel may write; all pointers where that is not clear.

    Pointers that meet in an operation, a loop or a branch are taken for one.
    """
    groups = Groups()
    pointers = [number for number, value in enumerate(kernel.arguments) if value.type.is_pointer]
    for operation in kernel.walk():
        if any(value.type.is_pointer for _, given in operation.successors for value in given):
            return pointers
        groups.join(pointer for pointer in _values(operation) if pointer.type.is_pointer)
    found: set[int] = set()
    for operation in kernel.walk():
        if not operation.name.startswith(_WRITES):
            continue
        for target in operation.operands:
            if target.type.is_pointer:
                group = groups.of(target)
                origins = {number for number in pointers if groups.of(kernel.arguments[number]) is group}
                found |= origins or set(pointers)
    return sorted(found)


def _values(operation: Operation) -> list[Value]:
    """What an operation takes, makes, and hands to its blocks and out of them."""
    values = [*operation.operands, *operation.results]
    for region in operation.regions:
        for block in region.blocks:
            values += [*block.arguments, *(block.end.operands if block.operations else [])]
    return values
