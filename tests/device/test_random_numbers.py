"""Random numbers: equal to a GPU's where known, and to an element-by-element reference everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tests.device.philox_reference import Gpu, box_muller, philox, uniform, uniform_double, word

SMALL = Gpu(3, 512)  # 1536 threads: a few thousand elements are several rounds of its grid
H200 = Gpu(132, 2048)
SIZES = [1, 4, 255, 256, 257, 1536, 1537, 3000, 6144, 6145, 20001]


def assume(gpu: Gpu) -> None:
    """Gives the emulated device another GPU's launch geometry."""
    import heitu_core

    properties = heitu_core.properties(0)
    properties.multi_processor_count = gpu.multi_processors
    properties.max_threads_per_multi_processor = gpu.threads_per_multi_processor


@pytest.fixture(autouse=True)
def h200_afterwards() -> Iterator[None]:
    yield
    assume(H200)


@pytest.fixture
def small() -> Gpu:
    assume(SMALL)
    return SMALL


def cuda_generator(seed: int, offset: int = 0) -> torch.Generator:
    generator = torch.Generator(device="cuda").manual_seed(seed)
    generator.set_offset(offset)
    return generator


def lies(actual: torch.Tensor, printed: list[float]) -> None:
    """Agrees with values that a GPU printed with four decimals."""
    np.testing.assert_allclose(actual.cpu().numpy(), printed, rtol=0, atol=0.5001e-4)


# ---- what GPUs have printed ----


def test_randn_of_seed_0() -> None:
    torch.manual_seed(0)
    lies(torch.randn(4, device="cuda"), [-0.9247, -0.4253, -2.6438, 0.1452])


def test_rand_of_seed_0() -> None:
    """https://github.com/NVIDIA/TensorRT-LLM, tests of ReDrafter; and what follows in the same program."""
    torch.manual_seed(0)
    first = torch.rand(3, 4, device="cuda")
    lies(first[0], [0.3990, 0.5167, 0.0249, 0.9401])
    lies(first[1], [0.9459, 0.7967, 0.4150, 0.8203])
    lies(first[2], [0.2290, 0.9096, 0.1183, 0.0752])
    lies(torch.rand(4, device="cuda"), [0.9722, 0.7910, 0.4690, 0.3300])


def test_rand_of_seed_42() -> None:
    torch.manual_seed(42)
    lies(torch.rand(6, device="cuda"), [0.6130, 0.0101, 0.3984, 0.0403, 0.1563, 0.4825])


def test_randint_of_seed_0() -> None:
    """A comment in public training code holds what a GPU printed."""
    torch.manual_seed(0)
    assert torch.randint(0, 100, (8,), device="cuda").tolist() == [41, 97, 91, 72, 53, 4, 3, 33]


def test_randn_of_seed_10() -> None:
    """https://github.com/pytorch/pytorch/issues/79496"""
    torch.manual_seed(10)
    lies(torch.randn(3, device="cuda"), [-0.1029, 1.6810, -0.2708])


@pytest.mark.parametrize(
    ("gpu", "last"),
    [
        pytest.param(Gpu(132, 2048), [-0.6970, -0.7780, 0.3267], id="H100"),
        pytest.param(Gpu(108, 2048), [0.1549, -0.6797, -0.1656], id="A100"),
    ],
)
def test_randn_far_above_one_grid(gpu: Gpu, last: list[float]) -> None:
    """https://github.com/pytorch/pytorch/issues/143086: 9,483,264 elements, seed 1."""
    assume(gpu)
    x = torch.randn(1, 49 * 12 * 112 * 144, device="cuda", generator=cuda_generator(1))[0]
    lies(x[:3], [-0.2963, 2.6764, -0.1408])
    lies(x[-3:], last)


def test_randn_of_seed_42_on_43008_threads() -> None:
    """https://github.com/pytorch/pytorch/issues/158398, the first machine (28 SMs of 1536 threads fit)."""
    assume(Gpu(28, 1536))
    x = torch.randn([1, 64, 2048], generator=cuda_generator(42), device="cuda")[0]
    lies(x[0, [0, 1, 2, -3, -2, -1]], [0.1940, 2.1614, -0.1721, 1.4540, -2.7733, -0.8932])
    lies(x[2, [0, 1, 2, -3, -2, -1]], [1.1346, -0.6329, -0.9147, -1.0001, -1.1552, -0.6955])
    lies(x[-2, [0, 1, 2, -3, -2, -1]], [0.7881, 0.8339, -1.1424, -0.6297, -1.1112, -0.4091])
    lies(x[-1, [0, 1, 2, -3, -2, -1]], [-1.2356, -0.4083, -0.4695, -0.4841, 1.2850, -0.0282])


