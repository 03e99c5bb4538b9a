"""Through which arguments a kernel may write."""

from __future__ import annotations

import pytest

from heitu.kernels.triton.effects import waits_for_others, written
from heitu.kernels.triton.reader import read

HEAD = """
module {
  tt.func public @kernel(%a: !tt.ptr<f32>, %b: !tt.ptr<f32>, %n: i32, %c: !tt.ptr<i32>) {
"""
TAIL = "    tt.return\n  }\n}\n"
STORE = """
    %zero = arith.constant 0.000000e+00 : f32
    %at = tt.addptr %b, %n : !tt.ptr<f32>, i32
    tt.store %at, %zero : !tt.ptr<f32>
"""
LOOP = """
    %x = arith.constant 1 : i32
    %e:2 = scf.for %i = %x to %n step %x iter_args(%p = %a, %q = %c) -> (!tt.ptr<f32>, !tt.ptr<i32>) : i32 {
      tt.store %q, %x : !tt.ptr<i32>
      %next = tt.addptr %q, %x : !tt.ptr<i32>, i32
      scf.yield %p, %next : !tt.ptr<f32>, !tt.ptr<i32>
    }
"""
UNKNOWN = """
    %zero = arith.constant 0.000000e+00 : f32
    %word = arith.extsi %n : i32 to i64
    %to = tt.int_to_ptr %word : i64 -> !tt.ptr<f32>
    tt.store %to, %zero : !tt.ptr<f32>
"""
ATOMIC = """
    %yes = arith.constant true
    %old = tt.atomic_rmw add, acq_rel, gpu, %c, %n, %yes : (!tt.ptr<i32>, i32, i1) -> i32
"""


@pytest.mark.parametrize(
    ("body", "numbers"),
    [("", []), (STORE, [1]), (ATOMIC, [3]), (LOOP, [0, 3]), (UNKNOWN, [0, 1, 3])],
    ids=["nothing", "store", "atomic", "loop", "unknown"],
)
def test_arguments_that_are_written(body: str, numbers: list[int]) -> None:
    assert written(read(HEAD + body + TAIL).kernel) == numbers


def test_atomics_alone_wait_for_nobody() -> None:
    assert not waits_for_others(read(HEAD + ATOMIC + TAIL))
