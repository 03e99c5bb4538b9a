"""What the layer costs an operator: the same call on cpu and on cuda tensors, from C++ and from Python.

    heitu run bench/overhead.py [--python-only]

Nanoseconds a call, medians of interleaved measurements; the C++ loops are compiled once.
"""

from __future__ import annotations

import argparse
import statistics
import timeit
from collections.abc import Callable
from types import ModuleType

import torch
from torch.utils.cpp_extension import load_inline

REPEATS = 10_000

# name: (Python statement, C++ statement)
CALLS = {
    "add, 1 element": ("x + y", "at::add(x, y);"),
    "add_, 1 element": ("x.add_(y)", "x.add_(y);"),
    "mul by a number": ("x * 2.0", "at::mul(x, 2.0);"),
    "view": ("m.view(-1)", "m.view({-1});"),
    "select": ("m[0]", "m.select(0, 0);"),
    "transpose": ("m.t()", "m.t();"),
    "empty": ("torch.empty(1, device=d)", "at::empty({1}, x.options());"),
    "mm 8x8": ("m @ m", "at::mm(m, m);"),
    "softmax 8x8": ("m.softmax(-1)", "at::_softmax(m, -1, false);"),
    "sum": ("m.sum()", "at::sum(m);"),
    "cat (boxed lists)": ("torch.cat([m, m])", "at::cat({m, m});"),
    "floor (boxed)": ("x.floor()", "at::floor(x);"),
}

LOOPS = """
#include <chrono>
template <class Call>
double per_call(int64_t repeats, const Call& call) {
  c10::InferenceMode inference;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) call();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  return took.count() / double(repeats);
}
double nanoseconds(int64_t which, const std::string& device, int64_t repeats) {
  c10::InferenceMode inference;
  auto x = at::ones({1}, at::Device(device));
  auto y = at::ones_like(x);
  auto m = at::ones({8, 8}, x.options());
  switch (which) {
CASES
  }
  return 0;
}
"""


def main() -> None:
    """Prints one row a call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python-only", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compiled = None if arguments.python_only else compile_loops()
    print(f"{'call':20} {'from':7} {'cpu ns':>8} {'cuda ns':>8} {'added ns':>9}")
    for index, (name, (statement, _)) in enumerate(CALLS.items()):
        row("Python", name, lambda device, s=statement: python_call(s, device), arguments.rounds)
        if compiled is not None:
            row(
                "C++",
                name,
                lambda device, i=index: compiled.nanoseconds(i, device, REPEATS),
                arguments.rounds,
            )


def row(language: str, name: str, measure: Callable[[str], float], rounds: int) -> None:
    """Medians over interleaved rounds, and the median of what a round added."""
    rows = [(measure("cpu"), measure("cuda")) for _ in range(rounds)]
    cpu, cuda = (statistics.median(column) for column in zip(*rows, strict=True))
    added = statistics.median(b - a for a, b in rows)
    print(f"{name:20} {language:7} {cpu:8.0f} {cuda:8.0f} {added:9.0f}", flush=True)


def python_call(statement: str, device: str) -> float:
    """Nanoseconds a call, with x of one element, m of 8 x 8, d the device."""
    x, y, m = (torch.ones(size, device=device) for size in (1, 1, (8, 8)))
    timer = timeit.Timer(statement, globals={"x": x, "y": y, "m": m, "d": device, "torch": torch})
    return timer.timeit(REPEATS) / REPEATS * 1e9


def compile_loops() -> ModuleType:
    """An extension with one loop a C++ statement."""
    cases = "\n".join(
        f"    case {index}: return per_call(repeats, [&] {{ {statement} }});"
        for index, (_, statement) in enumerate(CALLS.values())
    )
    source = LOOPS.replace("CASES", cases)
    return load_inline("heitu_bench_overhead", source, functions=["nanoseconds"], extra_cflags=["-O2"])


if __name__ == "__main__":
    main()
