"""Prints what seeded random operators draw, to hold the emulated device against a GPU bit for bit.

    python -m heitu.device.random_table > gpu.tsv                 with a CUDA build of torch, on a GPU
    heitu run -m heitu.device.random_table > emulated.tsv         on the emulated device
    python -m heitu.device.random_table --compare gpu.tsv emulated.tsv

One line a draw: operator, dtype, elements, seed, SHA-256 of the bytes, first four values, the generator's
offset afterwards. The first line names the device and its launch geometry, which decides what is drawn
above one grid.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SEEDS = (0, 42, 2**40 + 7)
SIZES = (1, 4, 1000, 65536, 270336, 270337, 1_500_000, 3_000_001)
HEADER = ("operator", "dtype", "elements", "seed", "sha256", "first four", "offset")


def operators() -> dict[str, tuple[tuple[torch.dtype, ...], Callable[[torch.Tensor], torch.Tensor]]]:
    """Name -> the dtypes it is drawn in, and the draw, given an empty tensor on the device."""
    import torch

    floats = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    integers = (torch.int64, torch.int32, torch.uint8)

    def dropout(x: torch.Tensor) -> torch.Tensor:
        return torch.native_dropout(torch.ones_like(x), 0.3, True)[1]

    def unaligned_dropout(x: torch.Tensor) -> torch.Tensor:
        ones = torch.ones(x.numel() + 1, dtype=x.dtype, device=x.device)[1:]
        return torch.native_dropout(ones, 0.3, True)[1]

    def rates(x: torch.Tensor, most: float) -> torch.Tensor:
        return torch.linspace(0.01, most, x.numel(), device=x.device, dtype=x.dtype)

    return {
        "uniform_": (floats, lambda x: x.uniform_()),
        "uniform_(-0.3, 1.7)": (floats, lambda x: x.uniform_(-0.3, 1.7)),
        "normal_": (floats, lambda x: x.normal_()),
        "normal_(5, 2)": (floats, lambda x: x.normal_(5, 2)),
        "random_": (integers + floats, lambda x: x.random_()),
        "random_(0, 100)": (integers + floats, lambda x: x.random_(0, 100)),
        "random_(-2^40, 2^40)": ((torch.int64,), lambda x: x.random_(-(2**40), 2**40)),
        "bernoulli_(0.3)": ((torch.float32, torch.float64, torch.bool), lambda x: x.bernoulli_(0.3)),
        "bernoulli_(tensor)": ((torch.float32, torch.float64), lambda x: x.bernoulli_(rates(x, 1.0))),
        "exponential_": (floats, lambda x: x.exponential_()),
        "geometric_(0.2)": ((torch.float32, torch.float64, torch.int64), lambda x: x.geometric_(0.2)),
        "cauchy_": ((torch.float32, torch.float64), lambda x: x.cauchy_()),
        "log_normal_": ((torch.float32, torch.float64), lambda x: x.log_normal_()),
        "native_dropout": (floats, dropout),
        "native_dropout, unaligned": (floats, unaligned_dropout),
        "randperm": ((torch.int64, torch.int32), lambda x: torch.randperm(x.numel(), out=x)),
        "multinomial, replacement": (
            (torch.float32,),
            lambda x: torch.multinomial(rates(x[:1000], 1.0), x.numel(), replacement=True),
        ),
        "multinomial": ((torch.float32,), lambda x: torch.multinomial(rates(x, 1.0), max(1, x.numel() // 2))),
        "poisson": ((torch.float32,), lambda x: torch.poisson(rates(x, 60.0))),
        "poisson, large": ((torch.float32,), lambda x: torch.poisson(rates(x, 8000.0))),
        "binomial": ((torch.float32,), lambda x: torch.binomial(torch.full_like(x, 50), rates(x, 1.0))),
        "_standard_gamma": ((torch.float32,), lambda x: torch._standard_gamma(rates(x, 5.0))),
    }


def rows() -> Iterator[tuple[str, ...]]:
    """The lines of the table. Needs a cuda device."""
    import torch

    for name, (dtypes, draw) in operators().items():
        for dtype in dtypes:
            for size in SIZES:
                if name == "multinomial" and size > 2**20:
                    continue  # its topk of millions takes minutes on a CPU and shows nothing new
                for seed in SEEDS:
                    torch.cuda.manual_seed(seed)
                    drawn = draw(torch.empty(size, dtype=dtype, device="cuda")).cpu().contiguous()
                    digest = hashlib.sha256(drawn.view(torch.uint8).numpy().tobytes()).hexdigest()
                    first = " ".join(repr(value) for value in drawn[:4].tolist())
                    offset = torch.cuda.default_generators[0].get_offset()
                    yield name, str(dtype), str(size), str(seed), digest, first, str(offset)


def device_line() -> str:
    """A comment that says whose numbers these are."""
    import torch

    gpu = torch.cuda.get_device_properties(0)
    geometry = f"{gpu.multi_processor_count} x {gpu.max_threads_per_multi_processor} threads"
    return f"# {gpu.name}, {geometry}, torch {torch.__version__}"


def read(path: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """(operator, dtype, elements, seed) -> (digest, first values, offset)."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {tuple(line[:4]): tuple(line[4:]) for line in lines[1:]}


def compare(one: Path, other: Path) -> int:
    """Prints each draw that differs and how many agree; 1 if any differs or is missing."""
    left, right = read(one), read(other)
    agree = 0
    for draw in left | right:
        if left.get(draw) == right.get(draw):
            agree += 1
            continue
        print("\t".join(draw))
        for path, table in ((one, left), (other, right)):
            print(f"    {path.name}: " + "  ".join(table.get(draw, ("missing",))))
    print(f"{agree} of {len(left | right)} draws agree")
    return 0 if agree == len(left | right) else 1


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    summary = (__doc__ or "").splitlines()[:1]
    parser = argparse.ArgumentParser(
        prog="python -m heitu.device.random_table", description=" ".join(summary)
    )
    parser.add_argument("--compare", nargs=2, type=Path, metavar="TABLE", help="two saved tables")
    options = parser.parse_args(arguments)
    if options.compare:
        return compare(*options.compare)
    import torch

    if not torch.cuda.is_available():
        print(
            "random_table: no cuda device; run it on a GPU, or as heitu run -m heitu.device.random_table",
            file=sys.stderr,
        )
        return 2
    print(device_line())
    print("\t".join(HEADER))
    for row in rows():
        print("\t".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
