"""What waits for what: copies, pinned memory, and operators replayed by a CUDA graph."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

BUSY = 400_000_000  # cycles: a fifth of a second


@pytest.fixture(autouse=True)
def initialised() -> None:
    torch.cuda.init()


def _captured(work: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph, result


def test_blocking_copies_wait_for_the_stream() -> None:
    tensor = torch.ones(100, device="cuda")
    for wait in (
        lambda: tensor.cpu(),
        lambda: tensor.sum().item(),
        lambda: tensor.copy_(torch.zeros(100)),
    ):
        torch.cuda._sleep(BUSY)
        assert not torch.cuda.current_stream().query()
        wait()
        assert torch.cuda.current_stream().query()


def test_copies_that_do_not_block_leave_the_stream_busy() -> None:
    pinned = torch.ones(100).pin_memory()
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)
    pinned.to("cuda", non_blocking=True)
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


def test_pinned_memory_in_a_pending_copy_is_not_handed_out() -> None:
    pinned = torch.ones(7).pin_memory()
    address = pinned.data_ptr()
    torch.cuda._sleep(BUSY)
    pinned.to("cuda", non_blocking=True)
    del pinned
    meanwhile = torch.ones(7).pin_memory()
    assert meanwhile.data_ptr() != address
    torch.cuda.synchronize()
    assert torch.ones(7).pin_memory().data_ptr() == address


def test_a_graph_replays_operators_that_size_their_result() -> None:
    x = torch.arange(12.0, device="cuda").reshape(4, 3)

    def work() -> torch.Tensor:
        rows = torch.arange(x.size(0) - 1, -1, -1, device="cuda").view(-1, 1).repeat(1, 3)
        return torch.gather(x, 0, rows)

    graph, result = _captured(work)
    for _ in range(2):
        x.add_(1)
        graph.replay()
        assert torch.equal(result, x.flip(0))


def test_memory_made_empty_in_a_capture_keeps_what_was_written() -> None:
    source = torch.zeros(5, dtype=torch.long, device="cuda")

    def work() -> torch.Tensor:
        made = torch.empty(5, dtype=torch.long, device="cuda")
        made.copy_(source)
        return made

    graph, result = _captured(work)
    source.fill_(3)
    graph.replay()
    assert result.tolist() == [3] * 5


def test_a_graph_draws_from_the_states_it_was_captured_with() -> None:
    generator = torch.cuda.default_generators[0]
    first = generator.graphsafe_get_state()
    second = generator.clone_state()
    second.manual_seed(11)
    second_start = second.get_offset()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(first)
    graph.register_generator_state(second)
    first_start = first.get_offset()
    with torch.cuda.graph(graph):
        torch.rand(4, device="cuda")
        generator.graphsafe_set_state(second)
        drawn = torch.rand(4, device="cuda")
        generator.graphsafe_set_state(first)
    graph.replay()
    assert first.get_offset() == first_start + 4
    assert second.get_offset() == second_start + 4
    torch.cuda.manual_seed(11)
    assert torch.equal(drawn, torch.rand(4, device="cuda"))


def test_a_graph_holds_two_small_blocks_for_each_generator_state() -> None:
    gc.collect()
    before = torch.cuda.memory_stats()["active.all.current"]
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(torch.cuda.default_generators[0].clone_state())
    assert torch.cuda.memory_stats()["active.all.current"] == before + 2
    graph.reset()
    assert torch.cuda.memory_stats()["active.all.current"] == before


def test_an_empty_graph_warns() -> None:
    with pytest.warns(UserWarning, match="The CUDA Graph is empty"):
        _captured(lambda: torch.ones(()))


def test_a_pool_goes_back_to_its_checkpoint() -> None:
    def record(pool: tuple[int, int] | None) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            return graph, torch.ones(512, dtype=torch.uint8, device="cuda")

    def live() -> int:
        blocks = [
            block
            for segment in torch.cuda.memory_snapshot()
            if tuple(segment["segment_pool_id"]) == first.pool()
            for block in segment["blocks"]
        ]
        return sum(block["state"] == "active_allocated" for block in blocks)

    first, kept = record(None)
    state = torch._C._cuda_getCheckpointState(0, first.pool())
    second, stale = record(first.pool())
    assert live() == 2

    torch._C._cuda_setCheckpointPoolState(0, state, [stale.untyped_storage()._cdata], [])
    del stale
    assert live() == 1  # the memory of the stale tensor is not given back a second time

    revived = torch._C._construct_storage_from_data_pointer(kept.data_ptr(), kept.device, 512)
    del kept
    assert live() == 0
    torch._C._cuda_setCheckpointPoolState(0, state, [], [revived._cdata])
    assert live() == 1
    del revived, second
    assert live() == 0
