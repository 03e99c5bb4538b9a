"""Kernels under `--chip`: refused where the chip could not run them, and in the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

HEAD = """
import sys
import torch, triton, triton.language as tl

@triton.jit
def scale(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)

@triton.jit
def product(x, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a, b = tl.load(x + m[:, None] * K + k[None, :]), tl.load(x + k[:, None] * N + n[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(a, b))

def refused(kind, *words):
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, (missing, str(error))
    else:
        raise AssertionError("nothing was raised")

from contextlib import contextmanager
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources
refused = contextmanager(refused)
"""
LOAD = HEAD.splitlines().index("    tl.store(out + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)") + 1


def rehearse(tmp_path: Path, chip: str, text: str, *words: str) -> dict[str, Any]:
    """Runs a program for a chip. Returns the report, with what it said in `said`."""
    program, report = tmp_path / "program.py", tmp_path / "report.json"
    program.write_text(HEAD + textwrap.dedent(text))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
    }
    command = [sys.executable, "-m", "heitu", "run", "--chip", chip, "--report", str(report)]
    command += [*words, str(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return {**found, "said": done.stderr}


def kernels(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["name"], row["verdict"]): row for row in report["kernels"]}


def test_a_dtype_that_the_chips_triton_does_not_take(tmp_path: Path) -> None:
    report = rehearse(
        tmp_path,
        "ascend-910b",
        f"""
        x = torch.empty(100, device="cuda", dtype=torch.float64)
        words = (
            "at {LOAD}:23:", f"{{__file__}}:{LOAD}: in kernel scale", "triton-lang/triton-ascend@",
            "tl.load does not take fp64 on Huawei Ascend 910B3", "Pass a tensor of torch.float32.",
            "tl.store does not take fp64",
        )
        with refused(CompilationError, *words):
            scale[(1,)](x, x, 100, 128)
        """,
    )
    row = kernels(report)["scale", "refused"]
    assert (row["launches"], row["defined"]["line"]) == (0, LOAD - 2)
    assert [(one["rule"], one["at"]["line"]) for one in row["findings"]] == [("dtype", LOAD)] * 2
    assert report["advice"][0]["subject"] == "kernel scale: dtype"


def test_what_runs_is_counted_and_listed(tmp_path: Path) -> None:
    report = rehearse(
        tmp_path,
        "ascend-910b",
        """
        x, out = torch.ones(1000, device="cuda"), torch.empty(1000, device="cuda")
        for _ in range(7):
            scale[(8,)](x, out, 1000, 128)
        scale[(0,)](x, out, 1000, 128)
        assert torch.equal(out, x * 2)
        """,
    )
    row = kernels(report)["scale", "native"]
    assert (row["launches"], row["required"], row["limit"]) == (7, 512, 192 * 1024)
    assert "kernels  1 kernel, 7 launches: 1 native" in report["said"]


def test_a_tuner_passes_over_what_does_not_fit(tmp_path: Path) -> None:
    report = rehearse(
        tmp_path,
        "ascend-910b",
        """
        tuned = triton.autotune([triton.Config({"B": 1 << 17}), triton.Config({"B": 128})], key=["n"])(scale)
        x, out = torch.ones(1000, device="cuda"), torch.empty(1000, device="cuda")
        tuned[lambda meta: (triton.cdiv(1000, meta["B"]),)](x, out, 1000)
        assert tuned.best_config.kwargs == {"B": 128}, tuned.best_config
        words = "out of resource: on-chip memory, Required: 524288, Hardware limit: 196608. Reducing"
        with refused(OutOfResources, words, "estimated", "kernel scale"):
            scale[(1,)](x, out, 1000, 1 << 17)
        """,
    )
    assert kernels(report)["scale", "refused"]["required"] == 4 << 17
    assert all("kernel scale" not in one["subject"] for one in report["advice"])


@pytest.mark.parametrize(
    ("chip", "grid", "words"),
    [
        ("ascend-910b", "(65536, 1, 1)", "Required: 65536, Hardware limit: 65535"),
        ("ascend-910b", "(256, 257, 1)", "Required: 65792, Hardware limit: 65535"),
        ("h200", "(1, 65536, 1)", "programs in y; NVIDIA H200 takes 65535"),
    ],
)
def test_a_grid_that_is_too_large(tmp_path: Path, chip: str, grid: str, words: str) -> None:
    report = rehearse(
        tmp_path,
        chip,
        f"""
        x = torch.ones(8, device="cuda")
        for _ in range(2):
            with refused(OutOfResources, "resource: grid", "{words}", "scale", "program.py:{LOAD - 2}"):
                scale[{grid}](x, x, 8, 8)
        assert torch.equal(x, torch.ones(8, device="cuda"))
        scale[(65535, 1, 1)](x, x, 0, 8)
        """,
    )
    assert kernels(report)["scale", "native"]["launches"] == 1
    refused = kernels(report)["scale", "refused"]
    assert (refused["findings"][0]["rule"], refused["variants"]) == ("grid", 1)


def test_what_triton_has_kept_is_judged_anew_for_another_chip(tmp_path: Path) -> None:
    doubles = 'x = torch.empty(100, device="cuda", dtype=torch.float64)\n'
    run = "scale[(1,)](x, x, 100, 128)\n"
    # Of the two, nothing that a kernel is compiled with is different but the name.
    assert ("scale", "unknown") in kernels(rehearse(tmp_path, "mlu590", doubles + run))
    report = rehearse(tmp_path, "ascend-910b", f"{doubles}with refused(CompilationError):\n    {run}")
    assert ("scale", "refused") in kernels(report)


def test_the_smallest_products(tmp_path: Path) -> None:
    rehearse(
        tmp_path,
        "h200",
        """
        x, out = torch.ones(4096, device="cuda", dtype=torch.float16), torch.empty(4096, device="cuda")
        with refused(CompilationError, "K >= 16"):
            product[(1,)](x, out, 16, 16, 8)
        product[(1,)](x, out, 16, 16, 16)
        """,
    )


@pytest.mark.parametrize(
    ("chip", "expected"), [("h200", "nullcontext()"), ("a100", "refused(CompilationError, 'fp8e4nv')")]
)
def test_8_bit_floats(tmp_path: Path, chip: str, expected: str) -> None:
    rehearse(
        tmp_path,
        chip,
        f"""
        from contextlib import nullcontext

        @triton.jit
        def narrow(x, out):
            at = tl.arange(0, 16)
            tl.store(out + at, tl.load(x + at).to(tl.float8e4nv).to(tl.float32))

        x = torch.ones(16, device="cuda")
        with {expected}:
            narrow[(1,)](x, x)
        """,
    )


def test_the_target_has_the_chips_warps(tmp_path: Path) -> None:
    for chip, warp in (("mi300x", 64), ("mtt-s4000", 128), ("ascend-910b", 32)):
        rehearse(
            tmp_path,
            chip,
            f"assert triton.runtime.driver.active.get_current_target().warp_size == {warp}\n",
        )


def test_threads_of_a_program(tmp_path: Path) -> None:
    program = 'x = torch.ones(8, device="cuda")\n{}scale[(1,)](x, x, 8, 8, num_warps=64)\n'
    rehearse(tmp_path, "h200", program.format('with refused(OutOfResources, "threads"):\n    '))
    rehearse(tmp_path, "ascend-910b", program.format(""))  # it has none


CHOICE = """
@triton.jit
def choose(x):
    at = tl.arange(0, 8)
    number = tl.load(x + at)
    tl.store(x + at, tl.where(number > 3, number, number * 2))

x = torch.arange(8, device="cuda")
"""


def test_what_nothing_certain_is_known_of_runs_but_where_that_is_forbidden(tmp_path: Path) -> None:
    run = "choose[(1,)](x)\nassert x.tolist() == [0, 2, 4, 6, 4, 5, 6, 7]\n"
    row = kernels(rehearse(tmp_path, "ascend-910b", CHOICE + run))["choose", "unknown"]
    assert (row["launches"], row["unknown"]) == (1, ["where int64"])
    words = "'kernel choose', 'where int64', '--allow triton::choose'"
    forbidden = f"with refused(RuntimeError, {words}):\n    choose[(1,)](x)\n"
    rehearse(tmp_path, "ascend-910b", CHOICE + forbidden, "--strict")
    rehearse(tmp_path, "ascend-910b", CHOICE + run, "--strict", "--allow", "triton::choose")


@pytest.mark.parametrize("chip", ["ascend-910b", "h200"])
def test_what_torch_compile_generates(tmp_path: Path, chip: str) -> None:
    report = rehearse(
        tmp_path,
        chip,
        """
        import copy
        from torch import nn

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10)).cuda()
        other = copy.deepcopy(model)
        x = torch.randn(32, 64, device="cuda")
        for one in (torch.compile(model), other):
            one(x).square().mean().backward()
        for a, b in zip(model.parameters(), other.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        """,
    )
    assert {row["verdict"] for row in report["kernels"]} == {"native"}
    assert sum(row["launches"] for row in report["kernels"]) >= 3
