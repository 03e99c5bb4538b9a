"""torch.distributed's nccl backend with two ranks, started by torchrun as a program would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device import distributed_worker

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 900  # seconds; half a minute on an idle machine


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Two processes; the number of devices is left to LOCAL_WORLD_SIZE."""
    inherited = {name: value for name, value in os.environ.items() if name != "HEITU_DEVICES"}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments],
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """For each rank, check -> "" or its traceback."""
    folder = tmp_path_factory.mktemp("ranks")
    ended = torchrun("-m", distributed_worker.__name__, str(folder))
    found = sorted(folder.glob("*.json"))
    assert len(found) == 2, ended.stderr[-6000:]
    return [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize("name", distributed_worker.checks())
def test_two_ranks(outcomes: list[dict[str, str]], name: str) -> None:
    for rank, outcome in enumerate(outcomes):
        assert not outcome[name], f"rank {rank}:\n{outcome[name]}"


def test_a_rank_that_dies_is_named(tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text(
        "import os, torch, torch.distributed as dist\n"
        "rank = int(os.environ['RANK'])\n"
        "torch.cuda.set_device(rank)\n"
        "dist.init_process_group()\n"
        "x = torch.ones(1, device='cuda')\n"
        "dist.all_reduce(x)\n"
        "if rank: os._exit(3)\n"
        "try: dist.all_reduce(x)\n"
        "except dist.DistBackendError as error: print(str(error).splitlines()[0], flush=True)\n"
    )
    assert "remote process exited or there was a network error" in torchrun(str(program)).stdout


def test_collectives_under_way_when_the_program_ends(tmp_path: Path) -> None:
    program = tmp_path / "ends.py"
    program.write_text(
        "import os, time, torch, torch.distributed as dist\n"
        "class Slow:\n"
        "    def __del__(self, sleep=time.sleep): sleep(1)\n"
        "slow = Slow()  # goes when the interpreter is past the point where threads may still enter it\n"
        "rank = int(os.environ['RANK'])\n"
        "torch.cuda.set_device(rank)\n"
        "dist.init_process_group()\n"
        "x = torch.ones(1, device='cuda')\n"
        "dist.all_reduce(x)\n"
        "if rank: time.sleep(0.5)\n"
        "dist.all_reduce(x, async_op=True)\n"
    )
    ended = torchrun(str(program))
    assert ended.returncode == 0, ended.stderr[-4000:]


def test_fewer_devices_than_ranks_is_an_invalid_ordinal(tmp_path: Path) -> None:
    program = tmp_path / "ordinal.py"
    program.write_text("import os, torch\ntorch.cuda.set_device(int(os.environ['LOCAL_RANK']))\n")
    ended = torchrun(str(program), HEITU_DEVICES="1")
    assert ended.returncode != 0
    assert "invalid device ordinal" in ended.stderr
    assert torchrun(str(program)).returncode == 0
