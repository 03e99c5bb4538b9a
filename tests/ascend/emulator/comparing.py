"""An operator of PyTorch's on the emulated device against the same on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from heitu.emulators import cann

SAMPLES = 4
COMPARED: set[str] = set()  # the operators of CANN that gave what the CPU gave
# Drawn from another generator than the CPU's: only shapes can agree.
RANDOM = ("rand", "bernoulli", "multinomial", "dropout", "normal", "uniform", "exponential", "cauchy",
          "geometric", "empty", "rrelu", "fractional_max_pool")  # fmt: skip


def is_random(name: str) -> bool:
    """Whether an operator's results cannot be compared by value."""
    return any(word in name for word in RANDOM) and not any(
        word in name for word in ("layer_norm", "group_norm", "batch_norm", "instance_norm", "normalize")
    )


def to_npu(value: Any) -> Any:
    """The same arguments on the emulated device."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("npu").requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(to_npu(each) for each in value)
    if isinstance(value, dict):
        return {name: to_npu(each) for name, each in value.items()}
    return torch.device("npu") if isinstance(value, torch.device) else value


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in it."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [each for part in value for each in tensors(part)] if isinstance(value, (list, tuple)) else []


@contextmanager
def noted() -> Iterator[None]:
    """Counts what is called inside as compared, unless it raises."""
    cann.reset_calls()
    yield
    torch.npu.synchronize()
    COMPARED.update(cann.calls())


def assert_same(got: Any, wanted: Any, tolerance: float = 1e-4) -> None:
    """Raises AssertionError where a tensor of one differs from that of the other."""
    for one, other in zip(tensors(got), tensors(wanted), strict=True):
        torch.testing.assert_close(
            one.detach().cpu(), other.detach(), rtol=tolerance, atol=tolerance, equal_nan=True
        )


def compare(op: Any, sample: Any, *, by_value: bool, gradients: bool) -> None:
    """Raises AssertionError where results, or gradients, differ."""
    with noted():
        _compare(op, sample, by_value, gradients)


def _compare(op: Any, sample: Any, by_value: bool, gradients: bool) -> None:
    wanted = op(sample.input, *sample.args, **sample.kwargs)
    given = to_npu((sample.input, sample.args, sample.kwargs))
    got = op(given[0], *given[1], **given[2])
    pairs = list(zip(tensors(wanted), tensors(got), strict=True))
    for one, other in pairs:
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if by_value:
            torch.testing.assert_close(
                other.detach().cpu(), one.detach(), rtol=1e-4, atol=1e-4, equal_nan=True
            )
    differentiable = [(one, other) for one, other in pairs if one.requires_grad and other.requires_grad]
    before = [each for each in tensors((sample.input, sample.args, sample.kwargs)) if each.requires_grad]
    after = [each for each in tensors(given) if each.requires_grad]
    if not (gradients and by_value and differentiable and before):
        return
    weights = [torch.randn_like(one) for one, _ in differentiable]
    first = torch.autograd.grad([one for one, _ in differentiable], before, weights, allow_unused=True)
    second = torch.autograd.grad(
        [other for _, other in differentiable], after, [each.to("npu") for each in weights], allow_unused=True
    )
    for one, other in zip(first, second, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-3, equal_nan=True)
