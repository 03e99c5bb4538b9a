"""How tuners find out which setting of a kernel is fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# Milliseconds from which a call is timed here: Triton's own way calls it eight times at least.
LONG = 25.0


def do_bench(
    fn: Callable[[], Any],
    warmup: float = 25,
    rep: float = 100,
    grad_to_none: Iterable[Any] | None = None,
    quantiles: Sequence[float] | None = None,
    return_mode: str = "mean",
) -> Any:
    """`triton.testing.do_bench`, in which calls that take long are not repeated beyond `rep`.

    What a GPU does in microseconds may take seconds here, and a tuner tries dozens of settings.

    Args:
        fn: what is timed.
        warmup: milliseconds of calls before those that count.
        rep: milliseconds of calls that count.
        grad_to_none: tensors whose gradients are dropped before each call.
        quantiles: which of the times to return, 0.5 being the median.
        return_mode: "min", "max", "mean", "median" or "all", where there are no quantiles.

    Returns:
        Milliseconds: one number, or a list for quantiles and for "all".
    """
    from triton import testing

    kept = list(grad_to_none or ())

    def timed() -> float:
        for tensor in kept:
            tensor.grad = None
        start = time.perf_counter()
        fn()
        return (time.perf_counter() - start) * 1000

    fn()  # it may have to be compiled
    first = timed()
    if first < LONG:
        return testing.do_bench(fn, warmup, rep, grad_to_none, quantiles, return_mode)
    times = [first, *(timed() for _ in range(int(rep / first) - 1))]
    return testing._summarize_statistics(times, quantiles, return_mode)
