"""Operators that only CUDA has, or computes where the CPU refuses, against plain references on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.device.comparison import assert_close

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
FLOATS = list(TOLERANCE)


# ---- batch normalisation ----


@pytest.mark.parametrize(
    ("dtype", "shape"), list(itertools.product(FLOATS, [(6, 3), (4, 3, 5), (2, 3, 4, 5)]))
)
def test_parts_of_sync_batch_norm(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Two processes' shares of a batch, forward and backward, against the whole batch."""
    torch.manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    halves = [torch.randn(*shape, dtype=dtype, device="cuda") * (i + 1) + i for i in range(2)]
    weight, bias = (torch.randn(3, dtype=wide, device="cuda") for _ in range(2))
    running_mean, running_var = (
        torch.zeros(3, dtype=wide, device="cuda"),
        torch.ones(3, dtype=wide, device="cuda"),
    )
    stats = [torch.batch_norm_stats(half, 1e-5) for half in halves]
    assert all(t.dtype == wide for pair in stats for t in pair)
    count = halves[0].numel() // 3
    counts = torch.full((2,), count, device="cuda", dtype=wide)
    means, scales = (torch.stack(t) for t in zip(*stats, strict=True))
    mean, scale = torch.batch_norm_gather_stats_with_counts(
        halves[0], means, scales, running_mean, running_var, 0.1, 1e-5, counts
    )
    mean_again, scale_again = torch.batch_norm_gather_stats(
        halves[0], means, scales, None, None, 0.1, 1e-5, count
    )
    assert_close(mean_again, mean, 1e-6)
    assert_close(scale_again, scale, 1e-6)
    outputs = [torch.batch_norm_elemt(half, weight, bias, mean, scale, 1e-5) for half in halves]

    whole = torch.cat(halves).cpu().double().requires_grad_()
    expected_mean, expected_var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    w, b = (t.cpu().double().requires_grad_() for t in (weight, bias))
    expected = functional.batch_norm(
        whole, expected_mean, expected_var, w, b, training=True, momentum=0.1, eps=1e-5
    )
    assert all(t.dtype == dtype for t in outputs)
    assert_close(torch.cat(outputs), expected, TOLERANCE[dtype])
    assert_close(running_mean, expected_mean, TOLERANCE[dtype])
    assert_close(running_var, expected_var, TOLERANCE[dtype])

    seed = torch.randn_like(torch.cat(outputs))
    parts = seed.split(shape[0])
    reduced = [
        torch.batch_norm_backward_reduce(grad, half, mean, scale, weight, True, True, True)
        for grad, half in zip(parts, halves, strict=True)
    ]
    sum_dy, sum_dy_xmu, grad_weight, grad_bias = (sum(t) for t in zip(*reduced, strict=True))
    grads = [
        torch.batch_norm_backward_elemt(grad, half, mean, scale, weight, sum_dy, sum_dy_xmu, counts.int())
        for grad, half in zip(parts, halves, strict=True)
    ]
    wanted = torch.autograd.grad(expected, (whole, w, b), seed.cpu().double())
    for one, other in zip((torch.cat(grads), grad_weight, grad_bias), wanted, strict=True):
        assert_close(one, other, 10 * TOLERANCE[dtype])


