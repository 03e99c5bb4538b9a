"""The reader of TTIR: what it makes of the forms there are, and where it says that it cannot."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heitu.kernels.triton.ir import Location, Type
from heitu.kernels.triton.reader import ReadError, read

KERNEL = """#loc = loc("program.py":3:1)
module {
  tt.func public @kernel(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32} loc("x"(#loc)), %n: i32) {
    %c0 = arith.constant 0 : i32 loc(#loc)
    %cst = arith.constant dense<0xFF800000> : tensor<4xf32> loc(#loc1)
    %0 = tt.make_range {end = 4 : i32, start = 0 : i32} : tensor<4xi32> loc(#loc1)
    %1 = tt.splat %x : !tt.ptr<f32> -> tensor<4x!tt.ptr<f32>> loc(#loc1)
    %2 = tt.addptr %1, %0 : tensor<4x!tt.ptr<f32>>, tensor<4xi32> loc(#loc1)
    %3 = tt.load %2 : tensor<4x!tt.ptr<f32>> loc(#loc1)
    %4:2 = "tt.reduce"(%3, %0) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %i: i32, %b: f32, %j: i32):
      %8 = arith.cmpf ogt, %a, %b : f32 loc(#loc1)
      tt.reduce.return %a, %i : f32, i32 loc(#loc1)
    }) : (tensor<4xf32>, tensor<4xi32>) -> (f32, i32) loc(#loc1)
    %5 = scf.for %k = %c0 to %n step %4#1 iter_args(%t = %3) -> (tensor<4xf32>)  : i32 {
      %8 = arith.addf %t, %cst : tensor<4xf32> loc(#loc1)
      scf.yield %8 : tensor<4xf32> loc(#loc1)
    } loc(#loc1)
    tt.store %2, %5 : tensor<4x!tt.ptr<f32>> loc(#loc1)
    tt.return loc(#loc1)
  } loc(#loc)
} loc(#loc)
#loc1 = loc("value"(#loc2))
#loc2 = loc(callsite("inner.py":7:9 at #loc))
"""


def test_what_is_read() -> None:
    function = read(KERNEL).kernel
    operations = {operation.name: operation for operation in function.walk()}
    assert [str(value.type) for value in function.arguments] == ["!tt.ptr<f32>", "i32"]
    assert operations["tt.load"].result.type == Type("f32", (4,))
    reduce = operations["tt.reduce"]
    assert [value.type.element for value in reduce.results] == ["f32", "i32"]
    assert len(reduce.regions[0].block.arguments) == 4
    assert operations["arith.cmpf"].text("predicate") == "ogt"
    loop = operations["scf.for"]
    assert loop.operands[2] is reduce.results[1]
    assert [value.name for value in loop.regions[0].block.arguments] == ["k", "t"]
    assert operations["tt.store"].location == Location("inner.py", 7, 9)


@pytest.mark.parametrize(
    ("old", "new", "line", "column"),
    [
        ("tt.splat %x", "tt.splat %missing", 7, 19),
        ("tensor<4xi32> loc", "tensor<4xi32 loc", 6, 72),
        ("arith.constant 0 : i32", "arith.constant 0 ; i32", 4, 28),
        ("  tt.func public @kernel", "  tt.what public @kernel", 3, 3),
    ],
)
def test_an_error_names_its_place(old: str, new: str, line: int, column: int) -> None:
    with pytest.raises(ReadError) as error:
        read(KERNEL.replace(old, new, 1))
    assert (error.value.line, error.value.column) == (line, column), str(error.value)


@given(st.integers(0, len(KERNEL) - 1), st.integers(1, 40))
def test_text_that_was_cut_is_read_or_refused(start: int, length: int) -> None:
    """No cut makes anything but a module or a ReadError."""
    with suppress(ReadError):
        read(KERNEL[:start] + KERNEL[start + length :])


def test_types_are_printed_as_they_are_read() -> None:
    for text in ("f32", "tensor<4x8xbf16>", "!tt.ptr<f8E5M2>", "tensor<2x!tt.ptr<i1>>"):
        module = f"module {{\n  tt.func public @k(%a: {text}) {{\n    tt.return\n  }}\n}}\n"
        assert str(read(module).kernel.arguments[0].type) == text