def test_normal_with_mean_and_deviation_on_an_rtx_a4000() -> None:
    """https://github.com/pytorch/pytorch/issues/97097"""
    assume(Gpu(48, 1536))
    torch.manual_seed(14)
    x = torch.empty(1000, 100, device="cuda").normal_(5, 5**0.5)
    lies(x[0, [0, 1, 2, -3, -2, -1]], [2.8731, 5.2727, 2.9889, 1.6853, 9.6331, 6.6319])
    lies(x[-3, [0, 1, 2, -3, -2, -1]], [8.6297, 2.3137, 6.2596, 7.9358, 4.4697, 2.7475])
    lies(x[-1, [0, 1, 2, -3, -2, -1]], [2.7337, 2.2106, 7.7815, 8.2207, 6.5395, 4.2604])


def test_normal_of_seed_43_on_an_rtx_a6000() -> None:
    """https://github.com/pytorch/pytorch/issues/62467"""
    assume(Gpu(84, 1536))
    noise = torch.empty(1, 3, 128, 128, device="cuda").normal_(generator=cuda_generator(43))
    lies(noise[0, :, 0, 0], [1.9983, 0.8704, 2.1127])


@pytest.mark.parametrize(
    ("gpu", "total"),
    [pytest.param(Gpu(56, 2048), 999826.0, id="P100"), pytest.param(Gpu(13, 2048), 999100.0, id="K80")],
)
def test_sum_of_a_million_dropped_out_ones(gpu: Gpu, total: float) -> None:
    """https://github.com/pytorch/pytorch/issues/25690: from before the vectorised kernel.

    A misaligned tensor takes the kernel of those days.
    """
    assume(gpu)
    torch.manual_seed(0)
    ones = torch.ones(1_000_001, device="cuda")[1:]
    assert torch.nn.functional.dropout(ones, 0.5).sum().item() == total


# ---- against the reference ----


@pytest.mark.parametrize("numel", SIZES)
def test_uniform_bits(small: Gpu, numel: int) -> None:
    generator = cuda_generator(2**40 + 7, 12)
    x = torch.empty(numel, device="cuda").uniform_(generator=generator)
    expected = uniform(small.words(2**40 + 7, 12, numel)[0])
    expected[expected == 1] = 0
    np.testing.assert_array_equal(x.cpu().numpy(), expected)
    assert generator.get_offset() == 12 + small.increment(numel, 4)


@pytest.mark.parametrize("numel", SIZES)
def test_double_uniform_bits(small: Gpu, numel: int) -> None:
    generator = cuda_generator(5)
    x = torch.empty(numel, device="cuda", dtype=torch.double).uniform_(generator=generator)
    np.testing.assert_array_equal(x.cpu().numpy(), uniform_double(*small.words(5, 0, numel, 2)))
    assert generator.get_offset() == small.increment(numel, 2)


@pytest.mark.parametrize("dtype", [torch.float, torch.half, torch.bfloat16])
def test_uniform_range_is_rounded_once(small: Gpu, dtype: torch.dtype) -> None:
    x = torch.empty(5000, device="cuda", dtype=dtype).uniform_(-0.3, 1.7, generator=cuda_generator(3))
    low, high = (torch.tensor(v, dtype=dtype) for v in (-0.3, 1.7))
    u = torch.from_numpy(uniform(small.words(3, 0, 5000)[0])).double()
    expected = (u * (high - low).double() + low.double()).float().to(dtype)
    expected[expected == high] = low
    assert torch.equal(x.cpu(), expected)


@pytest.mark.parametrize("numel", SIZES)
@pytest.mark.parametrize(("low", "high"), [(0, 10), (-100, 2**28 - 101), (5, 2**28 + 5), (-(2**62), 2**62)])
def test_randint_bits(small: Gpu, numel: int, low: int, high: int) -> None:
    generator = cuda_generator(11)
    x = torch.randint(low, high, (numel,), device="cuda", generator=generator)
    wide = high - low >= 2**28
    words = small.words(11, 0, numel, 2 if wide else 1)
    bits = words[0] << np.uint64(32) | words[1] if wide else words[0]
    expected = (bits % np.uint64(high - low)).astype(np.int64) + low
    np.testing.assert_array_equal(x.cpu().numpy(), expected)
    assert generator.get_offset() == small.increment(numel, 2 if wide else 4)


