"""An emulator of Ascend's CANN, under which the unmodified torch_npu wheel runs on the CPU."""

from heitu.emulators.cann.activation import activate, calls, reset_calls
from heitu.emulators.cann.tables import emulated, missing

__all__ = ["activate", "calls", "emulated", "missing", "reset_calls"]
