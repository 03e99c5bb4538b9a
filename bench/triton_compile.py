"""How long a Triton kernel takes until it can be launched: compiled for the first time, and out of the cache.

    python bench/triton_compile.py [--kernels N]

Milliseconds of the first launch of a kernel, medians over kernels that differ in a constant. They are
compiled in one process, with caches of their own, and come from these in the next.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KERNEL = """
@triton.jit
def kernel_{number}(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.exp(tl.load(x + at, mask=at < n)) * {number}.5 + {number}, mask=at < n)
"""


def first_launches(path: Path) -> float:
    """The median of all but the first, which also starts the runtime."""
    import torch

    spec = importlib.util.spec_from_file_location("kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, out = torch.randn(100), torch.empty(100)
    taken = []
    for kernel in (value for name, value in vars(module).items() if name.startswith("kernel_")):
        start = time.perf_counter()
        kernel[(1,)](x, out, 100, 128)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken[1:])


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernels", type=int, default=40)
    parser.add_argument("--launch", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.launch:
        print(first_launches(chosen.launch))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.py")
        kernels = (KERNEL.format(number=number) for number in range(chosen.kernels))
        path.write_text("import triton\nimport triton.language as tl\n" + "".join(kernels))
        caches = {"TRITON_CACHE_DIR": str(Path(folder, "triton")), "XDG_CACHE_HOME": folder}
        for name in ("compiled", "from the cache"):
            done = subprocess.run(
                [sys.executable, __file__, "--launch", str(path)],
                env={**os.environ, **caches},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            print(f"{name:16}{float(done.stdout):8.2f} ms a kernel")


if __name__ == "__main__":
    main()
