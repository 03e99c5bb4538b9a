"""The rules of chips for kernels: dtypes by operator, operators, memory beside a core, and grids."""

from __future__ import annotations

import pytest

from heitu.chips import load
from heitu.kernels.triton.footprint import shared_memory, tiles
from heitu.kernels.triton.ir import Location
from heitu.kernels.triton.reader import read
from heitu.kernels.triton.rules import ChipRules, Judgement, judge, too_many_programs
from heitu.rehearsal.kernels import chip_rules

ELEMENTWISE = """#loc = loc("program.py":3:1)
module {
  tt.func public @scale(%x: !tt.ptr<DTYPE>, %out: !tt.ptr<DTYPE>) {
    %0 = tt.make_range {end = 1024 : i32, start = 0 : i32} : tensor<1024xi32> loc(#loc1)
    %1 = tt.splat %x : !tt.ptr<DTYPE> -> tensor<1024x!tt.ptr<DTYPE>> loc(#loc1)
    %2 = tt.addptr %1, %0 : tensor<1024x!tt.ptr<DTYPE>>, tensor<1024xi32> loc(#loc1)
    %3 = tt.load %2 : tensor<1024x!tt.ptr<DTYPE>> loc(#loc1)
    %4 = OPERATION loc(#loc2)
    %5 = tt.splat %out : !tt.ptr<DTYPE> -> tensor<1024x!tt.ptr<DTYPE>> loc(#loc1)
    %6 = tt.addptr %5, %0 : tensor<1024x!tt.ptr<DTYPE>>, tensor<1024xi32> loc(#loc1)
    tt.store %6, %4 : tensor<1024x!tt.ptr<DTYPE>> loc(#loc3)
    tt.return loc(#loc)
  } loc(#loc)
} loc(#loc)
#loc1 = loc("program.py":5:9)
#loc2 = loc("program.py":6:9)
#loc3 = loc("program.py":7:5)
"""


def elementwise(dtype: str, operation: str) -> str:
    return ELEMENTWISE.replace("OPERATION", operation).replace("DTYPE", dtype)


ADD_F32 = elementwise("f32", "arith.addf %3, %3 : tensor<1024xf32>")


def judged(text: str, rules: ChipRules, num_warps: int = 4, num_stages: int = 3) -> Judgement:
    return judge(read(text), rules, num_warps, num_stages)


FLOAT32 = frozenset({"float32"})
RULES = ChipRules(
    "Chip",
    source="its documents",
    taken={"load": frozenset({"float32", "int32"}), "store": FLOAT32, "add": FLOAT32},
    refused={**dict.fromkeys(("load", "store"), frozenset({"float64"})), "sub": FLOAT32},
    warp_size=0,
    on_chip_memory=8192,
)  # fmt: skip


def test_native_where_all_is_known_to_be_taken() -> None:
    assert judged(ADD_F32, RULES) == Judgement("native", 4096, 8192)


def test_a_dtype_that_is_not_taken() -> None:
    said = judged(elementwise("f64", "arith.addf %3, %3 : tensor<1024xf64>"), RULES)
    assert said.verdict == "refused"
    load, store = said.findings
    assert (load.rule, load.file, load.line, load.column) == ("dtype", "program.py", 5, 9)
    assert "tl.load does not take fp64 on Chip; it takes int32, fp32 (its documents)" in load.what
    assert load.change == "Pass a tensor of torch.float32."
    assert store.line == 7
    assert said.unknown == ("add fp64",)  # of which the table says nothing


def test_one_that_nothing_is_said_of_is_unknown() -> None:
    said = judged(elementwise("f32", "math.exp %3 : tensor<1024xf32>"), RULES)
    assert (said.verdict, said.unknown, said.findings) == ("unknown", ("exp fp32",), ())


def test_only_what_no_operator_it_may_come_from_takes_is_refused() -> None:
    # A difference may be a negation too, of which nothing is said.
    said = judged(elementwise("f32", "arith.subf %3, %3 : tensor<1024xf32>"), RULES)
    assert (said.verdict, said.unknown) == ("unknown", ("sub fp32",))


def test_what_one_operator_it_may_come_from_takes_is_native() -> None:
    rules = ChipRules("Chip", taken={**RULES.taken, "neg": FLOAT32}, refused=RULES.refused)
    assert judged(elementwise("f32", "arith.subf %3, %3 : tensor<1024xf32>"), rules).verdict == "native"


def test_an_operator_that_there_is_not() -> None:
    rules = ChipRules("Chip", taken=RULES.taken, refused={"erf": FLOAT32})
    said = judged(elementwise("f32", "math.erf %3 : tensor<1024xf32>"), rules)
    assert said.findings[0].rule == "operator"
    assert said.findings[0].what == "tl.erf is not in the Triton of Chip."


