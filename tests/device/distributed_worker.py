"""The checks of test_distributed.py, run by each of two ranks under torchrun.

Usage: torchrun --nproc-per-node 2 -m tests.device.distributed_worker FOLDER

A rank writes FOLDER/<rank>.json: check -> "" or a traceback.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from tests.device import distributed_collectives, distributed_training
from tests.device.distributed_ranks import DEVICE, PATIENCE, RANK, meet


def checks() -> dict[str, Callable[[], None]]:
    """All checks by name, in their order."""
    found = {**vars(distributed_collectives), **vars(distributed_training)}
    return {name: value for name, value in found.items() if name.startswith("check_")}


def main() -> None:
    torch.cuda.set_device(RANK)
    dist.init_process_group("nccl", device_id=DEVICE, timeout=PATIENCE)
    outcome = dict.fromkeys(checks(), "not run: the check before it broke the group")
    for name, check in checks().items():
        try:
            check()
            outcome[name] = ""
        except BaseException:
            outcome[name] = traceback.format_exc()
        (Path(sys.argv[1]) / f"{RANK}.json").write_text(json.dumps(outcome))
        meet(name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
