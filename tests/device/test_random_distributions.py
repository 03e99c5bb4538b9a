"""Random numbers as a whole: the shape, the moments and the range of each distribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


def cdf_distance(samples: torch.Tensor, cdf: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The Kolmogorov-Smirnov statistic times sqrt(n): above 1.95 in one case of a thousand."""
    x = samples.double().cpu().flatten().sort().values
    n = x.numel()
    expected = cdf(x)
    steps = torch.arange(n + 1, dtype=torch.double) / n
    distance = torch.maximum((expected - steps[:-1]).abs(), (steps[1:] - expected).abs()).max().item()
    return float(distance * n**0.5)


def gamma_cdf(shape: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.special.gammainc(torch.full_like(x, shape), x)


def test_continuous_distributions() -> None:
    torch.manual_seed(123)

    def empty() -> torch.Tensor:
        return torch.empty(200_000, device="cuda")

    normal = torch.special.ndtr
    assert cdf_distance(empty().normal_(), normal) < 1.95
    assert cdf_distance(empty().uniform_(-2, 3), lambda x: (x + 2) / 5) < 1.95
    assert cdf_distance(empty().exponential_(0.7), lambda x: 1 - torch.exp(-0.7 * x)) < 1.95
    assert cdf_distance(empty().cauchy_(1, 2), lambda x: torch.atan((x - 1) / 2) / torch.pi + 0.5) < 1.95
    assert cdf_distance(empty().log_normal_(0.5, 0.8), lambda x: normal((x.log() - 0.5) / 0.8)) < 1.95
    for shape in (0.3, 1.0, 4.5):
        gamma = torch._standard_gamma(torch.full((100_000,), shape, device="cuda"))
        assert cdf_distance(gamma, gamma_cdf(shape)) < 1.95


@pytest.mark.parametrize("rate", [0.5, 20.0, 100.0, 3000.0, 10000.0])
def test_poisson_moments(rate: float) -> None:
    torch.manual_seed(7)
    x = torch.poisson(torch.full((200_000,), rate, device="cuda")).double()
    assert abs(x.mean().item() - rate) < 5 * (rate / 200_000) ** 0.5
    assert abs(x.var().item() / rate - 1) < 0.03
    assert torch.cuda.default_generators[0].get_offset() == 20


@pytest.mark.parametrize(("count", "p"), [(10, 0.3), (100, 0.4), (1000, 0.9), (20, 0.95)])
def test_binomial_moments(count: int, p: float) -> None:
    torch.manual_seed(7)
    counts = torch.full((200_000,), float(count), device="cuda")
    x = torch.binomial(counts, torch.full_like(counts, p)).double()
    variance = count * p * (1 - p)
    assert abs(x.mean().item() - count * p) < 5 * (variance / 200_000) ** 0.5
    assert abs(x.var().item() / variance - 1) < 0.03
    assert torch.cuda.default_generators[0].get_offset() == 44


def test_geometric_moments() -> None:
    torch.manual_seed(7)
    x = torch.empty(200_000, device="cuda", dtype=torch.int64).geometric_(0.2).double()
    assert x.min().item() == 1
    assert abs(x.mean().item() - 5) < 5 * (20 / 200_000) ** 0.5
    assert abs(x.var().item() / 20 - 1) < 0.05


def test_dirichlet_rows_sum_to_one() -> None:
    x = torch._sample_dirichlet(torch.tensor([0.5, 1.0, 2.5], device="cuda").expand(50_000, 3))
    torch.testing.assert_close(x.sum(1), torch.ones(50_000, device="cuda"))
    means = torch.tensor([0.125, 0.25, 0.625], device="cuda")
    torch.testing.assert_close(x.mean(0), means, rtol=0.02, atol=0)


def test_rrelu_noise_is_the_slope() -> None:
    x = torch.randn(10_000, device="cuda")
    noise = torch.empty_like(x)
    y = torch.ops.aten.rrelu_with_noise(x, noise, 0.1, 0.3, True)
    assert torch.equal(y, x * noise)
    assert (noise[x > 0] == 1).all()
    slopes = noise[x <= 0]
    assert cdf_distance(slopes, lambda s: (s - 0.1) / 0.2) < 1.95
