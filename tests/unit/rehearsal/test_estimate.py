"""The estimate: what it is held against, where it has no number, and what it adds up."""

from __future__ import annotations

import pytest

from heitu import chips
from heitu.rehearsal.estimate import (
    BANDWIDTH_PARTS,
    HOST_LINK,
    HOST_PARTS,
    HOST_WAIT,
    LAUNCH,
    LINK_PARTS,
    RATE_PARTS,
    REPLAYED_LAUNCH,
    Estimate,
    Pace,
    Span,
    estimate,
    peak,
)
from heitu.rehearsal.record import Counts, Operator, TensorArgument
from heitu.rehearsal.work import Kind


def line(
    name: str,
    *shapes: tuple[int, ...] | None,
    dtype: str = "bfloat16",
    verdict: str = "native",
    **counts: int,
) -> tuple[Operator, Counts]:
    args = tuple(TensorArgument(dtype, shape) for shape in shapes)
    operator = Operator(name, "forward", verdict, "listed", None, None, args, None, None)
    return operator, Counts(**({"calls": 1} | counts))


def said(chip: str, *lines: tuple[Operator, Counts], steps: int = 1, dry: bool = False) -> Estimate:
    return estimate(lines, chips.load(chip), Pace(steps, max(0, steps - 1), 1), dry).estimate


N = 8192
LARGE = line("aten::mm", (N, N), (N, N), bytes_in=4 * N * N, bytes_out=2 * N * N)


def test_a_large_product_is_bound_by_arithmetic() -> None:
    one = said("h200", LARGE)
    assert one.seconds is not None
    assert one.seconds.best == pytest.approx(2 * N**3 / (989e12 * RATE_PARTS[Kind.PRODUCTS].best))
    assert one.seconds.worst == pytest.approx(2 * N**3 / (989e12 * RATE_PARTS[Kind.PRODUCTS].worst))
    assert one.parts[0].bound == "compute"
    assert one.per == "step"


def test_addition_is_bound_by_memory() -> None:
    one = said("h200", line("aten::add.Tensor", (1 << 28,), bytes_in=4 << 28, bytes_out=2 << 28))
    assert one.seconds is not None
    assert one.seconds.likely == pytest.approx((6 << 28) / (4800e9 * BANDWIDTH_PARTS.likely))
    assert one.parts[0].bound == "memory"


def test_a_small_operator_is_bound_by_its_launch_and_a_graph_shortens_it() -> None:
    alone = said("h200", line("aten::add.Tensor", (4,), calls=10, bytes_in=160, bytes_out=80))
    graph = said("h200", line("aten::add.Tensor", (4,), calls=1, replays=9, bytes_in=16, bytes_out=8))
    assert alone.seconds == pytest.approx(LAUNCH.times(10))
    assert graph.seconds is not None
    assert graph.seconds.likely == pytest.approx(LAUNCH.likely + 9 * REPLAYED_LAUNCH.likely)
    assert alone.parts[0].calls == graph.parts[0].calls == 10


def test_how_much_of_it_is_launches_is_said() -> None:
    small = line("aten::add.Tensor", (4,), bytes_in=16, bytes_out=8)
    view = line("aten::view", (4,), calls=1000, bytes_in=16, bytes_out=16)
    assert said("h200", LARGE).launches == 0
    assert said("h200", small, view).launches == pytest.approx(1)
    product = said("h200", LARGE).seconds
    assert product is not None
    times = round(product.likely / LAUNCH.likely)
    many = line("aten::add.Tensor", (4,), calls=times, bytes_in=16 * times, bytes_out=8 * times)
    assert said("h200", LARGE, many).launches == pytest.approx(0.5, abs=0.01)
    assert said("h200").launches == 0


def test_a_reduction_for_all_crosses_a_link_twice() -> None:
    gathered = said("h200", line("c10d::_allgather_base_", (1 << 28,), bytes_in=10**9, bytes_out=10**9))
    reduced = said("h200", line("c10d::allreduce_", (1 << 28,), bytes_in=10**9, bytes_out=10**9))
    assert gathered.seconds == pytest.approx(Span(*(10**9 / (900e9 * part) for part in LINK_PARTS)))
    assert reduced.seconds == pytest.approx(Span(*(2 * 10**9 / (900e9 * part) for part in LINK_PARTS)))


def test_steps_divide_the_work() -> None:
    one, ten = said("h200", LARGE), said("h200", LARGE, steps=10)
    assert one.seconds is not None
    assert ten.seconds is not None
    assert one.seconds.likely == pytest.approx(10 * ten.seconds.likely)
    assert said("h200", LARGE, steps=0).per == "run"


