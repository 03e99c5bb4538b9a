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


@torch.jit.script
def wrong_results(value: float, rounds: int) -> int:
    """How many of the tensors made and kept for a while do not hold what was written to them."""
    kept = [torch.full([1], value, device="cuda") for _ in range(8)]
    wrong = 0
    for turn in range(rounds):
        oldest = kept[turn % 8]
        if not bool((oldest == value).all()):
            wrong += 1
        kept[turn % 8] = torch.full([1 + turn * 37 % 5000], value - 1, device="cuda").add_(1)
    return wrong


def test_memory_without_pythons_lock() -> None:
    def work(index: int) -> None:
        assert wrong_results(float(index), 20 * ROUNDS) == 0

    run_at_once(work)


def test_autograd() -> None:
    def work(index: int) -> None:
        w = torch.full((16, 16), 0.01 * (index + 1), device="cuda", requires_grad=True)
        for _ in range(ROUNDS // 5):
            w.grad = None
            (torch.ones(4, 16, device="cuda") @ w).sum().backward()
            assert w.grad is not None
            assert torch.equal(w.grad, torch.full_like(w, 4.0))

    run_at_once(work)


@torch.jit.script
def draws(count: int) -> torch.Tensor:
    """`count` numbers of 62 bits. Scripted: Python's lock is not taken between one draw and the next."""
    return torch.cat([torch.randint(0, 1 << 62, [1], device="cuda") for _ in range(count)])


@torch.jit.script
def redraw(x: torch.Tensor, count: int) -> None:
    for _ in range(count):
        x.random_()


def test_random_numbers_are_all_drawn_once() -> None:
    count = 10_000
    torch.cuda.manual_seed(7)
    alone = draws(THREADS * count)
    torch.cuda.manual_seed(7)
    drawn: list[torch.Tensor] = []
    run_at_once(lambda _: drawn.append(draws(count)))
    # Whoever draws when, together they draw what one thread would have drawn.
    assert torch.equal(torch.cat(drawn).sort().values, alone.sort().values)


def test_no_draw_is_lost() -> None:
    count = 200_000
    torch.cuda.manual_seed(7)
    generator = torch.cuda.default_generators[0]
    redraw(torch.empty(1, device="cuda"), 1)
    one = generator.get_offset()
    run_at_once(lambda _: redraw(torch.empty(1, device="cuda"), count))
    assert generator.get_offset() == one * (THREADS * count + 1)


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
