"""torch.cuda's memory functions, as programs use them."""

from __future__ import annotations

import gc
import inspect
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

core = sys.modules["heitu_core"]

MIB = 1 << 20
TELLS_POOLS = torch.__version__ >= "2.11"
CACHES_OPTIONALLY = hasattr(torch.cuda.memory, "caching_allocator_disabled")
SKIPS_ACTIONS = "skip_actions" in inspect.signature(torch.cuda.memory._record_memory_history_impl).parameters


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    torch.cuda.init()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_accumulated_memory_stats()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.empty_cache()


def device_bytes(size: int, device: str = "cuda") -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def test_allocated_and_peak_follow_tensors() -> None:
    before = torch.cuda.memory_allocated()
    x = device_bytes(1000)
    y = device_bytes(3 * MIB)
    assert torch.cuda.memory_allocated() - before == 1024 + 3 * MIB
    del y
    assert torch.cuda.memory_allocated() - before == 1024
    assert torch.cuda.max_memory_allocated() - before == 1024 + 3 * MIB
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() - before == 1024
    assert torch.cuda.memory_reserved() >= 22 * MIB
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == 2 * MIB
    del x


def test_results_of_operators_are_device_memory() -> None:
    x = torch.ones(512, 512, device="cuda")
    before = torch.cuda.memory_allocated()
    y = (x @ x).relu_()
    assert torch.cuda.memory_allocated() - before == MIB
    view = y[1:]
    del y
    assert torch.cuda.memory_allocated() - before == MIB, "a view keeps its storage"
    del view
    assert torch.cuda.memory_allocated() == before


def test_memory_of_each_device_is_its_own() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    before = torch.cuda.memory_allocated(1)
    x = device_bytes(5 * MIB, "cuda:1")
    assert torch.cuda.memory_allocated(1) - before == 5 * MIB
    del x


def test_zero_bytes_take_no_memory() -> None:
    x = device_bytes(0)
    assert x.data_ptr() == 0
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == 0


def test_mem_get_info_is_capacity_less_reserved() -> None:
    free, total = torch.cuda.mem_get_info()
    assert total == torch.cuda.get_device_properties(0).total_memory
    x = device_bytes(30 * MIB)
    assert torch.cuda.mem_get_info() == (free - 30 * MIB, total)
    del x


def test_memory_summary_and_stats_have_all_keys() -> None:
    x = device_bytes(100)
    stats = torch.cuda.memory_stats()
    assert {"num_ooms", "num_device_alloc", "max_split_size", "oversize_segments.peak"} <= set(stats)
    assert stats["num_device_alloc"] == 1
    assert "| Allocated memory      |    512 B   |" in torch.cuda.memory_summary()
    del x


class TestOutOfMemory:
    TEXT = (
        r"CUDA out of memory\. Tried to allocate 1024\.00 GiB\. GPU 0 has a total capacity of \S+ GiB of "
        r"which \S+ GiB is free\. Including non-PyTorch memory, this process has \S+ \w+ memory in use\. "
        r"(\S+ GiB allowed; )?Of the allocated memory \S+ \w+ is allocated by PyTorch, "
        r"and \S+ \w+ is reserved by PyTorch but unallocated\. "
        r"If reserved but unallocated memory is large try setting \w+=expandable_segments:True"
    )

    def test_beyond_capacity(self) -> None:
        kept = device_bytes(MIB)
        cached = device_bytes(40 * MIB)
        del cached
        with pytest.raises(torch.OutOfMemoryError, match=self.TEXT) as failure:
            device_bytes(1 << 40)
        assert "host" not in str(failure.value)
        stats = torch.cuda.memory_stats()
        assert (stats["num_ooms"], stats["num_alloc_retries"]) == (1, 1)
        assert torch.cuda.memory_reserved() == 2 * MIB, "cached segments were not given back first"
        kept.fill_(1)
        assert int(device_bytes(8 * MIB).fill_(2).sum()) == 16 * MIB, "the allocator is sound afterwards"
        assert issubclass(torch.cuda.OutOfMemoryError, RuntimeError)

    def test_absurd_sizes(self) -> None:
        with pytest.raises(torch.OutOfMemoryError, match="more than 1EB memory"):
            device_bytes(1 << 61)

    def test_the_hosts_memory_is_named_when_it_is_the_limit(self) -> None:
        free, _ = torch.cuda.mem_get_info()
        with open("/proc/meminfo") as file:
            host = int(re.search(r"MemTotal:\s+(\d+)", file.read())[1]) * 1024
        if free <= host:
            pytest.skip("the device is smaller than the host")
        with pytest.raises(torch.OutOfMemoryError, match="The limit that was met is the memory of the host"):
            device_bytes(host + MIB)

    def test_fraction_limits_the_process(self) -> None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(64 * MIB / total)
        try:
            kept = device_bytes(40 * MIB)
            with pytest.raises(torch.OutOfMemoryError, match=r"64\.00 MiB allowed; Of the allocated"):
                device_bytes(40 * MIB)
            del kept
            device_bytes(60 * MIB)  # the cached segment goes first
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert torch.cuda.get_per_process_memory_fraction() == 1.0

    def test_observers_are_called(self) -> None:
        seen: list[tuple[int, ...]] = []
        torch._C._cuda_attach_out_of_memory_observer(lambda *facts: seen.append(facts))
        with pytest.raises(torch.OutOfMemoryError):
            device_bytes(1 << 40)
        total = torch.cuda.mem_get_info()[1]
        assert seen == [(0, 1 << 40, total, total - torch.cuda.memory_reserved())]


