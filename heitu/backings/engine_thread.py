"""Lets PyTorch's autograd engine finish before Python ends, where a program runs on a plugin."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import time
from typing import Any

# Seconds for the engine's threads other than that of the current device.
GRACE = 0.1


def finish_at_exit(device: str) -> None:
    """Has `finish` called when this process ends, not in its children, if it used `device` (as "npu")."""
    process = os.getpid()

    def end() -> None:
        module = getattr(sys.modules.get("torch"), device, None)
        if os.getpid() == process and module is not None and module.is_initialized():
            finish(device)

    atexit.register(end)


def finish(device: str) -> None:
    """Waits until the engine's thread has freed the Python objects of the last backward pass.

    PyTorch aborts if such a thread asks for Python's lock when Python has ended ("terminate called without an
    active exception"). It does one pass after the other, so that one more, of a view, tells that it is done
    with those before. What that one is made of is never freed, and no kernel runs for it.
    """
    torch: Any = sys.modules["torch"]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            start = torch.empty(1, device=device, requires_grad=True)
            result, gradient = start.view(1, 1), torch.empty(1, 1, device=device)
            derived = torch.autograd.grad(result, start, gradient)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object([start, result, gradient, derived]))
    except RuntimeError:
        pass  # the device has failed, and the program has been told
    time.sleep(GRACE)
