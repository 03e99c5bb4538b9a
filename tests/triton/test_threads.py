"""The threads that run program instances, which are torch's own where they can be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    torch.set_num_threads(1)
    launch(out)
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
