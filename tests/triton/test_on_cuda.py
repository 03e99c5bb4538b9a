"""Kernels on the emulated cuda device: a program's own, and those that torch.compile generates."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


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


def test_a_graph_replays_it(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import torch, triton, triton.language as tl

        @triton.jit
        def scale(x, out, n, by, B: tl.constexpr):
            at = tl.program_id(0) * B + tl.arange(0, B)
            tl.store(out + at, tl.load(x + at, mask=at < n) * by, mask=at < n)

        x = torch.arange(100.0, device="cuda")
        held = torch.full((100,), 7.0, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = x + 1
            scale[(2,)](made, held, 100, 3.0, 64)
            result = held.cumsum(0)
        assert held.eq(7).all(), "a capture changes nothing"
        for value in (1, 2):
            x.fill_(value)
            held.zero_()
            graph.replay()
            assert held.eq(3 * (value + 1)).all() and result[-1] == 300 * (value + 1), (held, result)
        """,
    )


def test_trees_of_graphs_of_torch_compile(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import copy, torch
        from torch import nn
        from torch._dynamo.utils import counters

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10)).cuda()
        other = copy.deepcopy(model)
        compiled = torch.compile(model, mode="reduce-overhead")
        optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, other)]
        for _ in range(5):
            x, target = torch.randn(32, 64, device="cuda"), torch.randint(0, 10, (32,), device="cuda")
            for step in (compiled, other):
                nn.functional.cross_entropy(step(x), target).backward()
            for a, b in zip(model.parameters(), other.parameters()):
                torch.testing.assert_close(a.grad, b.grad)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        assert counters["inductor"]["cudagraph_skips"] == 0, counters["inductor"]
        assert counters["inductor"]["cudagraph_recorded_non_static_inputs"] > 0, counters["inductor"]
        with torch.no_grad():
            kept = compiled(x)
            compiled(x)
        try:
            kept + 1
        except RuntimeError as error:
            assert "overwritten by a subsequent run" in str(error), error
        else:
            raise AssertionError("what a later run wrote over can still be read")
        """,
    )


def test_flex_attention(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch.manual_seed(0)
        q, k, v = (torch.randn(1, 2, 256, 64, device="cuda", requires_grad=True) for _ in range(3))
        mask = create_block_mask(lambda b, h, q, k: q >= k, 1, 2, 256, 256, device="cuda")
        options = {"score_mod": lambda score, b, h, q, k: score + (q - k) * 0.01, "block_mask": mask}
        results = []
        for attention in (torch.compile(flex_attention), flex_attention):
            out = attention(q, k, v, **options)
            results.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
        for ours, theirs in zip(*results):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        """,
    )


def test_a_programs_kernel_in_a_compiled_graph(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import torch, triton, triton.language as tl

        @triton.jit
        def add_kernel(x, y, out, n, B: tl.constexpr):
            at = tl.program_id(0) * B + tl.arange(0, B)
            tl.store(out + at, tl.load(x + at, mask=at < n) + tl.load(y + at, mask=at < n), mask=at < n)

        @torch.compile(fullgraph=True)
        def compiled(x, y):
            out = torch.empty_like(x)
            add_kernel[(triton.cdiv(x.numel(), 64),)](x.sin(), y, out, x.numel(), 64)
            return out.cos()

        @torch.library.triton_op("mine::add", mutates_args={})
        def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            out = torch.empty_like(x)
            grid = (triton.cdiv(x.numel(), 64),)
            torch.library.wrap_triton(add_kernel)[grid](x, y, out, x.numel(), 64)
            return out

        add.register_autograd(lambda ctx, gradient: (gradient, gradient))
        x, y = torch.randn(100, device="cuda"), torch.randn(100, device="cuda")
        torch.testing.assert_close(compiled(x, y), (x.sin() + y).cos())
        torch.testing.assert_close(add(x, y), x + y)
        x.requires_grad_()
        torch.compile(lambda x, y: add(x.sin(), y).sum(), fullgraph=True)(x, y).backward()
        torch.testing.assert_close(x.grad, x.cos())
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


def test_products_that_are_asked_of_cublas_through_triton(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import torch, triton
        from triton._C.libtriton import nvidia

        blas = nvidia.cublas.CublasLt(torch.empty(1024, device="cuda", dtype=torch.uint8))
        a, b = (torch.randn(n, 24, device="cuda", dtype=torch.float16) for n in (16, 32))
        c, d = (torch.empty(16, 32, device="cuda", dtype=torch.float16) for _ in range(2))
        blas.matmul(a, b, c)
        torch.testing.assert_close(c, (a.float() @ b.float().T).half())
        blas.gemm(a, b, c, d, 2.0, 0.5)
        torch.testing.assert_close(d, (2.5 * (a.float() @ b.float().T)).half(), rtol=2e-3, atol=1e-2)
        """,
    )


def test_the_backend_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_DEFAULT_BACKEND", "cpu")
    said = run(
        tmp_path,
        """
        import torch, triton

        torch.cuda.init()
        print(triton.runtime.driver.active.get_current_target().backend)
        """,
    )
    assert said.strip() == "cpu"