def test_a_chip_that_runs_what_triton_compiles() -> None:
    text = elementwise("f64", "math.erf %3 : tensor<1024xf64>")
    assert judged(text, ChipRules("Chip", same=True)).verdict == "native"
    assert judged(text, ChipRules("Chip")) == Judgement("unknown")


def test_too_many_bytes() -> None:
    rules = ChipRules("Chip", same=True, warp_size=0, on_chip_memory=4095)
    said = judged(ADD_F32, rules)
    assert (said.verdict, said.required, said.limit) == ("refused", 4096, 4095)
    assert "4096 of 4095 bytes of on-chip memory" in said.findings[0].what
    assert judged(ADD_F32, ChipRules("Chip", same=True, warp_size=0)).verdict == "native"
    assert judged(ADD_F32, ChipRules("Chip", same=True, on_chip_memory=1)).required is None


def test_judgements_as_json() -> None:
    said = judged(elementwise("f64", "arith.addf %3, %3 : tensor<1024xf64>"), RULES)
    assert Judgement.from_plain(said.to_plain()) == said


# Memory beside a core, where tiles lie there.

TILES = """module {
  tt.func public @tiles(%x: !tt.ptr<f32>, %n: i32) {
    %c0 = arith.constant 0 : i32
    %zero = arith.constant dense<0.0> : tensor<256xf32>
    %at = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %limit = tt.splat %n : i32 -> tensor<256xi32>
    %mask = arith.cmpi slt, %at, %limit : tensor<256xi32>
    %p = tt.splat %x : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %q = tt.addptr %p, %at : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    BODY
    tt.return
  }
}
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # One at a time: the sum takes the place of what it is made of; addresses and masks do not count.
        (
            """%a = tt.load %q, %mask : tensor<256x!tt.ptr<f32>>
            %b = arith.addf %a, %a : tensor<256xf32>
            tt.store %q, %b, %mask : tensor<256x!tt.ptr<f32>>""",
            1024,
        ),
        # The first is needed again.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %b = math.exp %a : tensor<256xf32>
            %c = arith.addf %a, %b : tensor<256xf32>
            tt.store %q, %c : tensor<256x!tt.ptr<f32>>""",
            2048,
        ),
        # Another size has no place to take.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %b = arith.truncf %a : tensor<256xf32> to tensor<256xf16>
            %c = arith.extf %b : tensor<256xf16> to tensor<256xf32>
            tt.store %q, %c : tensor<256x!tt.ptr<f32>>""",
            1536,
        ),
        # A mask that decides on values is one.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %b = arith.select %mask, %a, %zero : tensor<256xi1>, tensor<256xf32>
            tt.store %q, %b : tensor<256x!tt.ptr<f32>>""",
            1024 + 32,
        ),
        # What a loop carries is there for all of it, and what comes before and is read in it as well.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %s = scf.for %k = %c0 to %n step %n iter_args(%t = %zero) -> (tensor<256xf32>)  : i32 {
              %b = tt.load %q : tensor<256x!tt.ptr<f32>>
              %c = arith.mulf %b, %a : tensor<256xf32>
              %d = arith.addf %t, %c : tensor<256xf32>
              scf.yield %d : tensor<256xf32>
            }
            tt.store %q, %s : tensor<256x!tt.ptr<f32>>""",
            3072,
        ),
        # What comes before is there to the end of a loop that reads it; what a loop carries until it is read.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %s = scf.for %k = %c0 to %n step %n iter_args(%t = %zero) -> (tensor<256xf32>)  : i32 {
              %b = arith.addf %t, %a : tensor<256xf32>
              %c = tt.load %q : tensor<256x!tt.ptr<f32>>
              %d = tt.load %q : tensor<256x!tt.ptr<f32>>
              %e = arith.addf %c, %d : tensor<256xf32>
              %f = arith.addf %b, %e : tensor<256xf32>
              scf.yield %f : tensor<256xf32>
            }
            tt.store %q, %s : tensor<256x!tt.ptr<f32>>""",
            4096,
        ),
        # Of the sides of a branch one is there.
        (
            """%a = tt.load %q : tensor<256x!tt.ptr<f32>>
            %c = arith.cmpi slt, %n, %c0 : i32
            %s = scf.if %c -> (tensor<256xf32>) {
              %b = math.exp %a : tensor<256xf32>
              scf.yield %b : tensor<256xf32>
            } else {
              %b = math.log %a : tensor<256xf32>
              scf.yield %b : tensor<256xf32>
            }
            tt.store %q, %s : tensor<256x!tt.ptr<f32>>""",
            2048,
        ),
        # Nothing is stored of it.
        ("%a = tt.load %q : tensor<256x!tt.ptr<f32>>", 0),
    ],
)  # fmt: skip
def test_tiles_at_the_same_time(body: str, expected: int) -> None:
    assert tiles(read(TILES.replace("BODY", body)).kernel).bytes == expected


