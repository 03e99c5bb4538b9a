"""How the device's results are held against references."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """`actual` is on the device, and as near to `expected`, wherever that is, as the tolerance says."""
    assert actual.is_cuda
    torch.testing.assert_close(actual.cpu().double(), expected.cpu().double(), rtol=tolerance, atol=tolerance)
