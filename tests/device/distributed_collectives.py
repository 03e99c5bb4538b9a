"""Collectives of the nccl process group. Each function named check_* runs on both ranks."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tests.device.distributed_ranks import (
    DEVICE,
    PATIENCE,
    RANK,
    RANKS,
    SIZES,
    contributions,
    meet,
    raises,
    same,
    values,
)

# ---- reductions ----

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn,
)  # fmt: skip


def check_all_reduce() -> None:
    for size in SIZES:
        for dtype in DTYPES:
            all_ranks = contributions(size, dtype)
            truths = {
                dist.ReduceOp.SUM: all_ranks.max(0) if dtype == torch.bool else all_ranks.sum(0),
                dist.ReduceOp.PRODUCT: all_ranks.prod(0),
                dist.ReduceOp.MIN: all_ranks.min(0),
                dist.ReduceOp.MAX: all_ranks.max(0),
            }
            if dtype != torch.bool:
                mean = all_ranks.sum(0) / RANKS
                truths[dist.ReduceOp.AVG] = mean if dtype.is_floating_point else np.trunc(mean)
            for op, truth in truths.items():
                tensor = values(RANK, size, dtype).cuda()
                dist.all_reduce(tensor, op=op)
                same(tensor, truth)


def check_rounding() -> None:
    # 1 + 2^-8 is no bfloat16; the sum is formed in float32 and rounded once, to even.
    tensor = torch.tensor([1.0, 0.1], dtype=torch.bfloat16, device=DEVICE) + RANK
    parts = torch.stack([torch.tensor([1.0, 0.1], dtype=torch.bfloat16) + rank for rank in range(RANKS)])
    dist.all_reduce(tensor)
    same(tensor, parts.float().sum(0).bfloat16().double())
    tensor = torch.tensor([-7], device=DEVICE)
    dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
    same(tensor, [-7])
    tensor = torch.tensor([-7 + RANK * 2, 200], device=DEVICE)
    dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
    same(tensor, [-6, 200])
    tensor = torch.tensor([200], dtype=torch.uint8, device=DEVICE)
    dist.all_reduce(tensor)
    same(tensor, [400 % 256])
    tensor = torch.tensor([float("nan") if RANK else 3.0], device=DEVICE)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    same(tensor, [3.0])


def check_premul_sum() -> None:
    for factor in (2.0 + RANK, torch.tensor([2.0 + RANK], device=DEVICE)):
        tensor = torch.full((3,), 1.0 + RANK, device=DEVICE)
        dist.all_reduce(tensor, op=dist._make_nccl_premul_sum(factor))
        same(tensor, [1 * 2 + 2 * 3] * 3)


def check_complex() -> None:
    tensor = torch.full((3,), complex(1 + RANK, 2), device=DEVICE)
    dist.all_reduce(tensor)
    assert tensor.tolist() == [complex(3, 4)] * 3


def check_reduce() -> None:
    for size in SIZES:
        own = values(RANK, size, torch.float32)
        tensor = own.cuda()
        dist.reduce(tensor, 1)
        same(tensor, contributions(size, torch.float32).sum(0) if RANK == 1 else own)


def check_reduce_scatter() -> None:
    for size in SIZES:
        parts = [values(RANK + 2 * part, size, torch.float32) for part in range(RANKS)]
        truth = sum(values(rank + 2 * RANK, size, torch.float32).double() for rank in range(RANKS))
        output = torch.empty(size, device=DEVICE)
        dist.reduce_scatter(output, [part.cuda() for part in parts])
        same(output, truth)
        output.zero_()
        dist.reduce_scatter_tensor(output, torch.cat(parts).cuda(), op=dist.ReduceOp.AVG)
        same(output, truth / RANKS)


# ---- movement ----


def check_broadcast() -> None:
    for dtype in (*DTYPES, torch.float8_e5m2):
        tensor = values(RANK, 7, dtype).cuda()
        dist.broadcast(tensor, 1)
        same(tensor, values(1, 7, dtype).double())


def check_all_gather() -> None:
    truth = [values(rank, 6, torch.float32) for rank in range(RANKS)]
    outputs = [torch.empty(2, 3, device=DEVICE).t() for _ in range(RANKS)]  # not contiguous
    dist.all_gather(outputs, truth[RANK].reshape(3, 2).cuda())
    for output, expected in zip(outputs, truth, strict=True):
        same(output, expected.reshape(3, 2))
    unequal = [torch.empty(rank + 1, device=DEVICE) for rank in range(RANKS)]
    dist.all_gather(unequal, torch.full((RANK + 1,), float(RANK), device=DEVICE))
    same(unequal[1], [1, 1])
    whole = torch.empty(12, device=DEVICE)
    dist.all_gather_into_tensor(whole, truth[RANK].cuda())
    same(whole, torch.cat(truth))


def check_all_to_all() -> None:
    lists = [
        [torch.full((rank + part + 1,), 10.0 * rank + part) for part in range(RANKS)] for rank in range(RANKS)
    ]
    outputs = [torch.empty(rank + RANK + 1, device=DEVICE) for rank in range(RANKS)]
    dist.all_to_all(outputs, [part.cuda() for part in lists[RANK]])
    for rank in range(RANKS):
        same(outputs[rank], lists[rank][RANK])
    sent, received = [RANK + 1, RANK + 2], [RANK + 1, RANK + 2]
    joined = torch.empty(sum(received), device=DEVICE)
    dist.all_to_all_single(joined, torch.cat(lists[RANK]).cuda(), received, sent)
    same(joined, torch.cat([lists[rank][RANK] for rank in range(RANKS)]))
    even = torch.empty(4, device=DEVICE)
    dist.all_to_all_single(even, torch.arange(4.0, device=DEVICE) + 10 * RANK)
    same(even, [2 * RANK, 2 * RANK + 1, 10 + 2 * RANK, 11 + 2 * RANK])
    with raises(RuntimeError, "Split sizes doesn't match total dim 0 size"):
        dist.all_to_all_single(even, even.clone(), [1, 1], [2, 2])


def check_gather_and_scatter() -> None:
    outputs = [torch.empty(3, device=DEVICE) for _ in range(RANKS)] if RANK == 0 else None
    dist.gather(torch.full((3,), float(RANK), device=DEVICE), outputs, 0)
    if outputs is not None:
        same(torch.cat(outputs), [0, 0, 0, 1, 1, 1])
    received = torch.empty(2, device=DEVICE)
    inputs = [torch.full((2,), 5.0 + rank, device=DEVICE) for rank in range(RANKS)] if RANK == 1 else None
    dist.scatter(received, inputs, 1)
    same(received, [5 + RANK] * 2)


def check_send_and_receive() -> None:
    tensors = [torch.full((4,), float(i), device=DEVICE) for i in range(3)]
    if RANK == 0:
        for tensor in tensors:
            dist.send(tensor, 1)
    else:
        for i in range(3):
            tensor = torch.empty(4, device=DEVICE)
            dist.recv(tensor, 0)
            same(tensor, [i] * 4)
    # Both send first: in a batch nobody waits for the other.
    received = torch.empty(100_000, device=DEVICE)
    sent = torch.full_like(received, float(RANK))
    batch = [dist.P2POp(dist.isend, sent, 1 - RANK), dist.P2POp(dist.irecv, received, 1 - RANK)]
    for work in dist.batch_isend_irecv(batch):
        work.wait()
    same(received[:2], [1 - RANK] * 2)
    works = [dist.irecv(received, 1 - RANK), dist.isend(sent + 1, 1 - RANK)]
    for request in works:
        assert request is not None
        request.wait()
    same(received[:2], [2 - RANK] * 2)
    with raises(NotImplementedError, "ProcessGroupNCCL does not support recvAnysource"):
        dist.recv(received)


def check_objects() -> None:
    gathered: list[Any] = [None] * RANKS
    dist.all_gather_object(gathered, {"rank": RANK})
    assert gathered == [{"rank": 0}, {"rank": 1}]
    received = [["from", 1] if RANK == 1 else None]
    dist.broadcast_object_list(received, 1)
    assert received == [["from", 1]]


def check_coalesced() -> None:
    tensors = [torch.full((3,), float(i + RANK), device=DEVICE) for i in range(3)]
    with dist._coalescing_manager(device=DEVICE):
        for tensor in tensors:
            dist.all_reduce(tensor)
    for i, tensor in enumerate(tensors):
        same(tensor, [2 * i + 1] * 3)
    wholes = [torch.empty(6, device=DEVICE) for _ in tensors]
    with dist._coalescing_manager(device=DEVICE, async_ops=True) as manager:
        for whole, tensor in zip(wholes, tensors, strict=True):
            dist.all_gather_into_tensor(whole, tensor + RANK)
    manager.wait()
    for i, whole in enumerate(wholes):
        same(whole, [2 * i + 1] * 3 + [2 * i + 2] * 3)
    parts = [torch.empty(3, device=DEVICE) for _ in tensors]
    with dist._coalescing_manager(device=DEVICE):
        for part, whole in zip(parts, wholes, strict=True):
            dist.reduce_scatter_tensor(part, whole)
    for i, part in enumerate(parts):
        same(part, [2 * (2 * i + 1 + RANK)] * 3)


# ---- work objects, time, errors ----


def check_async() -> None:
    first = torch.ones(3, device=DEVICE)
    if RANK == 1:
        time.sleep(0.5)
    work = dist.all_reduce(first, async_op=True)
    if RANK == 0:
        assert not work.is_completed()
    again = dist.all_reduce(first, async_op=True)  # after the first, though nobody waited for that
    again.wait()
    assert work.is_completed()
    same(first, [4] * 3)
    future = again.get_future()
    assert future.done()
    (value,) = future.value()
    same(value, [4] * 3)
    doubled = future.then(lambda done: done.value()[0] * 2).wait()
    same(doubled, [8] * 3)


def check_future_of_a_collective_that_ends() -> None:
    # The future is asked for at any moment around the end of the work, and must be completed once.
    tensor = torch.ones(1, device=DEVICE)
    for _ in range(1000):
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, async_op=True).get_future().wait()
    same(tensor, [1])


def check_synchronize_waits() -> None:
    tensor = torch.ones(3, device=DEVICE)
    if RANK == 1:
        time.sleep(0.3)
    dist.all_reduce(tensor, async_op=True)
    torch.cuda.synchronize()
    same(tensor, [2] * 3)


def check_profile() -> None:
    tensor = torch.ones(2, device=DEVICE)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True
    ) as profile:
        for _ in range(3):
            dist.all_reduce(tensor)
        dist.broadcast(tensor, 0)
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["nccl:all_reduce"] == 3, counts
    assert counts["nccl:broadcast"] == 1, counts
    shapes = [event.input_shapes for event in profile.events() if event.name == "nccl:all_reduce"]
    assert shapes == [[[2]]] * 3, shapes


def check_barrier() -> None:
    store = dist.distributed_c10d._get_default_store()
    if RANK == 1:
        time.sleep(0.5)
        store.set("barrier", str(time.monotonic()))  # one clock for all processes of a machine
    dist.barrier(device_ids=[RANK])
    left = time.monotonic()
    assert left >= float(store.get("barrier"))


def check_extended_timeouts() -> None:
    """They hold until the first operation that has them ends."""
    group = dist.new_group()
    tensor = torch.ones(3, device=DEVICE)
    dist.all_reduce(tensor, group=group)
    backend = group._get_backend(DEVICE)
    usual: timedelta = backend.options._timeout
    backend._add_ephemeral_timeout(timedelta(seconds=2))
    backend._add_ephemeral_timeout(timedelta(seconds=1))
    if RANK == 1:
        time.sleep(0.3)  # no operation ends on rank 0 before it has begun them all
    first, second = (dist.all_reduce(tensor, group=group, async_op=True) for _ in range(2))
    backend._add_ephemeral_timeout(timedelta(seconds=4))
    third = dist.all_reduce(tensor, group=group, async_op=True)
    if RANK == 0:
        for work, extra in ((first, 3), (second, 3), (third, 7)):
            assert backend._verify_work_timeout(work, usual + timedelta(seconds=extra))
    for work in (first, second, third):
        work.wait()
    last = dist.all_reduce(tensor, group=group, async_op=True)
    last.wait()
    assert backend._verify_work_timeout(last, usual)


def check_timeout() -> None:
    group = dist.new_group()
    tensor = torch.ones(3, device=DEVICE)
    dist.all_reduce(tensor, group=group)
    group._get_backend(DEVICE)._set_default_timeout(timedelta(seconds=1))
    if RANK == 0:
        with raises(
            dist.DistBackendError, "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType="
        ):
            dist.all_reduce(tensor, group=group)
        with raises(dist.DistBackendError, "NCCL communicator was aborted on rank 0"):
            dist.all_reduce(tensor, group=group)
    patient = dist.new_group()
    dist.all_reduce(tensor, group=patient)
    if RANK == 0:
        work = dist.all_reduce(tensor, group=patient, async_op=True)
        started = time.monotonic()
        with raises(dist.DistBackendError, "milliseconds before timing out"):
            work.wait(timedelta(seconds=0.3))
        assert time.monotonic() - started < PATIENCE.total_seconds() / 2
    meet("timed out")


def check_mismatch() -> None:
    group = dist.new_group()
    with raises(dist.DistBackendError, "expects"):
        dist.all_reduce(torch.ones(3 + RANK, device=DEVICE), group=group)
    group = dist.new_group()
    # The root of a broadcast receives nothing; it learns of it when the other rank gives up.
    with raises(
        dist.DistBackendError, "Every rank has to issue the same collectives" if RANK else "NCCL error"
    ):
        tensor = torch.ones(3, device=DEVICE)
        dist.all_reduce(tensor, group=group) if RANK else dist.broadcast(tensor, 0, group=group)


def check_abort() -> None:
    group = dist.new_group()
    tensor = torch.ones(3, device=DEVICE)
    dist.all_reduce(tensor, group=group)
    work = dist.all_reduce(tensor, group=group, async_op=True) if RANK == 0 else None
    group._get_backend(DEVICE).abort()
    if work is not None:
        with raises(dist.DistBackendError, "abort"):
            work.wait()
    with raises(dist.DistBackendError, "the process group was aborted by the program"):
        dist.all_reduce(tensor, group=group)


def check_duplicate_gpu() -> None:
    store = dist.PrefixStore("duplicate", dist.distributed_c10d._get_default_store())
    group = dist.ProcessGroupNCCL(store, RANK, RANKS)
    text = f"Duplicate GPU detected : rank {RANK} and rank {1 - RANK} both on CUDA device 1000"
    with raises(dist.DistBackendError, text):
        group.allreduce([torch.ones(2, device="cuda:0")])


def check_refusals() -> None:
    tensor = torch.ones(3, device=DEVICE)
    for op in ("BAND", "BOR", "BXOR"):
        with raises(ValueError, f"Cannot use ReduceOp.{op} with NCCL"):
            dist.all_reduce(tensor.int(), op=getattr(dist.ReduceOp, op))
    with raises(RuntimeError, "No backend type associated with device type cpu"):
        dist.all_reduce(torch.ones(3))
    with raises(ValueError, "Tensors must be contiguous"):
        dist.all_reduce(torch.ones(4, 4, device=DEVICE)[:, 1])
    with raises(TypeError, "not supported for NCCL process group"):
        dist.all_reduce(tensor.short())
    with raises(TypeError, "Cannot use ReduceOp.AVG with boolean inputs"):
        dist.all_reduce(tensor.bool(), op=dist.ReduceOp.AVG)
    with raises(ValueError, "output tensor size must be equal to world_size times input tensor size"):
        dist.all_gather_into_tensor(tensor, tensor)
    with raises(RuntimeError, "SymmetricMemory"):
        from torch.distributed import _symmetric_memory

        _symmetric_memory.rendezvous(_symmetric_memory.empty(4, device=DEVICE), dist.group.WORLD)


def check_cuda_graph() -> None:
    tensor = torch.full((3,), 1.0 + RANK, device=DEVICE)
    whole = torch.zeros(6, device=DEVICE)
    dist.all_reduce(torch.ones(1, device=DEVICE))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = tensor * 2
        dist.all_reduce(doubled)
        dist.all_gather_into_tensor(whole, doubled + RANK)
    same(tensor, [1 + RANK] * 3)  # the capture itself leaves nothing behind
    same(whole, [0] * 6)
    graph.replay()
    same(whole, [6] * 3 + [7] * 3)
    tensor.fill_(5)
    graph.replay()
    same(doubled, [20] * 3)
    same(whole, [20] * 3 + [21] * 3)


def check_cuda_graph_of_all_collectives() -> None:
    own = torch.arange(4.0, device=DEVICE)
    outputs = [torch.zeros(4, device=DEVICE) for _ in range(3)]
    parts = [torch.zeros(2, device=DEVICE) for _ in range(RANKS)]
    half = torch.zeros(2, device=DEVICE)

    def program() -> None:
        outputs[0].copy_(own)
        dist.broadcast(outputs[0], 1)
        outputs[1].copy_(own)
        dist.all_reduce(outputs[1], op=dist.ReduceOp.MAX, async_op=True).wait()
        dist.all_to_all_single(outputs[2], own)
        dist.reduce_scatter_tensor(half, own)
        dist.all_gather(parts, half)

    program()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        program()
    for number in (1, 2, 3):
        mine = [float(number * 10 + rank + element) for rank in range(RANKS) for element in range(4)]
        own.copy_(torch.tensor(mine[RANK * 4 : RANK * 4 + 4]))
        for output in (*outputs, *parts, half):
            output.zero_()
        graph.replay()
        zero, one = mine[:4], mine[4:]
        total = [left + right for left, right in zip(zero, one, strict=True)]
        same(outputs[0], one)
        same(outputs[1], one)
        same(outputs[2], zero[RANK * 2 : RANK * 2 + 2] + one[RANK * 2 : RANK * 2 + 2])
        same(half, total[RANK * 2 : RANK * 2 + 2])
        same(parts[0], total[:2])
        same(parts[1], total[2:])


# ---- groups ----


def check_groups() -> None:
    assert dist.get_backend() == "nccl"
    assert dist.is_nccl_available()
    assert isinstance(dist.group.WORLD._get_backend(DEVICE), dist.ProcessGroupNCCL)
    tensor = torch.ones(2, device=DEVICE)
    alone = [dist.new_group([rank]) for rank in range(RANKS)][RANK]
    dist.all_reduce(tensor, group=alone)
    same(tensor, [1, 1])
    halves = dist.split_group(split_ranks=[[0], [1]])
    dist.all_reduce(tensor, group=halves)
    same(tensor, [1, 1])
    both = dist.split_group(split_ranks=[[0, 1]])
    dist.all_reduce(tensor, group=both)
    same(tensor, [2, 2])
    mixed = dist.new_group(backend="cpu:gloo,cuda:nccl")
    host = torch.ones(2)
    dist.all_reduce(host, group=mixed)
    dist.all_reduce(tensor, group=mixed)
    assert host.tolist() == [2, 2]
    same(tensor, [4, 4])


def check_options() -> None:
    options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True)
    options.config.max_ctas = 4
    options._timeout = timedelta(seconds=7)
    group = dist.new_group(pg_options=options, timeout=timedelta(seconds=7))
    kept = group._get_backend(DEVICE).options
    assert kept.config.max_ctas == 4
    assert kept.is_high_priority_stream
    assert kept._timeout == timedelta(seconds=7)
    with raises(AttributeError, "no field"):
        options.config.max_cats = 4
    assert torch.cuda.nccl.version() >= (2, 19)