class TestStreams:
    def test_recorded_block_waits_until_the_stream_is_idle(self) -> None:
        stream = torch.cuda.Stream()
        x = device_bytes(4096)
        address = x.data_ptr()
        x.record_stream(stream)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(2_000_000_000)  # about a second of the stream's time
        del x
        stats = torch.cuda.memory_stats()
        assert (stats["allocation.all.current"], stats["active.all.current"]) == (0, 1)
        y = device_bytes(4096)
        assert y.data_ptr() != address, "memory was reused while the stream was busy"
        stream.synchronize()
        z = device_bytes(4096)
        assert torch.cuda.memory_stats()["active.all.current"] == 2
        assert address in (z.data_ptr(), device_bytes(4096).data_ptr())

    def test_memory_returns_to_the_stream_it_came_from(self) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            x = device_bytes(4096)
        address = x.data_ptr()
        del x
        assert device_bytes(4096).data_ptr() != address
        with torch.cuda.stream(stream):
            assert device_bytes(4096).data_ptr() == address


class TestPools:
    def test_allocations_are_routed(self) -> None:
        pool = torch.cuda.MemPool()
        assert pool.use_count() == 1
        with torch.cuda.use_mem_pool(pool):
            assert pool.use_count() == 2
            x = device_bytes(100)
        assert pool.use_count() == 1
        y = device_bytes(100)
        (segment,) = pool.snapshot()
        assert segment["segment_pool_id"] == pool.id
        assert segment["address"] <= x.data_ptr() < segment["address"] + segment["total_size"]
        assert not segment["address"] <= y.data_ptr() < segment["address"] + segment["total_size"]
        first, second = pool.id
        name = f"reserved_bytes_by_private_pools.{first}_{second}.all.current"
        assert torch.cuda.memory_stats().get(name) == (2 * MIB if TELLS_POOLS else None)
        del x
        torch.cuda.empty_cache()
        assert len(pool.snapshot()) == 1, "a living pool keeps its segments"
        del pool
        gc.collect()
        assert torch.cuda.memory_stats().get(name) == (0 if TELLS_POOLS else None)
        del y

    @pytest.mark.skipif(torch.__version__ < "2.8", reason="this torch routes all threads")
    def test_other_threads_are_not_routed(self) -> None:
        pool = torch.cuda.MemPool()
        made: list[torch.Tensor] = []
        with torch.cuda.use_mem_pool(pool):
            thread = threading.Thread(target=lambda: made.append(device_bytes(100)))
            thread.start()
            thread.join()
        assert pool.snapshot() == []

    def test_memory_outlives_its_pool(self) -> None:
        pool = torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(pool):
            x = torch.full((1000,), 3, device="cuda")
        del pool
        gc.collect()
        assert int(x.sum()) == 3000
        del x
        torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved() == 0

    @pytest.mark.skipif(torch.__version__ < "2.9", reason="pools of this torch have no options")
    def test_no_split(self) -> None:
        pool = torch.cuda.MemPool(no_split=True)
        with torch.cuda.use_mem_pool(pool):
            x, y = device_bytes(100), device_bytes(100)
        assert [len(segment["blocks"]) for segment in pool.snapshot()] == [1, 1]
        del x, y

    @pytest.mark.skipif(torch.__version__ < "2.9", reason="pools of this torch have no options")
    def test_use_on_oom(self) -> None:
        pool = torch.cuda.MemPool(use_on_oom=True)
        with torch.cuda.use_mem_pool(pool):
            x = device_bytes(40 * MIB)
        address = x.data_ptr()
        del x
        torch.cuda.set_per_process_memory_fraction(50 * MIB / torch.cuda.mem_get_info()[1])
        try:
            assert device_bytes(40 * MIB).data_ptr() == address
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def test_checkpoint_is_restored(self) -> None:
        pool = core.new_pool_id(False)
        core.begin_allocate_to_pool(0, pool)
        first, second = core.raw_allocate(1000, 0), core.raw_allocate(3000, 0)
        checkpoint = core.checkpoint_pool(0, pool)
        core.raw_release(first)
        third = core.raw_allocate(9000, 0)
        assert core.pool_live_blocks_equal(0, pool, [second, third])
        core.raw_release(third)
        core.restore_pool(0, checkpoint, [], [])
        assert core.pool_live_blocks_equal(0, pool, [first, second])
        core.raw_release(first)
        core.raw_release(second)
        core.end_allocate_to_pool(0, pool)
        core.release_pool(0, pool)

    def test_foreign_allocators_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="keeps its memory in its own caching allocator"):
            torch.cuda.memory.change_current_allocator(torch.cuda.memory._get_current_allocator())


