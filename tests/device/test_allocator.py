"""The caching allocator against a model of it: no overlap, exact statistics, everything merges again."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

core = sys.modules["heitu_core"]

KIB, MIB = 1 << 10, 1 << 20
STREAMS = (0, 101, 102)  # ids no pool of streams hands out

sizes = st.one_of(
    st.integers(1, 4 * KIB),
    st.integers(4 * KIB, MIB),
    st.integers(MIB + 1, 12 * MIB),
    st.sampled_from([512, 513, MIB, MIB + 1, 10 * MIB - 1, 10 * MIB, 20 * MIB, 23 * MIB]),
)
# Requests, and releases of the live block at a position (modulo their number).
steps = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), sizes, st.sampled_from(STREAMS)),
        st.tuples(st.just("release"), st.integers(0, 1000), st.just(0)),
    ),
    max_size=60,
)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    torch.cuda.init()
    torch.cuda.empty_cache()
    yield
    torch.cuda.empty_cache()


def rounded(size: int) -> int:
    return max(512, -(-size // 512) * 512)


class Model:
    """Live blocks by address, and what statistics must say of them."""

    def __init__(self) -> None:
        self.live: dict[int, int] = {}  # address -> bytes asked for
        self.base = core.memory_stats(0)

    def statistic(self, name: str, pool: str, field: str) -> int:
        return int(core.memory_stats(0)[name][pool][field] - self.base[name][pool][field])

    def allocate(self, size: int, stream: int) -> None:
        address = core.raw_allocate(size, stream)
        assert address % 512 == 0
        for other, other_size in self.live.items():
            assert address >= other + other_size or other >= address + size, "two live blocks overlap"
        self.live[address] = size

    def release(self, position: int) -> None:
        if self.live:
            address = list(self.live)[position % len(self.live)]
            del self.live[address]
            core.raw_release(address)

    def check(self) -> None:
        for name in ("allocation", "active"):
            assert self.statistic(name, "all", "current") == len(self.live)
        assert self.statistic("requested_bytes", "all", "current") == sum(self.live.values())
        allocated = self.statistic("allocated_bytes", "all", "current")
        least = sum(rounded(size) for size in self.live.values())
        # A block may be up to 1 MiB larger than asked for where the rest was too small to split off.
        assert least <= allocated <= least + MIB * sum(size > MIB for size in self.live.values())
        small = sum(rounded(size) for size in self.live.values() if size <= MIB)
        assert self.statistic("allocated_bytes", "small_pool", "current") == small
        for name in ("allocation", "allocated_bytes", "reserved_bytes", "inactive_split_bytes", "segment"):
            stats = core.memory_stats(0)[name]
            for pool in ("all", "small_pool", "large_pool"):
                assert stats[pool]["current"] == stats[pool]["allocated"] - stats[pool]["freed"]
                assert stats[pool]["peak"] >= stats[pool]["current"]
            for field in ("current", "allocated", "freed"):
                assert stats["all"][field] == stats["small_pool"][field] + stats["large_pool"][field]


@given(steps)
@settings(max_examples=120, deadline=None)
def test_random_use_matches_the_model(actions: list[tuple[str, int, int]]) -> None:
    core.empty_cache()
    core.reset_accumulated_stats(0)
    core.reset_peak_stats(0)
    model = Model()
    peak = 0
    for action, value, stream in actions:
        model.allocate(value, stream) if action == "allocate" else model.release(value)
        model.check()
        peak = max(peak, model.statistic("allocated_bytes", "all", "current"))
        assert model.statistic("allocated_bytes", "all", "peak") == peak
    while model.live:
        model.release(0)
    model.check()
    assert model.statistic("inactive_split", "all", "current") == 0
    for segment in core.memory_snapshot((0, 0), False)["segments"]:
        assert [block["state"] for block in segment["blocks"]] == ["inactive"], "freed blocks did not merge"
        assert segment["blocks"][0]["size"] == segment["total_size"]
    core.empty_cache()
    assert core.memory_stats(0)["reserved_bytes"]["all"]["current"] == 0
    assert core.memory_snapshot((0, 0), False)["segments"] == []


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (21 * MIB + 1, 22 * MIB),
    ],
)
def test_segment_sizes(size: int, segment: int) -> None:
    address = core.raw_allocate(size, 0)
    assert core.memory_stats(0)["reserved_bytes"]["all"]["current"] == segment
    core.raw_release(address)


def test_best_fit_takes_the_smallest_that_is_large_enough() -> None:
    kept, holes = [], {}
    for size in (8192, 2048, 4096, 1024):
        holes[size] = core.raw_allocate(size, 0)
        kept.append(core.raw_allocate(512, 0))
    for address in holes.values():
        core.raw_release(address)
    assert core.raw_allocate(3000, 0) == holes[4096]
    assert core.raw_allocate(2048, 0) == holes[2048]
    assert core.raw_allocate(5000, 0) == holes[8192]
    for address in (*kept, holes[4096], holes[2048], holes[8192]):
        core.raw_release(address)


def test_streams_do_not_share_cached_blocks() -> None:
    first = core.raw_allocate(4096, STREAMS[0])
    core.raw_release(first)
    other = core.raw_allocate(4096, STREAMS[1])
    assert other != first
    again = core.raw_allocate(4096, STREAMS[0])
    assert again == first
    core.raw_release(other)
    core.raw_release(again)


def test_large_remainder_of_a_megabyte_is_not_split_off() -> None:
    whole = core.raw_allocate(12 * MIB, 0)
    core.raw_release(whole)
    address = core.raw_allocate(11 * MIB, 0)  # 1 MiB would remain
    assert address == whole
    assert core.memory_stats(0)["allocated_bytes"]["all"]["current"] == 12 * MIB
    core.raw_release(address)


def test_threads_release_what_others_allocated() -> None:
    blocks: list[int] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(2000):
            address = core.raw_allocate(choose.randint(1, 100_000), 0)
            with lock:
                blocks.append(address)
                victim = blocks.pop(choose.randrange(len(blocks)))
            core.raw_release(victim)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks == []
    stats = core.memory_stats(0)
    assert stats["allocation"]["all"]["current"] == 0
    assert stats["inactive_split_bytes"]["all"]["current"] == 0
    torch.cuda.empty_cache()
    assert core.memory_stats(0)["reserved_bytes"]["all"]["current"] == 0


def test_double_release_is_refused() -> None:
    address = core.raw_allocate(100, 0)
    core.raw_release(address)
    with pytest.raises(RuntimeError, match="invalid device pointer"):
        core.raw_release(address)


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("max_split_size_mb:1", "max_split_size_mb too small, must be >= 20"),
        ("garbage_collection_threshold:1.5", r"garbage_collect_threshold is invalid, set it in \(0.0, 1.0\)"),
        ("roundup_power2_divisions:3", "has to be power of 2"),
        ("expandable_segments:yes", "Expected 'True' or 'False'"),
        ("no_such_key:1", "Unrecognized key 'no_such_key' in CUDA allocator config."),
        ("max_split_size_mb", "expected :"),
    ],
)
def test_wrong_settings_are_named(setting: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        core.set_allocator_settings(setting)


@pytest.fixture
def allocator_settings() -> Iterator[None]:
    yield
    core.set_allocator_settings("")


@pytest.mark.usefixtures("allocator_settings")
def test_roundup_power2_divisions() -> None:
    core.set_allocator_settings("roundup_power2_divisions:4")
    address = core.raw_allocate(5 * MIB + 1, 0)  # octave of 4 MiB in steps of 1 MiB
    assert core.memory_stats(0)["allocated_bytes"]["all"]["current"] == 6 * MIB
    core.raw_release(address)
    core.set_allocator_settings("roundup_power2_divisions:[4:8,8:2,>:1]")
    address = core.raw_allocate(4 * MIB + 1, 0)  # steps of 0.5 MiB
    assert core.memory_stats(0)["allocated_bytes"]["all"]["current"] == 4.5 * MIB
    core.raw_release(address)


@pytest.mark.usefixtures("allocator_settings")
def test_oversize_blocks_are_not_split() -> None:
    core.set_allocator_settings("max_split_size_mb:20")
    large = core.raw_allocate(64 * MIB, 0)
    stats = core.memory_stats(0)
    assert (stats["max_split_size"], stats["oversize_allocations"]["current"]) == (20 * MIB, 1)
    core.raw_release(large)
    small = core.raw_allocate(12 * MIB, 0)
    assert small != large, "a request below the limit got an oversize block"
    core.raw_release(small)
    assert core.raw_allocate(50 * MIB, 0) == large  # within 20 MiB: taken whole
    assert core.memory_stats(0)["allocated_bytes"]["all"]["current"] == 64 * MIB
    core.raw_release(large)


@pytest.mark.usefixtures("allocator_settings")
def test_garbage_collection_returns_the_longest_unused() -> None:
    core.set_allocator_settings("garbage_collection_threshold:0.5")
    core.set_memory_fraction(100 * MIB / core.memory_info(0)[1], 0)
    try:
        old = core.raw_allocate(30 * MIB, 0)
        core.raw_release(old)
        recent = core.raw_allocate(24 * MIB, STREAMS[1])
        for _ in range(20):
            core.raw_release(recent)
            assert core.raw_allocate(24 * MIB, STREAMS[1]) == recent
        core.raw_release(recent)
        other = core.raw_allocate(20 * MIB, STREAMS[2])  # 54 MiB are reserved, above half of 100
        reserved = core.memory_stats(0)["reserved_bytes"]["all"]["current"]
        core.raw_release(other)
        assert reserved == (24 + 20) * MIB
    finally:
        core.set_memory_fraction(1.0, 0)
