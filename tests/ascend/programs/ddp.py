"""Trains with DistributedDataParallel, two processes: torchrun --nproc-per-node 2 ddp.py"""

import os

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel


def main():
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 4)).cuda()
    model = DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(rank)
    for step in range(4):
        x = torch.randn(32, 16, generator=generator).cuda()
        loss = nn.functional.cross_entropy(model(x), x[:, :4].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean, op=dist.ReduceOp.SUM)
        if rank == 0:
            print(f"step {step}: loss {mean.item() / 2:.4f}")
    gathered = [torch.empty(1, device="cuda") for _ in range(2)]
    dist.all_gather(gathered, model.module[0].weight.sum().reshape(1))
    if rank == 0:
        print("weights agree", gathered[0].item() == gathered[1].item())
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
