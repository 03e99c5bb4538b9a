"""The part of the compiled runtime that judges accesses: `runtime/check.h`, for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from functools import cache

from heitu.kernels.triton import compilation

NO_SITE = -1


class AreaFlag(IntFlag):
    """What is known of an area."""

    KNOWN = 1
    POISONED = 2
    WATCHED = 4


class Kind(IntEnum):
    """In which way an access is wrong."""

    OUT_OF_BOUNDS = 0
    OUTSIDE_OF_VIEW = 1
    UNINITIALISED = 2
    RACE = 3


class CSite(Structure):
    """One operation that accesses memory."""

    _fields_ = (("flags", c_int32), ("bytes", c_int32), ("argument", c_int32))


class CArea(Structure):
    """Memory from `first` up to, without, `last`."""

    _fields_ = (("first", c_uint64), ("last", c_uint64), ("flags", c_int32))


class CArgument(Structure):
    """A pointer among the arguments."""

    _fields_ = (("storage", CArea), ("view_first", c_uint64), ("view_last", c_uint64))


class CLaunch(Structure):
    """What accesses are judged by."""

    _fields_ = (
        ("grid", c_int32 * 3),
        ("at_once", c_int32),
        ("pattern", c_uint32),
        ("site_count", c_int32),
        ("argument_count", c_int32),
        ("area_count", c_int32),
        ("segment_count", c_int32),
        ("sites", POINTER(CSite)),
        ("arguments", POINTER(CArgument)),
        ("areas", POINTER(CArea)),
        ("segments", POINTER(CArea)),
    )


class CFinding(Structure):
    """The first access that was found wrong in one way at one site, and how many there were."""

    _fields_ = (
        ("count", c_int64),
        ("element", c_int64),
        ("address", c_uint64),
        ("program", c_int32 * 3),
        ("other_site", c_int32),
        ("other_program", c_int32 * 3),
    )


@cache
def library() -> ctypes.CDLL:
    """The runtime, with the types of its functions."""
    loaded = ctypes.CDLL(str(compilation.runtime().__file__))
    loaded.heitu_check_begin.argtypes = [POINTER(CLaunch)]
    loaded.heitu_check_begin.restype = ctypes.c_int
    loaded.heitu_check_end.argtypes = [POINTER(c_int32)]
    loaded.heitu_check_end.restype = POINTER(CFinding)
    loaded.heitu_check_end_with.argtypes = [ctypes.c_int]
    loaded.heitu_check_end_with.restype = None
    return loaded