class TestHistory:
    @pytest.fixture(autouse=True)
    def stop(self) -> Iterator[None]:
        yield
        torch.cuda.memory._record_memory_history(None)

    def test_trace_and_stacks(self, tmp_path: Path) -> None:
        torch.cuda.memory._record_memory_history(stacks="python")
        x = device_bytes(3 * MIB)
        y = device_bytes(100)
        address = y.data_ptr()
        del y
        snapshot = torch.cuda.memory._snapshot()
        actions = [entry["action"] for entry in snapshot["device_traces"][0]]
        assert actions == [
            *("segment_alloc", "alloc") * 2,
            "free_requested",
            "free_completed",
            "snapshot",
        ]
        freed = snapshot["device_traces"][0][-2]
        assert (freed["addr"], freed["size"], freed["pool_id"]) == (address, 100, (0, 0))
        live = [block for s in snapshot["segments"] for block in s["blocks"] if block["frames"]]
        assert len(live) == 1
        names = [frame["name"] for frame in live[0]["frames"]]
        assert names[:2] == ["device_bytes", "test_trace_and_stacks"]
        traceback = core.allocation_traceback(x.data_ptr())
        assert traceback is not None
        assert traceback[0]["filename"].endswith("test_memory.py")
        torch.cuda.memory._dump_snapshot(str(tmp_path / "snapshot.pickle"))
        assert pickle.loads((tmp_path / "snapshot.pickle").read_bytes())["segments"]

    def test_viewer_accepts_snapshots(self) -> None:
        from torch.cuda import _memory_viz

        torch.cuda.memory._record_memory_history()
        x = device_bytes(30 * MIB)
        snapshot = torch.cuda.memory._snapshot()
        assert "total_reserved: 30.0MiB" in _memory_viz.segsum(snapshot)
        assert "cudaMalloc(" in _memory_viz.trace(snapshot)
        assert _memory_viz.trace_plot(snapshot).startswith("\n<!DOCTYPE html>")
        del x

    def test_ring_keeps_the_latest(self) -> None:
        torch.cuda.memory._record_memory_history(max_entries=5)
        for _ in range(10):
            device_bytes(100)
        entries = torch.cuda.memory._snapshot()["device_traces"][0]
        assert len(entries) == 5
        assert entries[-1]["action"] == "snapshot"
        assert [entry["time_us"] for entry in entries] == sorted(entry["time_us"] for entry in entries)

    @pytest.mark.skipif(not SKIPS_ACTIONS, reason="this torch records every action")
    def test_actions_can_be_skipped(self) -> None:
        torch.cuda.memory._record_memory_history(skip_actions=["free_requested"])
        device_bytes(100)
        actions = {e["action"] for e in torch.cuda.memory._snapshot()["device_traces"][0]}
        assert "alloc" in actions
        assert "free_requested" not in actions
        with pytest.raises(RuntimeError, match="Unknown TraceEntry action: nonsense"):
            torch.cuda.memory._record_memory_history(skip_actions=["nonsense"])

    @pytest.mark.skipif(torch.__version__ < "2.10", reason="this torch keeps no metadata")
    def test_metadata(self) -> None:
        torch.cuda.memory._record_memory_history()
        torch.cuda.memory._set_memory_metadata("phase 1")
        x = device_bytes(100)
        torch.cuda.memory._set_memory_metadata("")
        entries = torch.cuda.memory._snapshot()["device_traces"][0]
        assert [e["user_metadata"] for e in entries if e["action"] == "alloc"] == ["phase 1"]
        del x


