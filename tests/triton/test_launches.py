"""Launches that are like one before, and those that only look like it."""

from __future__ import annotations

import copy
import gc
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs
from triton.runtime import jit
from triton.runtime.driver import driver

from heitu.kernels.triton import launching, versions
from tests.triton.conftest import Load

pytestmark = pytest.mark.skipif(
    versions.RELEASE not in versions.REMEMBERED,
    reason="launches of this release of Triton are not remembered",
)
SCALE = tl.constexpr(3)


@triton.jit
def scaled(x, out, n, by, B: tl.constexpr, NEGATIVE: tl.constexpr = False, EXTRA=None):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n, other=0) * by
    if NEGATIVE:
        value = -value
    if EXTRA is not None:
        value += tl.load(EXTRA)
    tl.store(out + at, value, mask=at < n)


@pytest.fixture(autouse=True)
def remembered() -> Iterator[None]:
    scaled[(1,)](torch.ones(4), torch.ones(4), 4, 2.0, 16)
    assert isinstance(jit.JITFunction.run, type(_run()))
    yield
    launching.install()


def _run() -> Any:
    return jit.JITFunction.run


def error_of(call: Any, *arguments: Any, **named: Any) -> Exception | None:
    """What a call raises."""
    try:
        call(*arguments, **named)
    except Exception as error:
        return error
    return None