@pytest.mark.parametrize(
    ("dtype", "modulus"),
    [(torch.uint8, 2**8), (torch.int8, 2**7), (torch.int16, 2**15), (torch.int32, 2**31), (torch.bool, 2)],
)
def test_random_over_the_whole_type(small: Gpu, dtype: torch.dtype, modulus: int) -> None:
    x = torch.empty(5000, device="cuda", dtype=dtype).random_(generator=cuda_generator(1))
    expected = small.words(1, 0, 5000)[0] % np.uint64(modulus)
    np.testing.assert_array_equal(x.cpu().long().numpy(), expected.astype(np.int64))


def test_random_over_all_of_int64(small: Gpu) -> None:
    x = torch.empty(5000, device="cuda", dtype=torch.long)
    x.random_(-(2**63), None, generator=cuda_generator(1))
    high, low = small.words(1, 0, 5000, 2)
    np.testing.assert_array_equal(x.cpu().numpy(), (high << np.uint64(32) | low).astype(np.int64))


@pytest.mark.parametrize("numel", SIZES)
def test_normal_values(small: Gpu, numel: int) -> None:
    generator = cuda_generator(8)
    x = torch.empty(numel, device="cuda").normal_(generator=generator).cpu().numpy()
    element = np.arange(numel, dtype=np.uint64)
    threads = np.uint64(small.threads(numel))
    call, lane = element // (threads * np.uint64(4)), element // threads % np.uint64(4)
    first = call * np.uint64(4) + lane // np.uint64(2) * np.uint64(2)
    words = [word(8, 0, element % threads, first + np.uint64(i)) for i in (0, 1)]
    expected = np.choose((lane % np.uint64(2)).astype(np.int64), box_muller(words[0], words[1]))
    np.testing.assert_allclose(x, expected, rtol=4e-7, atol=1e-9)
    assert generator.get_offset() == small.increment(numel, 4)


def test_double_normal_values(small: Gpu) -> None:
    x = torch.empty(5000, device="cuda", dtype=torch.double).normal_(generator=cuda_generator(8))
    element = np.arange(5000, dtype=np.uint64)
    threads = np.uint64(small.threads(5000))
    four = philox(8, element // (threads * np.uint64(2)), element % threads)
    radius = np.sqrt(-2 * np.log(uniform_double(four[0], four[1])))
    bits = (four[2] ^ (four[3] << np.uint64(21))).astype(np.float64)
    angle = (bits * 2.0**-52 + 2.0**-53) * np.pi
    is_first = element // threads % np.uint64(2) == 0
    expected = radius * np.where(is_first, np.sin(angle), np.cos(angle))
    np.testing.assert_allclose(x.cpu().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_complex_normal_fills_real_and_imaginary_parts(small: Gpu) -> None:
    x = torch.empty(700, device="cuda", dtype=torch.complex64).normal_(generator=cuda_generator(8))
    y = torch.empty(700, 2, device="cuda").normal_(0, 0.5**0.5, generator=cuda_generator(8))
    assert torch.equal(torch.view_as_real(x), y)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: torch.empty(40, 30, device="cuda").t(), id="transposed"),
        pytest.param(
            lambda: torch.empty(2, 3, 8, 8, device="cuda", memory_format=torch.channels_last), id="nhwc"
        ),
    ],
)
def test_dense_tensors_are_filled_in_memory_order(make: Callable[[], torch.Tensor]) -> None:
    x = make()
    x.uniform_(generator=cuda_generator(4))
    flat = torch.empty(x.numel(), device="cuda").uniform_(generator=cuda_generator(4))
    assert torch.equal(torch.as_strided(x, (x.numel(),), (1,)), flat)


def test_a_slice_with_gaps_is_filled_by_stride(small: Gpu) -> None:
    x = torch.zeros(60, 50, 4, device="cuda")
    part = x[::2, 5:45:3, 1]
    part.uniform_(generator=cuda_generator(4))
    flat = torch.empty(part.numel(), device="cuda").uniform_(generator=cuda_generator(4))
    assert torch.equal(part.reshape(-1), flat)
    assert (x != 0).sum() <= part.numel()


@pytest.mark.parametrize("dtype", [torch.float, torch.double, torch.int64, torch.bool])
def test_bernoulli_bits(small: Gpu, dtype: torch.dtype) -> None:
    x = torch.empty(5000, device="cuda", dtype=dtype).bernoulli_(0.3, generator=cuda_generator(6))
    if dtype == torch.double:
        expected = uniform_double(*small.words(6, 0, 5000, 2)) < 0.3
    else:
        expected = uniform(small.words(6, 0, 5000)[0]) < np.float32(0.3)
    np.testing.assert_array_equal(x.cpu().bool().numpy(), expected)