def test_gather_with_unequal_counts() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(n, 3, device="cuda") for n in (2, 7)]
    stats = [torch.batch_norm_stats(part, 1e-5) for part in parts]
    means, scales = (torch.stack(t) for t in zip(*stats, strict=True))
    mean, scale = torch.batch_norm_gather_stats_with_counts(
        parts[0], means, scales, None, None, 0.1, 1e-5, torch.tensor([2.0, 7.0], device="cuda")
    )
    whole = torch.cat(parts)
    assert_close(mean, whole.mean(0), 1e-5)
    assert_close(scale, (whole.var(0, correction=0) + 1e-5).rsqrt(), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_cudnn_batch_norm(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5, dtype=dtype, device="cuda", requires_grad=True)
    weight, bias = (torch.randn(3, device="cuda", requires_grad=True) for _ in range(2))
    mean, var = torch.zeros(3, device="cuda"), torch.ones(3, device="cuda")
    out, _, _, reserve = torch.ops.aten.cudnn_batch_norm(x, weight, bias, mean, var, True, 0.1, 1e-5)
    assert reserve.dtype == torch.uint8
    inputs = [t.detach().cpu().double().requires_grad_() for t in (x, weight, bias)]
    wanted_mean, wanted_var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    expected = functional.batch_norm(inputs[0], wanted_mean, wanted_var, *inputs[1:], training=True)
    assert_close(out, expected, TOLERANCE[dtype])
    assert_close(mean, wanted_mean, TOLERANCE[dtype])
    seed = torch.randn_like(out)
    ours = torch.autograd.grad(out, (x, weight, bias), seed)
    theirs = torch.autograd.grad(expected, inputs, seed.cpu().double())
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, 5 * TOLERANCE[dtype])


# ---- cuDNN's convolutions, CTC and grids ----


@pytest.mark.parametrize("transposed", [False, True])
def test_cudnn_convolution(transposed: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 9, 9), torch.randn(4, 2, 3, 3) if transposed else torch.randn(6, 2, 3, 3)
    tail = ([2, 2], [1, 1], 2, False, False, False)
    leaves = [t.cuda().requires_grad_() for t in (x, weight)]
    inputs = [t.clone().requires_grad_() for t in (x, weight)]
    if transposed:
        out = torch.cudnn_convolution_transpose(*leaves, [1, 1], [1, 1], *tail)
        expected = functional.conv_transpose2d(*inputs, stride=2, padding=1, output_padding=1, groups=2)
    else:
        out = torch.cudnn_convolution(*leaves, [1, 1], *tail)
        expected = functional.conv2d(*inputs, stride=2, padding=1, groups=2)
    assert_close(out, expected, 1e-4)
    seed = torch.randn_like(out)
    ours = torch.autograd.grad(out, leaves, seed)
    for one, other in zip(ours, torch.autograd.grad(expected, inputs, seed.cpu()), strict=True):
        assert_close(one, other, 1e-3)