@pytest.mark.parametrize("start", ["first", "again"])
def test_profiler_sees_memory(start: str) -> None:
    with torch.profiler.profile(profile_memory=True) as profile:
        x = torch.ones(MIB, device="cuda")
    assert sum(event.self_device_memory_usage for event in profile.key_averages()) == 4 * MIB
    del x


class TestRawMemory:
    def test_alloc_and_delete(self) -> None:
        before = torch.cuda.memory_allocated()
        address = torch.cuda.caching_allocator_alloc(1000)
        assert torch.cuda.memory_allocated() - before == 1024
        torch.cuda.caching_allocator_delete(address)
        assert torch.cuda.memory_allocated() == before

    @pytest.mark.skipif(not CACHES_OPTIONALLY, reason="this torch caches always")
    def test_without_caching(self) -> None:
        with torch.cuda.memory.caching_allocator_disabled():
            free = torch.cuda.mem_get_info()[0]
            x = device_bytes(MIB)
            x.fill_(7)
            assert torch.cuda.mem_get_info()[0] < free
            del x
            assert torch.cuda.mem_get_info()[0] == free


class TestPinnedMemory:
    def test_blocks_are_cached(self) -> None:
        torch.cuda.memory.reset_peak_host_memory_stats()
        core.empty_host_cache()
        before = torch.cuda.host_memory_stats()
        x = torch.empty(5000, dtype=torch.uint8, pin_memory=True)
        assert x.is_pinned()
        assert x[10:].is_pinned()
        assert not torch.empty(10).is_pinned()
        address = x.data_ptr()
        stats = torch.cuda.host_memory_stats()
        assert stats["active_bytes.current"] - before["active_bytes.current"] == 8192
        assert stats["num_host_alloc"] - before["num_host_alloc"] == 1
        del x
        y = torch.empty(6000, dtype=torch.uint8).pin_memory()
        assert y.data_ptr() == address
        assert torch.cuda.host_memory_stats()["num_host_alloc"] == stats["num_host_alloc"]
        del y
        torch._C._host_emptyCache()
        after = torch.cuda.host_memory_stats()
        assert after["allocated_bytes.current"] == before["allocated_bytes.current"]

    def test_registered_memory_is_pinned(self) -> None:
        x = torch.empty(1000)
        cudart = torch.cuda.cudart()
        assert not x.is_pinned()
        assert int(cudart.cudaHostRegister(x.data_ptr(), 4000, 0)) == 0
        assert x.is_pinned()
        assert int(cudart.cudaHostRegister(x.data_ptr(), 4000, 0)) == 712
        assert int(cudart.cudaHostUnregister(x.data_ptr())) == 0
        assert not x.is_pinned()
        assert int(cudart.cudaHostUnregister(x.data_ptr())) == 713


OTHER_PROCESS = """
import sys, ctypes, torch, heitu_core as core
handle = tuple(int(word) for word in sys.argv[1:])
address = core.open_shared_memory(handle)
again = core.open_shared_memory(handle)
assert again == address
memory = (ctypes.c_uint8 * 5000).from_address(address)
print(sum(memory))
memory[0] = 99
core.close_shared_memory(again)
memory[1] = 98
core.close_shared_memory(address)
"""


class TestSharing:
    def test_another_process_reads_and_writes(self) -> None:
        x = device_bytes(5000).fill_(2)
        neighbour = device_bytes(300).fill_(5)
        handle = core.share_memory(x.data_ptr())
        result = subprocess.run(
            [sys.executable, "-m", "heitu", "run", "-c", OTHER_PROCESS, *map(str, handle)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == ["10000"]
        assert x[:3].tolist() == [99, 98, 2]
        assert set(neighbour.tolist()) == {5}

    def test_released_memory_cannot_be_opened(self) -> None:
        x = device_bytes(30 * MIB)
        handle = core.share_memory(x.data_ptr())
        del x
        torch.cuda.empty_cache()
        with pytest.raises(RuntimeError, match="CUDA IPC: cannot open"):
            core.open_shared_memory(handle)


def test_a_forked_child_can_free(tmp_path: Path) -> None:
    program = """
import os, threading, torch
def churn(stop):
    while not stop.is_set():
        torch.empty(1000, device="cuda")
stop = threading.Event()
threads = [threading.Thread(target=churn, args=(stop,)) for _ in range(2)]
x = torch.ones(1000, device="cuda")
for thread in threads: thread.start()
for _ in range(25):
    child = os.fork()
    if child == 0:
        import heitu_core
        heitu_core.memory_stats(0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
print("done")
"""
    script = tmp_path / "fork.py"
    script.write_text(program)
    result = subprocess.run(
        [sys.executable, "-m", "heitu", "run", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout.strip() == "done", result.stderr