@pytest.mark.parametrize("shape", [(5,), (5000,), (70, 30)])
def test_bernoulli_of_a_tensor_draws_four_a_thread(shape: tuple[int, ...]) -> None:
    generator = cuda_generator(6)
    p = torch.rand(shape, device="cuda", generator=cuda_generator(1))
    x = torch.bernoulli(p, generator=generator)
    element = np.arange(p.numel(), dtype=np.uint64)
    u = uniform(word(6, 0, element // np.uint64(4), element % np.uint64(4)))
    np.testing.assert_array_equal(x.cpu().numpy().ravel() == 1, u <= p.cpu().numpy().ravel())
    assert generator.get_offset() == 12


def test_exponential_values(small: Gpu) -> None:
    x = torch.empty(5000, device="cuda").exponential_(2.0, generator=cuda_generator(9)).cpu().numpy()
    expected = -np.log(uniform(small.words(9, 0, 5000)[0]).astype(np.float64)) / 2
    np.testing.assert_allclose(x, expected, rtol=2e-6, atol=1e-7)
    assert (x > 0).all()


def test_normal_with_tensors_of_means_and_deviations() -> None:
    mean = torch.arange(1000.0, device="cuda")
    std = torch.rand(1000, device="cuda")
    x = torch.normal(mean, std, generator=cuda_generator(5))
    z = torch.randn(1000, device="cuda", generator=cuda_generator(5))
    torch.testing.assert_close(x, z * std + mean)
    with pytest.raises(RuntimeError, match=r"normal expects all elements of std >= 0\.0"):
        torch.normal(mean, -std - 1)


# ---- dropout ----


def dropout_words(gpu: Gpu, seed: int, numel: int, size: int) -> np.ndarray:
    """The word of each element in the kernel where a thread serves `size` neighbours at a step."""
    element = np.arange(numel, dtype=np.uint64)
    vector = element // np.uint64(size)
    threads = np.uint64(gpu.threads(numel))
    words_a_step = np.uint64(max(size, 4))
    first = vector // threads * words_a_step
    return word(seed, 0, vector % threads, first + element % np.uint64(size))


@pytest.mark.parametrize(
    ("dtype", "numel", "size"),
    [
        (torch.float, 4, 4),
        (torch.float, 20000, 4),
        (torch.float, 20002, 2),
        (torch.half, 40000, 8),
        (torch.bfloat16, 40004, 4),
        (torch.double, 20000, 2),
    ],
)
def test_vectorised_dropout(small: Gpu, dtype: torch.dtype, numel: int, size: int) -> None:
    torch.manual_seed(5)
    x = torch.linspace(1, 2, numel, device="cuda").to(dtype)
    y, mask = torch.native_dropout(x, 0.25, True)
    kept = uniform(dropout_words(small, 5, numel, size)) < 0.75
    np.testing.assert_array_equal(mask.cpu().numpy(), kept)
    scale = 1 / 0.75 if dtype == torch.double else float(np.float32(1 / 0.75))
    compute = torch.double if dtype == torch.double else torch.float
    expected = (x.cpu().to(compute) * scale).to(dtype) * torch.from_numpy(kept)
    assert torch.equal(y.cpu(), expected)
    assert torch.cuda.default_generators[0].get_offset() == small.increment(numel, 4)


@pytest.mark.parametrize("numel", [1, 20001])
def test_dropout_without_vectors(small: Gpu, numel: int) -> None:
    torch.manual_seed(5)
    _, mask = torch.native_dropout(torch.ones(numel, device="cuda"), 0.25, True)
    np.testing.assert_array_equal(mask.cpu().numpy(), uniform(small.words(5, 0, numel)[0]) < 0.75)


def test_dropout_of_a_gapped_slice_counts_by_rows(small: Gpu) -> None:
    torch.manual_seed(5)
    x = torch.ones(50, 80, device="cuda").t()[::2]
    _, mask = torch.native_dropout(x, 0.25, True)
    expected = uniform(small.words(5, 0, x.numel())[0]) < 0.75
    np.testing.assert_array_equal(mask.cpu().numpy().ravel(), expected)


def test_dropout_backward_uses_the_mask() -> None:
    x = torch.ones(1000, device="cuda", requires_grad=True)
    y = torch.nn.functional.dropout(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


# ---- permutations and categories ----


@pytest.mark.parametrize("n", [1, 2, 5, 1000, 30000, 100000])
def test_randperm(n: int) -> None:
    generator = cuda_generator(21)
    x = torch.randperm(n, device="cuda", generator=generator).cpu().numpy()
    bits = int(np.ceil(np.log2(n - (6.0 * n * n + 1) / (np.log(0.9) * 12))))
    wide = bits > 32
    span, base = (2**64 - 1, -(2**63)) if wide else (2**32 - 1, -(2**31))
    high, low = H200.words(21, 0, n, 2)
    keys = (high << np.uint64(32) | low) % np.uint64(span) + np.uint64(base % 2**64)
    if not wide:
        keys &= np.uint64(0xFFFFFFFF)
    keys = keys ^ np.uint64(1 << (bits - 1)) if bits in (32, 64) else keys & np.uint64((1 << bits) - 1)
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    start = H200.increment(n, 2)
    for first in np.flatnonzero(np.diff(sorted_keys, prepend=sorted_keys[0] ^ np.uint64(1)) != 0):
        run = int(np.searchsorted(sorted_keys, sorted_keys[first], "right")) - int(first)
        for drawn, i in enumerate(range(run - 1, 0, -1)):
            r = int(word(21, start, np.array([first], np.uint64), np.array([drawn], np.uint64))[0]) % (i + 1)
            order[[first + i, first + r]] = order[[first + r, first + i]]
    np.testing.assert_array_equal(x, order)
    assert generator.get_offset() == start + -(-n // 4) * 4


def test_randperm_shuffles_equal_keys() -> None:
    """Among many small permutations some have equal keys; all orders must come equally often."""
    generator = cuda_generator(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = tuple(torch.randperm(3, device="cuda", generator=generator).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_multinomial_with_replacement() -> None:
    generator = cuda_generator(17)
    p = torch.tensor([[0.1, 0.0, 0.4, 0.5], [3.0, 1.0, 0.0, 4.0]], device="cuda")
    x = torch.multinomial(p, 1000, replacement=True, generator=generator).cpu().numpy()
    sample = np.arange(1000, dtype=np.uint64)
    for row in range(2):
        u = uniform(word(17, 0, np.uint64(row * 1024) + sample, np.zeros_like(sample)))
        cumulated = np.cumsum(p[row].cpu().numpy() / p[row].sum().item(), dtype=np.float32)
        np.testing.assert_array_equal(x[row], np.searchsorted(cumulated, u, "left"))
    assert generator.get_offset() == 4


def test_multinomial_without_replacement_races_exponentials() -> None:
    p = torch.rand(5, 200, device="cuda", generator=cuda_generator(2))
    x = torch.multinomial(p, 7, generator=cuda_generator(17))
    q = p / torch.empty_like(p).exponential_(generator=cuda_generator(17))
    assert torch.equal(x, q.topk(7).indices)


def test_multinomial_refuses_bad_probabilities() -> None:
    with pytest.raises(RuntimeError, match="contains either `inf`, `nan` or element < 0"):
        torch.multinomial(torch.tensor([0.5, -0.5], device="cuda"), 1)
    with pytest.raises(RuntimeError, match="sum of probabilities <= 0"):
        torch.multinomial(torch.zeros(3, device="cuda"), 1)


# ---- the generator ----


def test_state_is_seed_and_offset() -> None:
    generator = cuda_generator(0x1122334455667788, 64)
    state = generator.get_state()
    assert bytes(state.tolist()) == (0x1122334455667788).to_bytes(8, "little") + (64).to_bytes(8, "little")
    other = torch.Generator(device="cuda")
    other.set_state(state)
    assert other.initial_seed() == 0x1122334455667788
    assert other.get_offset() == 64
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        other.set_state(state[:9].clone())
    with pytest.raises(RuntimeError, match="offset must be a multiple of 4"):
        other.set_offset(3)


def test_state_is_saved_restored_and_forked() -> None:
    torch.cuda.manual_seed(3)
    torch.rand(10, device="cuda")
    state = torch.cuda.get_rng_state()
    first = torch.rand(10, device="cuda")
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(10, device="cuda"), first)
    before = torch.cuda.get_rng_state()
    with torch.random.fork_rng():
        torch.rand(10, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_clones_go_their_own_way_and_graphsafe_states_together() -> None:
    generator = cuda_generator(3)
    clone = generator.clone_state()
    together = generator.graphsafe_get_state()
    torch.rand(10, device="cuda", generator=generator)
    assert clone.get_offset() == 0
    assert together.get_offset() == generator.get_offset() == 4
    generator.graphsafe_set_state(clone)
    torch.rand(10, device="cuda", generator=clone)
    assert generator.get_offset() == 4


def test_a_generator_of_the_cpu_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(3, device="cuda", generator=torch.Generator())


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    draws = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            draws.append(torch.randn(1_000_003, device="cuda", generator=cuda_generator(1)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*draws)
