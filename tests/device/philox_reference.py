"""Philox and CUDA's launch geometry, element by element in numpy: the reference the device is held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 32-bit words in 64-bit lanes
LOW = np.uint64(0xFFFFFFFF)


def philox(seed: int, counter: Words, subsequence: Words) -> list[Words]:
    """The four words at `counter` (128-bit blocks) of each subsequence; Philox4x32-10."""
    x, y = counter & LOW, counter >> np.uint64(32)
    z, w = subsequence & LOW, subsequence >> np.uint64(32)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * x
        product1 = np.uint64(0xCD9E8D57) * z
        x, y, z, w = (
            (product1 >> np.uint64(32)) ^ y ^ np.uint64(key0),
            product1 & LOW,
            (product0 >> np.uint64(32)) ^ w ^ np.uint64(key1),
            product0 & LOW,
        )
        key0 = (key0 + 0x9E3779B9) & 0xFFFFFFFF
        key1 = (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return [x, y, z, w]


def word(seed: int, offset: int, thread: Words, index: Words) -> Words:
    """The index-th word that a thread draws whose generator starts at `offset`."""
    four = np.stack(philox(seed, index // 4 + np.uint64(offset // 4), thread))
    chosen: Words = four[(index % 4).astype(np.int64), np.arange(len(index))]
    return chosen


@dataclass(frozen=True)
class Gpu:
    """What of a GPU decides the launch geometry."""

    multi_processors: int
    threads_per_multi_processor: int

    def threads(self, numel: int) -> int:
        """Threads of a grid-stride launch: blocks of 256, at most as many as are resident at once."""
        most = self.multi_processors * (self.threads_per_multi_processor // 256)
        return min(most, -(-numel // 256)) * 256

    def increment(self, numel: int, unroll: int) -> int:
        """Words by which the launch moves the generator's offset."""
        return ((numel - 1) // (self.threads(numel) * unroll) + 1) * 4

    def words(self, seed: int, offset: int, numel: int, width: int = 1) -> list[Words]:
        """For each element the `width` consecutive words that make its value (1 or 2)."""
        element = np.arange(numel, dtype=np.uint64)
        threads = np.uint64(self.threads(numel))
        unroll = np.uint64(4 // width)
        call = element // (threads * unroll)
        lane = element % (threads * unroll) // threads
        first = call * np.uint64(4) + lane * np.uint64(width)
        return [word(seed, offset, element % threads, first + np.uint64(i)) for i in range(width)]


def uniform(words: Words) -> NDArray[np.float32]:
    """(0, 1], as curand_uniform: the word to float, then one rounding."""
    as_float = words.astype(np.uint32).astype(np.float32)
    return (as_float.astype(np.float64) * 2.0**-32 + 2.0**-33).astype(np.float32)


def uniform_double(low: Words, high: Words) -> NDArray[np.float64]:
    """(0, 1] with 53 bits. Extended precision holds the 54 bits before the one rounding."""
    bits = low ^ (high << np.uint64(21))
    exact = bits.astype(np.longdouble) * np.longdouble(2.0**-53) + np.longdouble(2.0**-54)
    rounded: NDArray[np.float64] = exact.astype(np.float64)
    return rounded


def box_muller(a: Words, b: Words) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pair of normals of two words, exact but for the float that CUDA rounds the angle to."""
    radius = np.sqrt(-2.0 * np.log(uniform(a).astype(np.float64)))
    step = np.float64(np.float32(2 * np.pi / 2**32))
    angle = (b.astype(np.uint32).astype(np.float32) * step + step / 2).astype(np.float32).astype(np.float64)
    return radius * np.sin(angle), radius * np.cos(angle)