def taken(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The kernel that Triton's own way leads to."""
    return _run().original(function, *arguments, grid=(1,), warmup=True, **named)


def test_triton_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, out = torch.ones(16), torch.zeros(16)
    for by in (2.0, 3):
        scaled[(1,)](x, out, 16, by, B=16)

    def asked(*_: Any) -> None:
        raise AssertionError("Triton was asked for the kernel")

    monkeypatch.setattr(jit, "compute_cache_key", asked)
    for by in (5.0, 7, 9.0):
        scaled[lambda _: (1,)](x, out, 16, by, B=16)
        assert out.tolist() == [by] * 16
    with pytest.raises(AssertionError, match="Triton was asked"):
        scaled[(1,)](x.double(), out, 16, 2.0, B=16)


def values(chance: random.Random) -> tuple[Any, ...]:
    dtype = chance.choice([torch.float32, torch.float64, torch.int32, torch.float16, torch.bool])
    x = torch.ones(80, dtype=dtype)[chance.choice([0, 1, 4, 16]) :]
    out = torch.empty(80, dtype=chance.choice([torch.float32, torch.float64]))
    return (
        chance.choice([x, torch.nn.Parameter(x) if dtype.is_floating_point else x]),
        out,
        chance.choice([0, 1, 2, 16, 17, 64, 2**31 - 1, True]),
        chance.choice([1, 0, -1, 16, 2**31, 2**40, 2**40 + 1, 0.5, 1.0, True, False]),
        chance.choice([16, 32, 64]),
        chance.choice([True, False, 1, 0]),
        chance.choice([None, out, x]),
    )


def test_the_kernel_is_the_one_that_triton_takes() -> None:
    chance = random.Random(0)
    kinds = [values(chance) for _ in range(3)]
    for _ in range(60):  # each differs from another one in a single value
        kind, place = list(chance.choice(kinds)), chance.randrange(7)
        kind[place] = values(chance)[place]
        kinds.append(tuple(kind))
    names = ["x", "out", "n", "by", "B", "NEGATIVE", "EXTRA"]
    for _ in range(1200):
        given = chance.choice(kinds)
        by_name = chance.randrange(1, 7)
        named = dict(zip(names[by_name:], given[by_name:], strict=True))
        if chance.random() < 0.2:
            named.pop("EXTRA", None)
        if chance.random() < 0.3:
            named["num_warps"] = chance.choice([2, 8])
        arguments = given[:by_name]
        kernel = scaled[(1,)](*arguments, **named)
        assert kernel is taken(scaled, arguments, named), (arguments, named)


def test_results_of_launches_of_many_kinds() -> None:
    x = torch.randn(100)
    for _ in range(3):
        for dtype in (torch.float32, torch.float64, torch.float16):
            for start in (0, 1, 4):
                for n in (1, 16, 50):
                    given, out = x.to(dtype)[start:], torch.zeros(96, dtype=dtype)
                    scaled[lambda meta: (triton.cdiv(meta["n"], meta["B"]),)](given, out, n, 3, B=16)
                    assert torch.equal(out[:n], given[:n] * 3)
                    assert not out[n:].any()


def test_names_in_another_order() -> None:
    x = torch.ones(64)
    for _ in range(3):
        for named in ({"n": 16, "by": 2}, {"by": 16, "n": 2}, {"by": 2, "n": 16}):
            out = torch.zeros(64)
            scaled[(1,)](x, out, **named, B=64)
            assert out.tolist() == [float(named["by"])] * named["n"] + [0.0] * (64 - named["n"])


def test_numbers_of_other_widths() -> None:
    x, out = torch.ones(16), torch.zeros(16)
    for _ in range(2):
        for by in (16, 2**40, 3, 2**40 + 1, 0.5):
            assert scaled[(1,)](x, out, 16, by, 16) is taken(scaled, (x, out, 16, by, 16), {})


@triton.jit
def kept(out, VALUE: tl.constexpr, TEXT: tl.constexpr = "a"):
    tl.store(out, VALUE)
    tl.store(out + 1, 1.0 if TEXT == "a" else 2.0)


def test_constants() -> None:
    for _ in range(3):
        for value in (0.0, -0.0, 0, 1, 1.0, True, 10**12, 2**62):
            for text in ("a", "b"):
                out = torch.full((2,), 9.0, dtype=torch.float64)
                kernel = kept[(1,)](out, value, TEXT=text)
                assert kernel is taken(kept, (out, value), {"TEXT": text})
                assert out.tolist() == [float(value), 1.0 if text == "a" else 2.0]


@triton.jit
def where_it_runs(out):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    place = (z * tl.num_programs(1) + y) * tl.num_programs(0) + x
    tl.store(out + place, place + 1)


@pytest.mark.parametrize("grid", [(5,), (2, 3), (2, 1, 4), [3], (0, 4), (2, 0, 2)])
def test_grids(grid: Any) -> None:
    for each in (grid, lambda _: grid):
        for _ in range(2):
            out = torch.zeros(30, dtype=torch.int32)
            where_it_runs[each](out)
            count = int(torch.tensor(list(grid)).prod())
            assert out.tolist() == [*range(1, count + 1), *[0] * (30 - count)]


def test_grids_that_are_none() -> None:
    out = torch.zeros(30, dtype=torch.int32)
    where_it_runs[(1,)](out)
    for grid in ((), 5, ("a",), (2**40,), lambda meta: meta["missing"], lambda _: ()):
        ours = error_of(where_it_runs[grid], out)
        theirs = error_of(_run().original, where_it_runs, out, grid=grid, warmup=False)
        assert type(ours) is type(theirs) is not type(None)


def test_a_grid_that_launches_itself() -> None:
    x, out, other = torch.ones(16), torch.zeros(16), torch.zeros(16, dtype=torch.float64)

    def grid(meta: dict[str, Any]) -> tuple[int]:
        for n in range(1, 40):  # more kinds than are remembered
            kept[(1,)](other, n)
        scaled[(1,)](x, other, 16, 5.0, 16)
        scaled.device_caches.clear()
        return (meta["n"] // 16,)

    for _ in range(2):
        scaled[grid](x, out, 16, 2.0, 16)
    assert torch.equal(out, x * 2)
    assert torch.equal(other, x.double() * 5)


def test_hooks_are_called() -> None:
    x, out, calls = torch.ones(16), torch.zeros(16), []

    def enter(metadata: Any) -> None:
        calls.append(metadata.get()["name"])

    def before(*_: Any, **named: Any) -> None:
        calls.append(f"run of {named['B']}")

    scaled[(1,)](x, out, 16, 2.0, B=16)
    knobs.runtime.launch_enter_hook.add(enter)
    scaled[(1,)](x, out, 16, 2.0, B=16)
    knobs.runtime.launch_enter_hook.remove(enter)
    scaled[(1,)](x, out, 16, 2.0, B=16)
    scaled.add_pre_run_hook(before)
    scaled[(1,)](x, out, 16, 2.0, B=16)
    scaled.pre_run_hooks.clear()
    scaled[(1,)](x, out, 16, 2.0, B=16)
    assert calls == ["scaled", "run of 16"]


def test_a_global_that_changes(load: Load) -> None:
    module = load(
        "FACTOR = tl.constexpr(3)\n\n\n@triton.jit\ndef times(x):\n    tl.store(x, tl.load(x) * FACTOR)\n"
    )
    x = torch.ones(1)
    module.times[(1,)](x)
    module.times[(1,)](x)
    module.FACTOR = tl.constexpr(4)
    with pytest.raises(RuntimeError, match="Global variable FACTOR has changed"):
        module.times[(1,)](x)
    assert x.item() == 9


def test_a_cache_that_is_emptied(load: Load) -> None:
    module = load("@triton.jit\ndef add(x):\n    tl.store(x, tl.load(x) + 1)\n")
    x = torch.zeros(1)
    first = [module.add[(1,)](x) for _ in range(2)]
    for empty in (module.add.device_caches.clear, lambda: module.add.device_caches[0][0].clear()):
        empty()
        again = [module.add[(1,)](x) for _ in range(2)]
        assert first[0] is first[1] is not again[0]
        assert again[0] is again[1]
        first = again
    assert x.item() == 6


def test_settings_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    x, out = torch.ones(16), torch.zeros(16)
    scaled[(1,)](x, out, 16, 2.0, 16)
    kernel = scaled[(1,)](x, out, 16, 2.0, 16)
    monkeypatch.setattr(knobs.runtime, "debug", True)
    assert scaled[(1,)](x, out, 16, 2.0, 16) is not kernel
    monkeypatch.setattr(knobs.runtime, "debug", False)
    assert scaled[(1,)](x, out, 16, 2.0, 16) is kernel
    monkeypatch.setenv("TRITON_FPSAN_HOMOMORPHIC_CASTS", "1")
    assert scaled[(1,)](x, out, 16, 2.0, 16) is not kernel
    monkeypatch.delenv("TRITON_FPSAN_HOMOMORPHIC_CASTS")
    assert scaled[(1,)](x, out, 16, 2.0, 16) is kernel


def test_another_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    x, out = torch.ones(16), torch.zeros(16)
    scaled[(1,)](x, out, 16, 2.0, 16)
    monkeypatch.setattr(driver, "_active", None)
    monkeypatch.setattr(driver, "_default", None)
    monkeypatch.setenv("TRITON_DEFAULT_BACKEND", "none")
    with pytest.raises(RuntimeError, match="Unknown backend device 'none'"):
        scaled[(1,)](x, out, 16, 2.0, 16)


def test_arguments_that_do_not_fit_raise_what_triton_raises() -> None:
    x, out = torch.ones(16), torch.zeros(16)
    for arguments, named in [
        ((x, out), {}),
        ((x, out, 16, 2.0, 16, False, None, 5), {}),
        ((x, out, 16, 2.0, 16), {"unknown": 3}),
        ((x, out, 16, 2.0, 16), {"B": 3}),
        ((x, out, object(), 2.0, 16), {}),
    ]:
        for _ in range(2):
            ours = error_of(scaled[(1,)], *arguments, **named)
            theirs = error_of(_run().original, scaled, *arguments, grid=(1,), warmup=False, **named)
            assert type(ours) is type(theirs) is not type(None)
            assert str(ours) == str(theirs)


def test_an_assertion_that_fails_later(load: Load) -> None:
    module = load("@triton.jit\ndef positive(x):\n    tl.device_assert(tl.load(x) > 0, 'not positive')\n")
    module.positive[(1,)](torch.ones(1), debug=True)
    module.positive[(1,)](torch.ones(1), debug=True)
    with pytest.raises(RuntimeError, match="not positive"):
        module.positive[(1,)](-torch.ones(1), debug=True)


def test_copies_and_garbage(load: Load) -> None:
    module = load("@triton.jit\ndef add(x):\n    tl.store(x, tl.load(x) + 1)\n")
    x = torch.zeros(1)
    for _ in range(2):
        module.add[(1,)](x)
    same = copy.copy(module.add)
    for _ in range(2):
        same[(1,)](x)
    assert x.item() == 4
    gone = weakref.ref(module.add)
    registered = jit._triton_jit_function_registry
    for name in [name for name, function in registered.items() if function in (module.add, same)]:
        del registered[name]
    del same, module.add
    module.__dict__.clear()
    gc.collect()
    assert gone() is None


def test_many_threads() -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(300):
            n, by, B = chance.choice([1, 16, 33]), chance.choice([2, 16, 0.5]), chance.choice([16, 64])
            x, out = torch.ones(64), torch.zeros(64)
            scaled[(-(-n // B),)](x, out, n, by, B)
            if not (torch.equal(out[:n], x[:n] * by) and not out[n:].any()):
                failures.append(f"{n} {by} {B}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_tensors_of_the_cpu_on_cuda_and_graphs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import torch, triton, triton.language as tl\n\n\n"
        "@triton.jit\ndef add(x, y):\n    tl.store(y, tl.load(x) + tl.load(y))\n\n\n"
        "x, y = torch.ones(1, device='cuda'), torch.zeros(1, device='cuda')\n"
        "for _ in range(3):\n    add[(1,)](x, y)\n"
        "try:\n    add[(1,)](x, torch.zeros(1))\nexcept ValueError as error:\n    print(error)\n"
        "graph = torch.cuda.CUDAGraph()\n"
        "with torch.cuda.graph(graph):\n    add[(1,)](x, y)\n"
        "print(y.item())\nfor _ in range(4):\n    graph.replay()\nprint(y.item())\n"
        "z = torch.zeros(1, device='cuda:1')\nwith torch.cuda.device(1):\n    add[(1,)](z, z)\n"
        "print(len(add.device_caches))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "heitu", "run", "--devices", "2", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = "Pointer argument (at 1) cannot be accessed from Triton (cpu tensor?)"
    assert done.stdout.splitlines() in (
        [refused, "3.0", "7.0", "2"],
        ["Pointer argument cannot be accessed from Triton (cpu tensor?)", "3.0", "7.0", "2"],
    )


def test_it_can_be_undone() -> None:
    launching.uninstall()
    assert not isinstance(jit.JITFunction.run, launching.compilation.runtime().Run)
    assert jit.JITFunction.run.__qualname__ == "JITFunction.run"
    out = torch.zeros(16)
    scaled[(1,)](torch.ones(16), out, 16, 2.0, 16)
    assert out.tolist() == [2.0] * 16
    launching.install()
    assert _run().__name__ == "run"  # as its original says
