"""Launches of kernels, counted in a mapped file, so that it is whole whatever becomes of the process."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from pathlib import Path

SLOTS = 8192
COUNT = struct.Struct("<Q")


class LaunchCounts:
    """A file of 64-bit counts, one a kernel. It is made when the first kernel comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: mmap.mmap | None = None
        self._start = 0
        self._taken = 0

    def slot(self) -> tuple[int | None, int]:
        """The number of the next count and its address; None and 0 where no more can be counted."""
        if self._taken == SLOTS or (self._memory is None and not self._make()):
            return None, 0
        self._taken += 1
        return self._taken - 1, self._start + (self._taken - 1) * COUNT.size

    def _make(self) -> bool:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(file, SLOTS * COUNT.size)
                self._memory = mmap.mmap(file, SLOTS * COUNT.size)
            finally:
                os.close(file)
        except OSError:  # a full disk must not end the program
            self._taken = SLOTS
            return False
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        return True


def read(path: Path) -> tuple[int, ...]:
    """The counts of a file, as far as it goes; none where it cannot be read."""
    try:
        content = path.read_bytes()[: SLOTS * COUNT.size]
    except OSError:
        return ()
    return tuple(count for (count,) in COUNT.iter_unpack(content[: len(content) // COUNT.size * COUNT.size]))
