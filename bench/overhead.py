"""What the layer costs an operator: the same call on cpu and on cuda tensors, from C++ and from Python.

    heitu run bench/overhead.py [--python-only]

Nanoseconds a call, medians of interleaved measurements (torch.utils.benchmark).
"""

from __future__ import annotations

import argparse
import statistics
import timeit

import torch
from torch.utils.benchmark import Language, Timer

# name: (Python statement, C++ statement)
CALLS = {
    "add, 1 element": ("x + x", "at::add(x, x);"),
    "add_, 1 element": ("x.add_(x)", "x.add_(x);"),
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


def main() -> None:
    """Prints one row a call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python-only", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    languages = ["Python"] if arguments.python_only else ["Python", "C++"]
    print(f"{'call':20} {'from':7} {'cpu ns':>8} {'cuda ns':>8} {'added ns':>9}")
    for name, statements in CALLS.items():
        for language, statement in zip(languages, statements, strict=False):
            cpu, cuda = (timer(statement, language, device) for device in ("cpu", "cuda"))
            measured = [(fastest(cpu), fastest(cuda)) for _ in range(arguments.rounds)]
            a, b = (statistics.median(column) for column in zip(*measured, strict=True))
            print(f"{name:20} {language:7} {a:8.0f} {b:8.0f} {b - a:9.0f}", flush=True)


def timer(statement: str, language: str, device: str) -> Timer:
    """Of one statement with x of one element, m of 8 x 8, d the device."""
    if language == "Python":
        names = {
            "x": torch.ones(1, device=device),
            "m": torch.ones(8, 8, device=device),
            "d": device,
            "torch": torch,
        }
        return Timer(statement, globals=names)
    setup = f'auto x = at::ones({{1}}, at::Device("{device}")); auto m = at::ones({{8, 8}}, x.options());'
    # Named, because with an accelerator present Timer refuses C++ unless told which clock.
    return Timer(statement, setup, timer=timeit.default_timer, language=Language.CPP)


def fastest(timer: Timer) -> float:
    """Nanoseconds a call; the least of short runs, which other work disturbs least."""
    return min(timer.timeit(20_000).mean for _ in range(5)) * 1e9


if __name__ == "__main__":
    main()
