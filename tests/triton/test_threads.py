"""The threads that run program instances, which are torch's own where they can be."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import triton

from heitu.kernels.triton import compilation, driver

PROGRAM = """
import os, threading, torch, triton, triton.language as tl

@triton.jit
def add(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at, mask=at < n) + 1, mask=at < n)

def tasks():
    return len(os.listdir("/proc/self/task"))

def launch(out):
    add[(782,)](x, out, 50000, 64)

torch.set_num_threads(3)
x = torch.randn(50000)
x + torch.ones(50000)  # torch's threads are there from now on
before = tasks()
outs = [torch.empty(50000) for _ in range(4)]
launch(outs[0])
assert tasks() == before, (before, tasks())

started = [threading.Thread(target=lambda o=o: [launch(o) for _ in range(20)]) for o in outs]
for thread in started:
    thread.start()
for thread in started:
    thread.join()
assert all(torch.equal(out, x + 1) for out in outs)

out = torch.zeros(50000)
child = os.fork()
if child == 0:  # where OpenMP's threads are not
    launch(out)
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(out, x + 1) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_kernels_run_on_torchs_threads_and_on_their_own_in_a_child(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, str(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_they_are_as_many_as_torch_says(wanted: int) -> None:
    assert isinstance(triton.runtime.driver.active, driver.CPUDriver)
    compilation.share_threads(driver.threads())
    before, seen = torch.get_num_threads(), set()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    def kernel(*_: int) -> None:
        seen.add(threading.get_native_id())
        time.sleep(0.005)

    run = ctypes.CDLL(str(compilation.runtime().__file__)).heitu_run_grid
    torch.set_num_threads(wanted)
    try:
        code = run(kernel, None, (ctypes.c_int32 * 3)(40, 1, 1), ctypes.c_int64(0), driver.AS_TORCH)
    finally:
        torch.set_num_threads(before)
    assert code == 0
    assert len(seen) == wanted