# Memory beside a core, where tiles lie in registers: what the wheel of Triton 3.9.0 takes for the same.

PRODUCT = """module {
  tt.func public @product(%x: !tt.ptr<f16>, %n: i32) {
    %c0 = arith.constant 0 : i32
    %zero = arith.constant dense<0.0> : tensor<ROWSx64xf32>
    %p = tt.splat %x : !tt.ptr<f16> -> tensor<ROWSx64x!tt.ptr<f16>>
    %q = tt.splat %x : !tt.ptr<f16> -> tensor<64x64x!tt.ptr<f16>>
    %s = scf.for %k = %c0 to %n step %n iter_args(%t = %zero) -> (tensor<ROWSx64xf32>)  : i32 {
      %a = tt.load %p : tensor<ROWSx64x!tt.ptr<f16>>
      %b = tt.load %q : tensor<64x64x!tt.ptr<f16>>
      %d = tt.dot %a, %b, %t : tensor<ROWSx64xf16> * tensor<64x64xf16> -> tensor<ROWSx64xf32>
      scf.yield %d : tensor<ROWSx64xf32>
    }
    tt.return
  }
}
"""


@pytest.mark.parametrize(
    ("rows", "num_stages", "kept_back", "expected"),
    [
        (16, 2, 1, 10240),
        (16, 4, 1, 30720),
        (64, 4, 1, 49152),
        (16, 4, 0, 30720),  # too few rows for products beside the warps
        (64, 4, 0, 65536),
        (64, 1, 0, 16384),
        (64, 4, None, 16384),
    ],
)
def test_operands_of_products(rows: int, num_stages: int, kept_back: int | None, expected: int) -> None:
    kernel = read(PRODUCT.replace("ROWS", str(rows))).kernel
    assert shared_memory(kernel, 4, num_stages, kept_back).bytes == expected


def test_a_load_that_waits_for_another_is_counted_once() -> None:
    text = PRODUCT.replace("ROWS", "64").replace(
        "%b = tt.load %q ",
        """%i = tt.bitcast %q : tensor<64x64x!tt.ptr<f16>> -> tensor<64x64x!tt.ptr<i16>>
      %j = tt.load %i : tensor<64x64x!tt.ptr<i16>>
      %r = tt.addptr %q, %j : tensor<64x64x!tt.ptr<f16>>, tensor<64x64xi16>
      %b = tt.load %r """,
    )
    assert shared_memory(read(text).kernel, 4, 4, 1).bytes == 3 * 8192 + 8192


# Launches.


def test_grids() -> None:
    rules = ChipRules("Chip", grid_programs=65535, grid_extents=(2**31 - 1, 65535, 65535))
    place = Location("program.py", 3, 1)
    said = too_many_programs(rules, (65536, 2, 1), place)
    assert said.what == "A grid of 65536 × 2 × 1 has 131072 programs; Chip takes 65535."
    assert (said.rule, said.file, said.line) == ("grid", "program.py", 3)
    said = too_many_programs(rules, (1, 65536, 1), place)
    assert said.what == "A grid of 1 × 65536 × 1 has 65536 programs in y; Chip takes 65535."
    assert said.change == "Put what is more than 65535 in x."


# The catalogue.


def test_what_the_catalogue_says_of_ascend() -> None:
    rules = chip_rules(load("ascend-910b"))
    assert (rules.same, rules.warp_size, rules.on_chip_memory, rules.grid_programs) == (
        False,
        0,
        192 * 1024,
        65535,
    )
    said = judged(elementwise("f64", "arith.addf %3, %3 : tensor<1024xf64>"), rules)
    assert [finding.line for finding in said.findings] == [5, 7]
    assert judged(ADD_F32, rules).verdict == "native"


def test_where_the_environment_lifts_the_limit_of_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ALL_BLOCKS_PARALLEL", "1")
    assert chip_rules(load("ascend-910b")).grid_programs is None


def test_what_the_catalogue_says_of_nvidia() -> None:
    rules = chip_rules(load("h200"))
    assert rules.same
    assert rules.kept_back == 0
    assert rules.grid_extents == (2**31 - 1, 65535, 65535)
    assert rules.smallest_dot[16] == (1, 1, 16)
    assert "fp8e4nv" in rules.float8
    older = chip_rules(load("a100"))
    assert older.kept_back == 1
    assert "fp8e4nv" not in older.float8


def test_rules_are_known_by_what_they_say() -> None:
    assert chip_rules(load("ascend-910b")).identity == chip_rules(load("ascend-910b3")).identity
    assert chip_rules(load("ascend-910b")).identity != chip_rules(load("h200")).identity
