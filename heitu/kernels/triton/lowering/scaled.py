"""Products of tiles in the microscaling formats: elements of 4 or 8 bits, of which a few share a scale."""

from __future__ import annotations

from heitu.kernels.triton.ir import Operation, Value
from heitu.kernels.triton.lowering.representation import UnsupportedError, register_type, rounded
from heitu.kernels.triton.lowering.scope import Scope

# The formats, by Triton's names, in which elements come as whole numbers: the function that reads them.
OF_BITS = {"e2m1": "ht_e2m1_to_f32", "e4m3": "ht_e4m3fn_to_f32", "e5m2": "ht_e5m2_to_f32"}


def dot_scaled(scope: Scope, operation: Operation) -> None:
    """`tt.dot_scaled`: both sides are made float32 tiles, the scales multiplied in."""
    roles = operation.attributes["roles"]
    assert isinstance(roles, list)
    given = {str(role): value for role, value in zip(roles, operation.operands, strict=True)}
    result = operation.result
    *batches, m, n = result.type.shape
    left_packed = bool(operation.attributes.get("lhs_k_pack", True))
    k = given["a"].type.shape[-1] * (2 if operation.text("lhs") == "e2m1" and left_packed else 1)
    count = batches[0] if batches else 1
    left = _decoded(
        scope, given["a"], given.get("a_scale"), operation.text("lhs"), (count, m, k), left_packed, 0
    )
    right_packed = bool(operation.attributes.get("rhs_k_pack", True))
    right = _decoded(
        scope, given["b"], given.get("b_scale"), operation.text("rhs"), (count, k, n), right_packed, 1
    )
    source = scope.as_tile(given["c"])
    target = scope.new_tile(result)
    scope.write(
        f"memcpy({target}, {source}, sizeof(*{target}) * {result.type.size});",
        f"for (int64_t batch = 0; batch < {count}; ++batch)",
        f"heitu_dot_f32({left} + batch * {m * k}, {right} + batch * {k * n}, {target} + batch * {m * n}, "
        f"{m}, {n}, {k});",
    )
    kind = result.type.scalar
    if rounded(kind, "x") != "x":
        scope.write(
            f"for (int64_t i = 0; i < {result.type.size}; ++i) {target}[i] = {rounded(kind, f'{target}[i]')};"
        )


def _decoded(
    scope: Scope,
    value: Value,
    scale: Value | None,
    form: str,
    shape: tuple[int, int, int],
    packed_by_k: bool,
    k_axis_is_row: int,
) -> str:
    """A tile of float32, (batch, rows, columns); k runs along columns on the left, rows on the right."""
    batch, rows, columns = shape
    tile = scope.as_tile(value)
    target = scope.allocate("float", batch * rows * columns)
    kind = value.type.scalar
    k, other = ("r", "c") if k_axis_is_row else ("c", "r")
    if form == "e2m1":
        along = k if packed_by_k else other
        row, column = ("r / 2" if along == "r" else "r"), ("c / 2" if along == "c" else "c")
        width = columns // 2 if along == "c" else columns
        height = rows // 2 if along == "r" else rows
        element = (
            f"ht_e2m1_to_f32(({tile}[(b * {height} + {row}) * {width} + {column}] >> ({along} % 2 * 4)) & 15)"
        )
    elif kind.is_integer and form in OF_BITS:
        element = f"{OF_BITS[form]}({tile}[(b * {rows} + r) * {columns} + c])"
    elif kind.is_float:
        element = f"{tile}[(b * {rows} + r) * {columns} + c]"
    else:
        raise UnsupportedError(f"tt.dot_scaled of {kind} as {form}")
    if scale is not None:
        scales = scope.as_tile(scale)
        length = rows if k_axis_is_row else columns
        groups = scale.type.shape[-1]
        others = columns if k_axis_is_row else rows
        place = f"{scales}[(b * {others} + {other}) * {groups} + {k} / {length // groups}]"
        if scale.type.scalar.is_integer:
            place = f"ht_e8m0_to_f32((uint8_t){place})"
        element = f"{element} * {place}"
    scope.write(
        f"for (int64_t b = 0; b < {batch}; ++b) for (int64_t r = 0; r < {rows}; ++r)",
        f"for (int64_t c = 0; c < {columns}; ++c) {target}[(b * {rows} + r) * {columns} + c] = {element};",
    )
    assert register_type(kind)
    return target
