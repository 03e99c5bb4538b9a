"""Kernels on the emulated cuda device: a program's own, and those that torch.compile generates."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run(tmp_path: Path, text: str, *words: str) -> str:
    """Runs a program under `heitu run`; returns what it printed, on stderr too where it is given words."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(text))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
    }
    command = [sys.executable, "-m", "heitu", "run", *words, str(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr if words else done.stdout


def test_a_programs_own_kernel_tuned(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        import torch, triton, triton.language as tl

        @triton.autotune([triton.Config({"B": 64}), triton.Config({"B": 256}, num_warps=8)], key=["n"])
        @triton.jit
        def scale(x, out, n, B: tl.constexpr):
            at = tl.program_id(0) * B + tl.arange(0, B)
            tl.store(out + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

        x = torch.randn(1000, device="cuda")
        out = torch.empty_like(x)
        scale[lambda meta: (triton.cdiv(1000, meta["B"]),)](x, out, 1000)
        assert out.device.type == "cuda" and torch.equal(out, x * 2)
        print(triton.runtime.driver.active.get_current_target().backend)
        """,
    )
    assert said.strip() == "cuda"


def test_what_torch_compile_generates(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import copy, torch
        from torch import nn

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10)).cuda()
        other = copy.deepcopy(model)
        x, target = torch.randn(32, 64, device="cuda"), torch.randint(0, 10, (32,), device="cuda")
        losses = []
        for step in (torch.compile(model), other):
            loss = nn.functional.cross_entropy(step(x), target)
            loss.backward()
            losses.append(loss)
        torch.testing.assert_close(*losses)
        for a, b in zip(model.parameters(), other.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        from torch._inductor.codecache import PyCodeCache
        generated = "".join(open(module.__file__).read() for module in PyCodeCache.modules)
        assert "@triton.jit" in generated and "cpp_fused" not in generated
        """,
    )


KERNEL = """
import torch, triton, triton.language as tl

@triton.jit
def double(x, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(x + at, tl.load(x + at) * 2)
"""


def test_in_a_graph_it_is_refused(tmp_path: Path) -> None:
    run(
        tmp_path,
        KERNEL
        + """
x = torch.ones(8, device="cuda")
double[(1,)](x, 8)
graph = torch.cuda.CUDAGraph()
try:
    with torch.cuda.graph(graph):
        double[(1,)](x, 8)
except RuntimeError as error:
    assert "cannot record" in str(error), error
else:
    raise AssertionError("a replay would not run it")
""",
    )


def test_a_tensor_of_the_cpu_is_refused(tmp_path: Path) -> None:
    run(
        tmp_path,
        KERNEL
        + """
double[(1,)](torch.ones(8, pin_memory=True), 8)
try:
    double[(1,)](torch.ones(8), 8)
except ValueError as error:
    assert "cpu tensor?" in str(error), error
else:
    raise AssertionError("a GPU could not have read it")
""",
    )


def test_on_a_chip_it_is_said_that_nothing_is_judged(tmp_path: Path) -> None:
    said = run(
        tmp_path, KERNEL + "\ndouble[(1,)](torch.ones(8, device='cuda'), 8)\n", "--chip", "ascend-910b"
    )
    assert "nothing judges them by the rules of ascend-910b" in said