def test_work_outside_of_the_steps_is_left_out_where_that_is_known() -> None:
    inside = line("aten::add.Tensor", (4,), calls=12, between=9, bytes_in=192, bytes_out=96)
    outside = line("aten::mul.Tensor", (4,), calls=1000, bytes_in=16000, bytes_out=8000)
    one = said("h200", inside, outside, steps=10)
    assert one.between
    assert one.seconds == pytest.approx(LAUNCH)
    assert one.parts[0].calls == 1
    costs = estimate([inside, outside], chips.load("h200"), Pace(10, 9, 1))
    assert [span and span.likely for span in costs.seconds] == pytest.approx(
        [12 * LAUNCH.likely, 1000 * LAUNCH.likely]
    )


def test_a_rate_that_nobody_states_gives_no_number() -> None:
    one = said("mlu590", LARGE, line("aten::add.Tensor", (1 << 28,), bytes_in=4 << 28, bytes_out=2 << 28))
    assert one.seconds is None
    assert one.missing == ("the peak rate of bfloat16 is unknown",)
    assert one.known.likely == pytest.approx((6 << 28) / (2000e9 * BANDWIDTH_PARTS.likely))
    product = next(part for part in one.parts if part.kind == Kind.PRODUCTS.value)
    assert (product.seconds, product.rate, product.flops) == (None, None, 2 * N**3)


def test_a_chip_without_bandwidth_gives_no_number() -> None:
    assert said("s60", LARGE).missing == ("the chip's memory bandwidth is unknown",)


def test_a_fallback_takes_copies_and_the_time_measured_here() -> None:
    times = {"ns": 13_000_000, "max_ns": 8_000_000}  # the first call took longer than one does
    copied = {"bytes_in": 10**8, "bytes_out": 10**8}
    fallback = line("aten::isin", (10,), verdict="fallback", calls=2, **times, **copied)
    one = said("ascend-910b3", fallback)
    assert one.seconds is not None
    likely = 2 * (10**8 / HOST_LINK.likely + HOST_WAIT.likely + 5e-3 * HOST_PARTS.likely)
    assert one.seconds.likely == pytest.approx(likely)
    assert any(given.kind == "assumption" and "host" in given.name for given in one.inputs)
    dry = said("ascend-910b3", fallback, dry=True)
    assert dry.seconds is not None
    assert dry.seconds.likely == pytest.approx(likely - 10e-3)
    assert not dry.host_measured


def test_what_is_refused_takes_no_time() -> None:
    assert (
        said("h200", LARGE, line("aten::mm", (N, N), (N, N), verdict="refused")).seconds
        == said("h200", LARGE).seconds
    )


def test_calls_of_unknown_shapes_are_counted_by_their_bytes() -> None:
    known = line("aten::mm", (64, 64), (64, 64), bytes_in=16384, bytes_out=8192)
    unknown = line("aten::mm", None, None, bytes_in=32768, bytes_out=16384)
    one = said("h200", known, unknown)
    assert one.parts[0].flops == pytest.approx(3 * 2 * 64**3)
    assert "shapes" in said("h200", unknown).missing[0]


def test_each_input_is_a_fact_or_an_assumption() -> None:
    for given in said("h200", LARGE).inputs:
        assert given.kind == "assumption" or (given.source and given.date), given


@pytest.mark.parametrize(
    ("chip", "kind", "dtype", "name"),
    [
        ("a100", Kind.PRODUCTS, "float32", "float32"),
        ("a100", Kind.CONVOLUTION, "float32", "tfloat32"),
        ("ascend-910b3", Kind.CONVOLUTION, "float32", "float32"),
        ("h200", Kind.PRODUCTS, "float8_e4m3fn", "float8"),
        ("h200", Kind.PRODUCTS, "complex64", "float32"),
        ("h200", Kind.PRODUCTS, "int8", "int8"),
        ("h200", Kind.PRODUCTS, "int64", None),
        ("ascend-910b3", Kind.PRODUCTS, "float64", None),
    ],
)
def test_which_rate(chip: str, kind: Kind, dtype: str, name: str | None) -> None:
    found = peak(chips.load(chip), kind, dtype)
    assert (found and found[0]) == name


def test_narrowed_arithmetic_is_held_against_the_smaller_dtype() -> None:
    chip = chips.load("ascend-910b3")
    rule = next(i for i, rule in enumerate(chip.dtypes) if rule.to == "float32")
    args = (TensorArgument("float64", (N, N)),) * 2
    operator = Operator("aten::mm", "forward", "native", "listed", rule, "narrowed", args, None, None)
    counts = Counts(calls=1, bytes_in=1, bytes_out=1)
    one = estimate([(operator, counts)], chip, Pace(1, 0, 1)).estimate
    assert one.seconds is not None
    assert one.parts[0].dtype == "float32"
