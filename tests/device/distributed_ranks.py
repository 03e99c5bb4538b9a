"""What the checks of both ranks share: who this rank is, what it contributes, and comparing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

RANK = int(os.environ.get("RANK", "0"))
RANKS = 2
DEVICE = torch.device("cuda", RANK)
PATIENCE = timedelta(minutes=5)  # for what must happen, on a machine that is busy with other things
SIZES = (5, 100_001)  # one round of the whole, and two rounds of slices that are not equal


def values(rank: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    """What `rank` contributes: small numbers, exact in every dtype."""
    generator = torch.Generator().manual_seed(rank + 1)
    return torch.randint(0, 2 if dtype == torch.bool else 5, (size,), generator=generator).to(dtype)


def contributions(size: int, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    return np.stack([values(rank, size, dtype).double().numpy() for rank in range(RANKS)])


def same(tensor: torch.Tensor, truth: Any) -> None:
    assert tensor.device == DEVICE, tensor.device
    np.testing.assert_array_equal(tensor.double().cpu().numpy(), np.asarray(truth, dtype=np.float64))


@contextlib.contextmanager
def raises(kind: type[BaseException], text: str) -> Iterator[None]:
    said = None
    try:
        yield
    except kind as error:
        said = str(error)
    assert said is not None, f"{kind.__name__}({text!r}) was not raised"
    assert text in said, f"{text!r} is not in {said!r}"


def meet(name: str) -> None:
    """Both ranks come here before either goes on, without any collective."""
    store = dist.distributed_c10d._get_default_store()
    store.set(f"{name}/{RANK}", "here")
    store.wait([f"{name}/{rank}" for rank in range(RANKS)], PATIENCE)
