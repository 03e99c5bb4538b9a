"""Kernels whose program instances race, and kernels in which nothing is wrong; see seeded_defects.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from heitu.kernels.triton.checking.library import Kind
from tests.triton.seeded_cases import case


@triton.jit
def _split_kernel(a, b, c, K, PART: tl.constexpr, B: tl.constexpr, WRONG: tl.constexpr):
    first = tl.program_id(0) * PART
    rows, columns, inner = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :], first + tl.arange(0, PART)
    x = tl.load(a + rows * K + inner[None, :])
    y = tl.load(b + inner[:, None] * B + columns)
    place = c + rows * B + columns
    if WRONG:
        tl.store(place, tl.load(place) + tl.dot(x, y))  # here
    else:
        tl.atomic_add(place, tl.dot(x, y))


@case(Kind.RACE)
def split_k_without_atomics(wrong: bool) -> None:
    a, b, c = torch.randn(16, 64), torch.randn(64, 16), torch.zeros(16, 16)
    _split_kernel[(4,)](a, b, c, 64, 16, 16, wrong)


@triton.jit
def _halo_kernel(out, n, B: tl.constexpr, WRONG: tl.constexpr):
    here = tl.program_id(0)
    at = here * B + tl.arange(0, B)
    tl.store(out + at, here.to(tl.float32) + tl.zeros((B,), tl.float32), mask=at < n)  # here
    if WRONG:
        tl.store(out + here * B + B, -1.0, mask=here * B + B < n)


@case(Kind.RACE)
def halo_of_the_neighbour(wrong: bool) -> None:
    _halo_kernel[(4,)](torch.zeros(64), 64, 16, wrong)


@triton.jit
def _total_kernel(x, out, n, B: tl.constexpr, WRONG: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    total = tl.sum(tl.load(x + at, mask=at < n, other=0.0), 0)
    if WRONG:
        tl.store(out, total)  # here
    else:
        tl.atomic_add(out, total)


@case(Kind.RACE)
def total_without_atomics(wrong: bool) -> None:
    _total_kernel[(4,)](torch.randn(200), torch.zeros(1), 200, 64, wrong)


@triton.jit
def _scan_kernel(x, out, ends, B: tl.constexpr, WRONG: tl.constexpr):
    here = tl.program_id(0)
    at = here * B + tl.arange(0, B)
    sums = tl.cumsum(tl.load(x + at), 0)
    if WRONG:
        start = tl.load(ends + here - 1, mask=here > 0, other=0.0)  # here
        sums += start
    tl.store(ends + here, tl.max(sums, 0))
    tl.store(out + at, sums)


@case(Kind.RACE)
def scan_across_blocks(wrong: bool) -> None:
    _scan_kernel[(4,)](torch.rand(64), torch.empty(64), torch.zeros(4), 16, wrong)


@triton.jit
def _mixed_kernel(out, WRONG: tl.constexpr):
    if WRONG and tl.program_id(0) == 0:
        tl.store(out, 100)
    tl.atomic_add(out, 1)  # here


@case(Kind.RACE)
def atomic_and_plain(wrong: bool) -> None:
    _mixed_kernel[(4,)](torch.zeros(1, dtype=torch.int32), wrong)


@triton.jit
def _overlap_kernel(out, n, STEP: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * STEP + tl.arange(0, B)
    tl.store(out + at, tl.program_id(0), mask=at < n)  # here


@case(Kind.RACE)
def tiles_that_overlap(wrong: bool) -> None:
    _overlap_kernel[(4,)](torch.empty(64, dtype=torch.int8), 64, 15 if wrong else 16, 16)


@triton.jit
def _shift_kernel(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at + 1, mask=at + 1 < n, other=0.0)
    tl.store(out + at, value, mask=at < n)  # here


@case(Kind.RACE)
def shift_in_place(wrong: bool) -> None:
    x = torch.randn(64)
    _shift_kernel[(4,)](x, x if wrong else torch.empty(64), 64, 16)


@triton.jit
def _lock_kernel(row, locks, B: tl.constexpr, LOCKS: tl.constexpr, TAKEN: tl.constexpr, GIVEN: tl.constexpr):
    lock = locks + tl.program_id(0) % LOCKS
    while tl.atomic_cas(lock, 0, 1, sem=TAKEN) == 1:
        pass
    at = row + tl.arange(0, B)
    tl.store(at, tl.load(at) + 1.0)  # here
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0, sem=GIVEN)


@case(Kind.RACE)
def two_locks_for_one_row(wrong: bool) -> None:
    row, locks = torch.zeros(32), torch.zeros(2, dtype=torch.int32)
    _lock_kernel[(6,)](row, locks, 32, 2 if wrong else 1, "acquire", "release")
    assert wrong or bool((row == 6).all())


@case(Kind.RACE)
def lock_taken_without_acquiring(wrong: bool) -> None:
    row, locks = torch.zeros(32), torch.zeros(1, dtype=torch.int32)
    _lock_kernel[(6,)](row, locks, 32, 1, "relaxed" if wrong else "acq_rel", "acq_rel")


@case(Kind.RACE)
def lock_given_without_releasing(wrong: bool) -> None:
    row, locks = torch.zeros(32), torch.zeros(1, dtype=torch.int32)
    _lock_kernel[(6,)](row, locks, 32, 1, "acquire", "relaxed" if wrong else "release")


@triton.jit
def _last_kernel(x, parts, counter, out, N: tl.constexpr, B: tl.constexpr, WRONG: tl.constexpr):
    here = tl.program_id(0)
    tl.store(parts + here, tl.sum(tl.load(x + here * B + tl.arange(0, B)), 0))  # here
    before = tl.atomic_add(counter, 1)
    if before >= (0 if WRONG else N - 1):
        total = tl.sum(tl.load(parts + tl.arange(0, N)), 0)
        tl.store(out + here, total)


@case(Kind.RACE)
def last_one_sums_without_a_test(wrong: bool) -> None:
    parts, counter = torch.zeros(4), torch.zeros(1, dtype=torch.int32)
    _last_kernel[(4,)](torch.randn(64), parts, counter, torch.zeros(4), 4, 16, wrong)


# Launches in which nothing is wrong.


@triton.jit
def _same_kernel(out, B: tl.constexpr):
    tl.store(out + tl.arange(0, B), 7)


def all_store_the_same() -> None:
    _same_kernel[(4,)](torch.zeros(16, dtype=torch.int16), 16)


@triton.jit
def _pointers_kernel(addresses, out, B: tl.constexpr):
    x = tl.load(addresses + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    at = tl.arange(0, B)
    tl.store(out + tl.program_id(0) * B + at, tl.load(x + at))


def addresses_in_a_tensor() -> None:
    x = [torch.randn(16) for _ in range(3)]
    out = torch.empty(3, 16)
    _pointers_kernel[(3,)](torch.tensor([each.data_ptr() for each in x]), out, 16)
    assert torch.equal(out, torch.stack(x))


@triton.jit
def _heads_kernel(q, k, out, stride, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    tl.store(out + row * B + at, tl.load(q + row * stride + at) + tl.load(k + row * stride + at))


def parts_of_one_tensor() -> None:
    whole = torch.randn(8, 3, 16)
    out = torch.empty(8, 16)
    _heads_kernel[(8,)](whole[:, 0], whole[:, 2], out, whole.stride(0), 16)
    assert torch.equal(out, whole[:, 0] + whole[:, 2])


@triton.jit
def _third_kernel(q, k, out, stride, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    tl.store(out + row * B + at, tl.load(q + row * stride + 2 * B + at))


def reached_through_another_argument() -> None:
    whole = torch.randn(8, 3, 16)
    out = torch.empty(8, 16)
    _third_kernel[(8,)](whole[:, 0], whole[:, 2], out, whole.stride(0), 16)
    assert torch.equal(out, whole[:, 2])


@triton.jit
def _kept_kernel(x):
    tl.store(x, tl.load(x))


def all_store_what_they_read() -> None:
    _kept_kernel[(4,)](torch.ones(1))


@triton.jit
def _flag_kernel(flag, payload, out):
    if tl.program_id(0) == 0:
        tl.atomic_poll(flag, 1, sem="acquire")
        tl.store(out, tl.load(payload))
    else:
        tl.store(payload, 42)
        tl.atomic_xchg(flag, 1, sem="release")


def one_waits_for_the_other() -> None:
    flag, payload, out = (torch.zeros(1, dtype=torch.int32) for _ in range(3))
    _flag_kernel[(2,)](flag, payload, out)
    assert out.item() == 42


@triton.jit
def _bytes_kernel(out):
    tl.store(out + tl.program_id(0), tl.program_id(0))


def neighbouring_bytes() -> None:
    _bytes_kernel[(9,)](torch.zeros(9, dtype=torch.int8))


RIGHT = (
    all_store_the_same,
    neighbouring_bytes,
    all_store_what_they_read,
    *([one_waits_for_the_other] if hasattr(tl, "atomic_poll") else []),  # Triton 3.9 and later
    addresses_in_a_tensor,
    parts_of_one_tensor,
    reached_through_another_argument,
)