def test_fused_convolutions() -> None:
    torch.manual_seed(0)
    x, weight, bias, z = (
        torch.randn(2, 4, 9, 9),
        torch.randn(6, 4, 3, 3),
        torch.randn(6),
        torch.randn(2, 6, 9, 9),
    )
    geometry = ([1, 1], [1, 1], [1, 1], 1)
    out = torch.cudnn_convolution_relu(x.cuda(), weight.cuda(), bias.cuda(), *geometry)
    assert_close(out, functional.conv2d(x, weight, bias, padding=1).relu(), 1e-4)
    out = torch.cudnn_convolution_add_relu(x.cuda(), weight.cuda(), z.cuda(), 0.5, bias.cuda(), *geometry)
    assert_close(out, (functional.conv2d(x, weight, bias, padding=1) + 0.5 * z).relu(), 1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_depthwise_convolution(dims: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, *[7] * dims), torch.randn(6, 1, *[3] * dims), torch.randn(6)
    operator = torch._C._nn._conv_depthwise2d if dims == 2 else torch._C._nn.conv_depthwise3d
    out = operator(x.cuda(), weight.cuda(), [3] * dims, bias.cuda(), [1] * dims, [1] * dims, [1] * dims)
    reference: Any = functional.conv2d if dims == 2 else functional.conv3d
    assert_close(out, reference(x, weight, bias, padding=1, groups=3), 1e-4)


@pytest.mark.parametrize(("targets_on", "lengths_on"), [("cpu", "cpu"), ("cuda", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("target_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_ctc_loss(targets_on: str, lengths_on: str, target_dtype: torch.dtype, reduction: str) -> None:
    """int32 targets beside their lengths go cuDNN's way; others go PyTorch's own."""
    torch.manual_seed(0)
    logits = torch.randn(12, 3, 5)
    lengths = torch.full((3,), 12, dtype=torch.int32)
    target_lengths = torch.tensor([3, 4, 2], dtype=torch.int32)
    targets = torch.randint(1, 5, (9,), dtype=target_dtype)
    leaf, reference = logits.cuda().requires_grad_(), logits.clone().requires_grad_()
    log_probs = leaf.log_softmax(2)
    out = functional.ctc_loss(
        log_probs, targets.to(targets_on), lengths.to(lengths_on), target_lengths.to(lengths_on),
        reduction=reduction,
    )  # fmt: skip
    expected = functional.ctc_loss(
        reference.log_softmax(2), targets, lengths, target_lengths, reduction=reduction
    )
    out.sum().backward()
    expected.sum().backward()
    assert leaf.grad is not None
    assert reference.grad is not None
    assert_close(out, expected, 1e-5)
    assert_close(leaf.grad, reference.grad, 1e-5)
    by_cudnn = torch._use_cudnn_ctc_loss(log_probs, targets.to(targets_on), [12] * 3, [3, 4, 2], 0)
    assert by_cudnn == (targets_on == "cpu" and target_dtype == torch.int32)


def test_grids() -> None:
    torch.manual_seed(0)
    theta, x = torch.randn(2, 2, 3, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    leaves = [t.cuda().requires_grad_() for t in (theta, x)]
    inputs = [t.clone().requires_grad_() for t in (theta, x)]
    out = torch.cudnn_grid_sampler(leaves[1], torch.cudnn_affine_grid_generator(leaves[0], 2, 3, 6, 7))
    expected = functional.grid_sample(
        inputs[1], functional.affine_grid(inputs[0], [2, 3, 6, 7], align_corners=True), align_corners=True
    )
    assert_close(out, expected, 1e-10)
    seed = torch.randn_like(out)
    ours = torch.autograd.grad(out, leaves, seed)
    for one, other in zip(ours, torch.autograd.grad(expected, inputs, seed.cpu()), strict=True):
        assert_close(one, other, 1e-9)


# ---- where the CPU's kernel refuses ----


@pytest.mark.parametrize("operator", [functional.softmax, functional.log_softmax])
def test_softmax_of_half_into_float(operator: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 9).half()
    leaf, reference = x.cuda().requires_grad_(), x.clone().requires_grad_()
    out = operator(leaf, dim=1, dtype=torch.float32)
    expected = operator(reference.float(), dim=1)
    assert out.dtype == torch.float32
    assert_close(out, expected, 1e-6)
    seed = torch.randn_like(out)
    (grad,) = torch.autograd.grad(out, leaf, seed)
    assert grad.dtype == torch.float16
    assert_close(grad, torch.autograd.grad(expected, reference, seed.cpu())[0], 1e-3)
    raw = torch._softmax if operator is functional.softmax else torch._log_softmax
    with pytest.raises(RuntimeError, match="conversion is supported for Half type only"):
        raw(leaf.float(), 1, True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_histc_of_integers(dtype: torch.dtype) -> None:
    values = torch.tensor([0, 1, 1, 5, 7, 7, 7, 9], dtype=dtype, device="cuda")
    counts = torch.histc(values, bins=4, min=0, max=8)
    assert counts.dtype == dtype
    assert counts.tolist() == [3, 0, 1, 3]
    assert torch.histc(values, bins=10, min=0, max=9).sum().item() == 8
    assert torch.histc(values, bins=3).tolist() == [3, 1, 4]
    assert torch.histc(values.new_full((3,), 4), bins=2).tolist() == [0, 3]
    with pytest.raises(RuntimeError, match="max must be larger than min"):
        torch.histc(values, bins=3, min=5, max=2)


def test_unique_is_always_sorted() -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 1000, (5000,), device="cuda")
    found, inverse = torch.unique(values, sorted=False, return_inverse=True)
    assert torch.equal(found, values.cpu().unique().cuda())
    assert torch.equal(found[inverse], values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_samples_of_a_16_bit_grid_are_rounded_once(mode: str, dtype: torch.dtype) -> None:
    image = torch.randn(2, 3, 16, 16, device="cuda", dtype=dtype)
    grid = torch.rand(2, 8, 8, 2, device="cuda", dtype=dtype) * 2 - 1
    wide = image.float().requires_grad_()
    narrow = image.clone().requires_grad_()
    expected = functional.grid_sample(wide, grid.float(), mode=mode, align_corners=True)
    sampled = functional.grid_sample(narrow, grid, mode=mode, align_corners=True)
    assert torch.equal(sampled, expected.to(dtype))
    expected.sum().backward()
    sampled.sum().backward()
    assert narrow.grad is not None
    assert wide.grad is not None
    assert torch.equal(narrow.grad, wide.grad.to(dtype))


def test_half_precision_fft() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, dtype=torch.float16, device="cuda")
    spectrum = torch.fft.rfft(x)
    assert spectrum.dtype == torch.complex32
    assert_close(torch.view_as_real(spectrum), torch.view_as_real(torch.fft.rfft(x.cpu().double())), 2e-2)
    assert_close(torch.fft.irfft(spectrum), x, 1e-2)
    assert torch.fft.fft(spectrum[:, :8]).dtype == torch.complex32
    with pytest.raises(RuntimeError, match=r"powers of two .* but got a signal size of\[15\]"):
        torch.fft.rfft(x[:, :15])


@pytest.mark.skipif(torch.__version__ < "2.9", reason="not an operator of this torch")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rms_norm_backward(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 8, dtype=dtype), torch.randn(8, dtype=dtype)
    reference = [t.double().requires_grad_() for t in (x, weight)]
    expected = functional.rms_norm(reference[0], [8], reference[1], eps=1e-6)
    seed = torch.randn_like(x)
    wanted = torch.autograd.grad(expected, reference, seed.double())
    rstd = (x.double().square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    rstd = rstd.to(torch.float64 if dtype == torch.float64 else torch.float32)
    grads = torch.ops.aten._fused_rms_norm_backward(
        seed.cuda(), x.cuda(), [8], rstd.cuda(), weight.cuda(), [True, True]
    )
    for one, other in zip(grads, wanted, strict=True):
        assert_close(one, other, 2 * TOLERANCE[dtype])


def test_complex_numbers_are_scattered_and_added_but_not_multiplied() -> None:
    x = torch.ones(2, 2, dtype=torch.complex64, device="cuda")
    index = torch.zeros(2, 2, dtype=torch.long, device="cuda")
    assert x.clone().scatter_(0, index, x, reduce="add").tolist() == [[3, 3], [1, 1]]
    assert torch.equal(x.clone().scatter_(0, index, 2 * x)[0], 2 * x[0])
    with pytest.raises(NotImplementedError, match="not implemented for 'ComplexFloat'"):
        x.scatter_(0, index, x, reduce="multiply")
    with pytest.raises(NotImplementedError, match="not implemented for 'ComplexFloat'"):
        x.scatter_(0, index, 2.0, reduce="multiply")


def test_a_lazy_clone_is_a_copy() -> None:
    x = torch.arange(4.0, device="cuda", requires_grad=True)
    copy = x._lazy_clone()
    copy.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 1]
    with torch.no_grad():
        copy.zero_()
    assert x.tolist() == [0, 1, 2, 3]


# ---- optimizers and gradient scaling ----


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_fused_optimizer(name: str) -> None:
    if name == "Adagrad" and torch.__version__ < "2.11":
        pytest.skip("this torch has no fused Adagrad on cuda")
    torch.manual_seed(0)
    options = {"momentum": 0.9} if name == "SGD" else {}
    start = torch.randn(5, 7)
    parameters = [start.cuda().requires_grad_(), start.clone().requires_grad_()]
    optimizers = [getattr(torch.optim, name)([p], lr=0.1, fused=p.is_cuda, **options) for p in parameters]
    for _ in range(5):
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = parameter.detach().cos()
            optimizer.step()
    assert_close(parameters[0], parameters[1], 1e-5)


def test_fused_adam_skips_a_step_whose_gradients_are_infinite() -> None:
    parameter = torch.ones(4, device="cuda", requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=torch.tensor(0.1, device="cuda"), fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=4.0)
    for grad, moved in ((torch.inf, False), (1.0, True)):
        before = parameter.detach().clone()
        scaler.scale((parameter * torch.tensor(grad, device="cuda")).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert (not torch.equal(before, parameter)) == moved
    assert scaler.get_scale() == 2.0


def test_foreach_operators() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(n) for n in (3, 5, 1)]
    moved = [t.cuda() for t in tensors]
    torch._foreach_mul_(moved, 2.0)
    torch._foreach_add_(moved, [t.cuda() for t in tensors], alpha=0.5)
    for one, other in zip(moved, tensors, strict=True):
        assert_close(one, other * 2.5, 1e-6)
    for one, other in zip(torch._foreach_norm(moved), tensors, strict=True):
        assert_close(one, (other * 2.5).norm(), 1e-5)


def test_a_kernel_may_make_views_in_its_threads() -> None:
    image = torch.randn(8, 4, 8, 8, dtype=torch.float64)
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64)
    out = torch.nn.functional.conv_transpose2d(image.cuda(), weight.cuda().requires_grad_())
    torch.testing.assert_close(out.detach().cpu(), torch.nn.functional.conv_transpose2d(image, weight))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("median CUDA with indices output", lambda x: x.median(0)),
        ("_bincount_cuda", lambda x: torch.bincount(x.long().abs(), x)),
        ("put_", lambda x: x.put_(torch.tensor([0, 0], device="cuda"), x[:2].clone(), accumulate=True)),
    ],
)
def test_what_is_not_deterministic_on_cuda_raises(name: str, call: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(8, device="cuda")
    call(x)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match=f"^{name} does not have a deterministic implementation"):
            call(x)
        x.median()
        torch.bincount(x.long().abs())
    finally:
        torch.use_deterministic_algorithms(False)


def test_coalesced_tensors_know_that_they_are() -> None:
    indices = torch.tensor([[0, 1, 1]], device="cuda")
    summed = torch.sparse_coo_tensor(indices, torch.ones(3, device="cuda"), (2,)).coalesce()
    assert summed.is_coalesced()
    assert summed.values().tolist() == [1, 2]


def test_a_cpu_tensor_is_not_indexed_by_indices_on_the_device() -> None:
    x, index = torch.arange(6.0).view(3, 2), torch.tensor([0, 2])
    said = r"indices should be either on cpu or on the same device as the indexed tensor \(cpu\)"
    with pytest.raises(RuntimeError, match=said):
        x[index.cuda()]
    with pytest.raises(RuntimeError, match=said):
        x[index.cuda()] = 1.0
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.multinomial(x[0], 1, out=index.cuda())
    assert torch.equal(x.cuda()[index].cpu(), x[index])


def test_the_maxima_of_an_embedding_bag_have_no_deterministic_gradient() -> None:
    bags = torch.nn.EmbeddingBag(4, 3, mode="max", device="cuda")
    out = bags(torch.tensor([0, 1, 2], device="cuda"), torch.tensor([0, 2], device="cuda"))
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="embedding_bag_backward_cuda_max does not have a determin"):
            out.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norm_adds_up_in_32_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1500, 64), torch.rand(64), torch.rand(64)
    given = [each.to("cuda", dtype).requires_grad_() for each in (x, weight, bias)]
    exact = [each.detach().double().requires_grad_() for each in given]
    out, mean, rstd = torch.native_layer_norm(given[0], (64,), given[1], given[2], 1e-5)
    assert (out.dtype, mean.dtype, rstd.dtype) == (dtype, torch.float32, torch.float32)
    expected = torch.nn.functional.layer_norm(exact[0], (64,), exact[1], exact[2])
    gradient = torch.randn(1500, 64, device="cuda").to(dtype)
    ours = torch.autograd.grad(out, given, gradient)
    theirs = torch.autograd.grad(expected, exact, gradient.double())
    for a, b in zip((out, *ours), (expected, *theirs), strict=True):
        assert a.dtype == dtype
        # One rounding of the exact sum, and what 32 bits lose on the way.
        assert ((a.double() - b).abs() <= torch.finfo(dtype).eps * b.abs().clamp(min=1)).all()
