"""What trains over the nccl process group. Each function named check_* runs on both ranks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tests.device.distributed_ranks import DEVICE, RANK, RANKS, raises, same, values

# ---- training ----


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).cuda()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 16, generator=generator).cuda(), torch.randn(8, 8, generator=generator).cuda()


def train(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def alone() -> list[torch.Tensor]:
    """Parameters after training in one process on the whole batch."""
    model = network()
    train(model, *batch())
    return [parameter.detach() for parameter in model.parameters()]


def share() -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = batch()
    return inputs[RANK * 4 : RANK * 4 + 4], targets[RANK * 4 : RANK * 4 + 4]


def close(parameters: Any, tolerance: float = 1e-6) -> None:
    for parameter, truth in zip(parameters, alone(), strict=True):
        torch.testing.assert_close(parameter.detach(), truth, atol=tolerance, rtol=0)


def check_ddp() -> None:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    for settings in (
        {},
        {"find_unused_parameters": True},
        {"static_graph": True},
        {"gradient_as_bucket_view": True},
    ):
        model = nn.parallel.DistributedDataParallel(network(), device_ids=[RANK], **settings)
        train(model, *share())
        close(model.parameters())
    for hook, tolerance in (
        (default_hooks.fp16_compress_hook, 1e-4),
        (default_hooks.bf16_compress_hook, 1e-3),
    ):
        model = nn.parallel.DistributedDataParallel(network(), device_ids=[RANK])
        model.register_comm_hook(None, hook)
        train(model, *share())
        close(model.parameters(), tolerance)


def check_ddp_powersgd() -> None:
    # A hook whose callbacks issue collectives: they must come in one order on all ranks.
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    model = nn.parallel.DistributedDataParallel(network(), device_ids=[RANK], bucket_cap_mb=0.001)
    state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=2, start_powerSGD_iter=2)
    model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    train(model, *share(), steps=6)
    weight = model.module[0].weight.detach()
    both = [torch.empty_like(weight) for _ in range(RANKS)]
    dist.all_gather(both, weight)
    assert torch.equal(both[0], both[1])


def check_cuda_graph_of_ddp() -> None:
    inputs, targets = share()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        model = nn.parallel.DistributedDataParallel(network(), device_ids=[RANK])
        for _ in range(11):  # what DistributedDataParallel asks for before a capture
            nn.functional.mse_loss(model(inputs), targets).backward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    model.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        nn.functional.mse_loss(model(inputs), targets).backward()
    for _ in range(3):
        graph.replay()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    close(model.parameters())


def check_ddp_no_sync() -> None:
    model = nn.parallel.DistributedDataParallel(network(), device_ids=[RANK])
    inputs, targets = share()
    with model.no_sync():
        nn.functional.mse_loss(model(inputs), targets).backward()
    own = model.module[0].weight.grad.clone()
    both = [torch.empty_like(own) for _ in range(RANKS)]
    dist.all_gather(both, own)
    assert not torch.equal(both[0], both[1])


def check_fsdp() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(network(), device_id=RANK)
    train(model, *share())
    with FullyShardedDataParallel.summon_full_params(model):
        close(model.parameters())


def check_fsdp2() -> None:
    from torch.distributed.fsdp import fully_shard

    model = network()
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    train(model, *share())
    close([parameter.full_tensor() for parameter in model.parameters()])


def check_dtensor() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cuda", (RANKS,))
    left, right = (
        values(1, 48, torch.float32).view(8, 6).cuda(),
        values(2, 24, torch.float32).view(6, 4).cuda(),
    )
    dist.broadcast(left, 0)
    product = distribute_tensor(left, mesh, [Shard(1)]) @ distribute_tensor(right, mesh, [Shard(0)])
    same(product.redistribute(mesh, [Replicate()]).to_local(), (left @ right).double().cpu())
    moved = distribute_tensor(left, mesh, [Shard(0)]).redistribute(mesh, [Shard(1)])
    same(moved.to_local(), left[:, RANK * 3 : RANK * 3 + 3].double().cpu())


def check_tensor_parallel() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    inputs, _ = batch()
    truth = network()(inputs)
    mesh = init_device_mesh("cuda", (RANKS,))
    model = parallelize_module(network(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    torch.testing.assert_close(model(inputs), truth, atol=1e-6, rtol=0)


def check_functional() -> None:
    import torch.distributed._functional_collectives as functional

    tensor = torch.full((2,), 1.0 + RANK, device=DEVICE)
    same(functional.all_reduce(tensor, "sum", [0, 1]) + 0, [3, 3])
    whole = functional.all_gather_tensor(tensor, 0, [0, 1])
    same(whole + 0, [1, 1, 2, 2])
    same(functional.reduce_scatter_tensor(whole, "avg", 0, [0, 1]) + 0, [1 + RANK] * 2)
    same(functional.all_to_all_single(whole, None, None, [0, 1]) + 0, [1 + RANK] * 4)


def check_checkpoint() -> None:
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.fsdp import fully_shard

    folder = str(Path(sys.argv[1]) / "checkpoint")
    saved, loaded = fully_shard(network()), network()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    fully_shard(loaded)
    checkpoint.save({"model": saved.state_dict()}, checkpoint_id=folder)
    state = {"model": loaded.state_dict()}
    checkpoint.load(state, checkpoint_id=folder)
    for parameter, truth in zip(loaded.parameters(), network().parameters(), strict=True):
        assert torch.equal(parameter.full_tensor(), truth)


# ---- one process, two devices ----


def check_comm() -> None:
    from torch.cuda import comm, nccl

    tensor = torch.arange(6.0, device="cuda:0").view(3, 2)
    copies = comm.broadcast(tensor, (0, 1))
    assert copies[0] is tensor
    assert copies[1].device.index == 1
    assert torch.equal(copies[1].cpu(), tensor.cpu())
    pieces = comm.scatter(tensor, (0, 1), chunk_sizes=(1, 2))
    assert [piece.tolist() for piece in pieces] == [[[0, 1]], [[2, 3], [4, 5]]]
    assert pieces[1].device.index == 1
    assert comm.gather(pieces, destination=1).tolist() == tensor.tolist()
    assert comm.reduce_add([tensor, copies[1]], destination=1).tolist() == (2 * tensor).tolist()
    (first, second), (third, _) = comm.broadcast_coalesced([tensor, tensor + 1], (0, 1))
    assert first.device.index == 0
    assert third.device.index == 1
    assert second.tolist() == (tensor + 1).tolist()
    with raises(RuntimeError, "Expected devices and chunk_sizes to be of same length"):
        comm.scatter(tensor, (0, 1), chunk_sizes=(1, 1, 1))
    both = [torch.full((4,), 1.0 + index, device=f"cuda:{index}") for index in range(2)]
    nccl.all_reduce(both)
    assert [one.tolist() for one in both] == [[3.0] * 4] * 2
    outputs = [torch.empty(8, device=f"cuda:{index}") for index in range(2)]
    nccl.all_gather(both, outputs)
    assert outputs[1].tolist() == [3.0] * 8
    with raises(RuntimeError, "inputs must be on unique devices"):
        nccl.all_reduce([both[0], both[0]])


def check_data_parallel() -> None:
    inputs, _ = batch()
    model = network().to("cuda:0")
    inputs = inputs.to("cuda:0")
    torch.cuda.set_device(0)
    try:
        parallel = nn.DataParallel(model, device_ids=[0, 1])
        output = parallel(inputs)
        torch.testing.assert_close(output, model(inputs))
        output.sum().backward()
        gradient = model[0].weight.grad.clone()
        model.zero_grad()
        model(inputs).sum().backward()
        torch.testing.assert_close(gradient, model[0].weight.grad)
    finally:
        torch.cuda.set_device(RANK)
