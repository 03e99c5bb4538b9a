"""Eight threads at once on one device: operators, memory, random numbers, streams."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

THREADS = 8
ROUNDS = 150


def run_at_once(work: Callable[[int], None]) -> None:
    """Runs work(0) … work(7) in threads and raises what any of them raised."""
    failures: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_operators_and_memory() -> None:
    before = torch.cuda.memory_allocated()

    def work(index: int) -> None:
        kept = []
        for turn in range(ROUNDS):
            x = torch.full((1 + (turn * 37 + index) % 5000,), float(index), device="cuda")
            y = (x + turn).mul_(2)
            assert y.sum().item() == pytest.approx(2.0 * (index + turn) * x.numel(), rel=1e-5)
            kept.append(y)
            if len(kept) > 8:
                del kept[turn % 8]

    run_at_once(work)
    assert torch.cuda.memory_allocated() == before


def test_autograd() -> None:
    def work(index: int) -> None:
        w = torch.full((16, 16), 0.01 * (index + 1), device="cuda", requires_grad=True)
        for _ in range(ROUNDS // 5):
            w.grad = None
            (torch.ones(4, 16, device="cuda") @ w).sum().backward()
            assert w.grad is not None
            assert torch.equal(w.grad, torch.full_like(w, 4.0))

    run_at_once(work)


def test_random_numbers_are_all_drawn_once() -> None:
    torch.cuda.manual_seed(7)
    alone = {tuple(torch.rand(8, device="cuda").tolist()) for _ in range(THREADS * ROUNDS)}
    torch.cuda.manual_seed(7)
    drawn: list[tuple[float, ...]] = []

    def work(_: int) -> None:
        mine = [tuple(torch.rand(8, device="cuda").tolist()) for _ in range(ROUNDS)]
        drawn.extend(mine)

    run_at_once(work)
    # Whoever draws when, together they draw what one thread would have drawn.
    assert set(drawn) == alone


def test_streams_and_tensors_that_change_hands() -> None:
    shelf: list[torch.Tensor] = []
    lock = threading.Lock()

    def work(index: int) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for turn in range(ROUNDS):
                x = torch.full((257,), float(index * ROUNDS + turn), device="cuda")
                x.record_stream(torch.cuda.default_stream())
                with lock:
                    shelf.append(x)
                    other = shelf.pop(0) if len(shelf) > THREADS else None
                if other is not None:
                    assert bool((other == other[0]).all())
                assert torch.cuda.current_stream() == stream

    run_at_once(work)


def test_out_of_memory_in_one_thread_harms_no_other() -> None:
    def work(index: int) -> None:
        for _ in range(20):
            if index % 2:
                with pytest.raises(torch.OutOfMemoryError):
                    torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
            else:
                assert torch.ones(1000, device="cuda").sum().item() == 1000

    run_at_once(work)
