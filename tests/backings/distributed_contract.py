"""What two processes may ask of their process group, written once for a device name and a backend.

    torchrun ... distributed_contract.py DEVICE BACKEND PACKAGE

The first process prints, as JSON, what each check came to, and how often the plugin's group was called.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from heitu.backings.engine_thread import finish_at_exit

DEVICE, BACKEND, PACKAGE = sys.argv[1:]
if DEVICE != "cuda":
    importlib.import_module(PACKAGE)
    finish_at_exit(DEVICE)  # as Heitu does for programs on cuda
MODULE: Any = getattr(torch, DEVICE)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=DEVICE) + dist.get_rank()


def reductions() -> list[Any]:
    total, largest, mean = tensor(1, 2), tensor(1, 5), tensor(1, 2)
    dist.all_reduce(total)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    work = dist.all_reduce(mean, op=dist.ReduceOp.AVG, async_op=True)
    work.wait()
    dist.reduce(total, 0)
    return [total.tolist(), largest.tolist(), mean.tolist()]


def broadcasts_and_gathers() -> list[Any]:
    x = tensor(3, 4)
    dist.broadcast(x, 1)
    whole = torch.empty(4, device=DEVICE)
    dist.all_gather_into_tensor(whole, tensor(1, 2))
    parts = [torch.empty(1, device=DEVICE) for _ in range(2)]
    dist.all_gather(parts, tensor(7))
    objects: list[Any] = [None, None]
    dist.all_gather_object(objects, {"rank": dist.get_rank()})
    return [x.tolist(), whole.tolist(), [part.tolist() for part in parts], objects]


def scattered_reductions() -> list[float]:
    part = torch.empty(2, device=DEVICE)
    dist.reduce_scatter_tensor(part, tensor(1, 2, 3, 4))
    return part.tolist()


def exchanges() -> list[float]:
    received = torch.empty(2, device=DEVICE)
    dist.all_to_all_single(received, tensor(1, 2))
    return received.tolist()


def messages() -> list[float]:
    x = tensor(5)
    if dist.get_rank() == 0:
        dist.send(x, 1)
        dist.recv(x, 1)
    else:
        y = torch.empty(1, device=DEVICE)
        dist.recv(y, 0)
        dist.send(y * 2, 0)
    return x.tolist()


def futures() -> list[Any]:
    future = dist.all_reduce(tensor(1), async_op=True).get_future()
    (result,) = future.wait()
    return [str(result.device.type == DEVICE), result.tolist()]


def data_parallel() -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)).to(DEVICE)
    return train(DistributedDataParallel(model, device_ids=[dist.get_rank()]))


def fully_sharded() -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)).to(DEVICE)
    fully_shard(model)
    return train(model)


def train(model: nn.Module) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(3):
        optimizer.zero_grad()
        loss = model(torch.full((3, 4), step + dist.get_rank() + 0.5, device=DEVICE)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


CHECKS: tuple[Callable[[], Any], ...] = (
    reductions, broadcasts_and_gathers, scattered_reductions, exchanges, messages, futures, data_parallel,
    fully_sharded,
)  # fmt: skip


def attempt(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except RuntimeError as error:
        return str(error).splitlines()[0]


def main() -> None:
    dist.init_process_group(BACKEND)
    MODULE.set_device(dist.get_rank())
    standin = sys.modules[f"{PACKAGE}._C"]
    standin.clear_calls()
    said = {check.__name__: attempt(check) for check in CHECKS}
    dist.barrier()
    calls = {name: count for name, count in sorted(standin.calls().items()) if ":" in name}
    if dist.get_rank() == 0:
        print(json.dumps({"said": said, "calls": calls}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
