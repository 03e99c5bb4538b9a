"""Recurrent networks on the device against the CPU's: cuDNN's operators and the fused cells."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.device.comparison import assert_close

aten = torch.ops.aten
MODES = {"RELU": 0, "TANH": 1, "LSTM": 2, "GRU": 3}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 1e-2}


def on_device(t: Tensor) -> Tensor:
    return t.detach().cuda().requires_grad_(t.requires_grad)


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def network(mode: str, **options: Any) -> torch.nn.RNNBase:
    if mode in ("RELU", "TANH"):
        return torch.nn.RNN(5, 7, nonlinearity=mode.lower(), **options)
    return getattr(torch.nn, mode)(5, 7, **options)  # type: ignore[no-any-return]


CASES = [
    pytest.param(mode, layers, bidirectional, batch_first, bias, proj, packed)
    for mode, layers, bidirectional, batch_first, bias, proj, packed in itertools.product(
        MODES, (1, 2), (False, True), (False, True), (False, True), (0, 3), (False, True)
    )
    if mode == "LSTM" or proj == 0
]


@pytest.mark.parametrize(("mode", "layers", "bidirectional", "batch_first", "bias", "proj", "packed"), CASES)
def test_cudnn_network(
    mode: str, layers: int, bidirectional: bool, batch_first: bool, bias: bool, proj: int, packed: bool
) -> None:
    torch.manual_seed(0)
    dtype = torch.float64
    options: dict[str, Any] = {"proj_size": proj} if proj else {}
    net = network(
        mode, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias, **options
    ).to(dtype)
    directions, width, batch, steps = 2 if bidirectional else 1, proj or 7, 4, 6
    x = leaf(*((batch, steps, 5) if batch_first else (steps, batch, 5)), dtype=dtype)
    hx = leaf(layers * directions, batch, width, dtype=dtype)
    cx = leaf(layers * directions, batch, 7, dtype=dtype) if mode == "LSTM" else None
    state = hx if cx is None else (hx, cx)
    if packed:
        sequence = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 5, 2, 1], batch_first=batch_first)
        result, final = net(sequence, state)
        data, sizes, expected = sequence.data, sequence.batch_sizes.tolist(), result.data
    else:
        expected, final = net(x, state)
        data, sizes = x, []
    expected_all = [expected, *(final if cx is not None else [final])]

    data_on_device = on_device(data)
    leaves = [data_on_device, on_device(hx), *([on_device(cx)] if cx is not None else [])]
    weights = [on_device(w) for w in net._flat_weights]
    stride = (4 if bias else 2) + (1 if proj else 0)
    out = aten._cudnn_rnn(
        leaves[0], weights, stride, None, leaves[1], leaves[2] if cx is not None else None, MODES[mode], 7,
        proj, layers, batch_first, 0.0, True, bidirectional, sizes, None,
    )  # fmt: skip
    actual_all = list(out[: len(expected_all)])
    assert all(t.is_cuda for t in actual_all)
    for actual, wanted in zip(actual_all, expected_all, strict=True):
        assert_close(actual, wanted, 1e-10)

    seeds = [torch.randn_like(t) for t in expected_all]
    inputs = [data, hx, *([cx] if cx is not None else []), *net._flat_weights]
    wanted_grads = torch.autograd.grad(expected_all, inputs, seeds)
    actual_grads = torch.autograd.grad(actual_all, [*leaves, *weights], [s.cuda() for s in seeds])
    for actual, wanted in zip(actual_grads, wanted_grads, strict=True):
        assert_close(actual, wanted, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cudnn", [False, True])
def test_module(mode: str, dtype: torch.dtype, cudnn: bool) -> None:
    """nn.RNN and its kin as a program uses them, with cuDNN switched on and off."""
    torch.manual_seed(0)
    reference = network(mode, num_layers=2, bidirectional=True).to(dtype)
    net = network(mode, num_layers=2, bidirectional=True).to(dtype)
    net.load_state_dict(reference.state_dict())
    net.cuda()
    x = torch.randn(6, 4, 5, dtype=dtype)
    with torch.backends.cudnn.flags(enabled=cudnn):
        actual = net(x.cuda())[0]
    expected = reference.float()(x.float())[0]
    assert actual.dtype == dtype
    assert_close(actual, expected, TOLERANCE[dtype])
    actual.float().square().sum().backward()
    expected.square().sum().backward()
    for parameter, wanted in zip(net.parameters(), reference.parameters(), strict=True):
        assert parameter.grad is not None
        assert wanted.grad is not None
        assert_close(parameter.grad, wanted.grad, 20 * TOLERANCE[dtype])


@pytest.mark.parametrize("cudnn", [False, True])
def test_autocast_runs_networks_in_the_lower_precision(cudnn: bool) -> None:
    net = torch.nn.LSTM(5, 7, num_layers=2).cuda()
    x = torch.randn(6, 4, 5, device="cuda")
    expected = net(x)[0]
    with torch.autocast("cuda", dtype=torch.float16), torch.backends.cudnn.flags(enabled=cudnn):
        actual = net(x)[0]
    assert actual.dtype == torch.float16
    assert_close(actual, expected.cpu(), 1e-2)
    actual.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_dropout_is_determined_by_its_state() -> None:
    net = torch.nn.LSTM(3, 4, num_layers=3).double()
    state = aten._cudnn_init_dropout_state(0.5, True, 123, dtype=torch.uint8, device="cuda")
    x, hx, cx = (on_device(leaf(*shape, dtype=torch.float64)) for shape in ((5, 2, 3), (3, 2, 4), (3, 2, 4)))
    weights = [on_device(w) for w in net._flat_weights]

    def run(x: Tensor, hx: Tensor, cx: Tensor) -> tuple[Tensor, ...]:
        result = aten._cudnn_rnn(
            x, weights, 4, None, hx, cx, 2, 4, 0, 3, False, 0.5, True, False, [], state.clone()
        )
        return tuple(result[:3])

    assert torch.autograd.gradcheck(run, (x, hx, cx))
    assert torch.equal(run(x, hx, cx)[0], run(x, hx, cx)[0])
    advanced = state.clone()
    aten._cudnn_rnn(x, weights, 4, None, hx, cx, 2, 4, 0, 3, False, 0.5, True, False, [], advanced)
    assert not torch.equal(advanced, state)


def test_dropout_follows_manual_seed() -> None:
    net = torch.nn.GRU(3, 4, num_layers=3, dropout=0.5).cuda()
    x = torch.randn(5, 2, 3, device="cuda")
    torch.manual_seed(1)
    first, second = net(x)[0], net(x)[0]
    torch.manual_seed(1)
    again = net(x)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(net.eval()(x)[0], net(x)[0])


def test_backward_needs_training_mode() -> None:
    net = torch.nn.LSTM(3, 4)
    weights = [on_device(w) for w in net._flat_weights]
    x, h = torch.randn(5, 2, 3, device="cuda", requires_grad=True), torch.zeros(1, 2, 4, device="cuda")
    out = aten._cudnn_rnn(x, weights, 4, None, h, h, 2, 4, 0, 1, False, 0.0, False, False, [], None)
    with pytest.raises(RuntimeError, match="cudnn RNN backward can only be called in training mode"):
        out[0].sum().backward()


def test_flatten_weight_keeps_values_in_one_storage() -> None:
    net = torch.nn.LSTM(3, 4, num_layers=2, proj_size=2)
    weights = [w.detach().cuda() for w in net._flat_weights]
    before = [w.clone() for w in weights]
    buffer = aten._cudnn_rnn_flatten_weight(weights, 5, 3, 2, 4, 2, 2, False, False)
    assert buffer.numel() == sum(w.numel() for w in weights)
    for weight, value in zip(weights, before, strict=True):
        assert torch.equal(weight, value)
        assert weight.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
    buffer.zero_()
    assert all(not w.any() for w in weights)


def lstm_cell(
    igates: Tensor, hgates: Tensor, cx: Tensor, ibias: Tensor, hbias: Tensor
) -> tuple[Tensor, Tensor]:
    i, f, g, o = (igates + hgates + ibias + hbias).chunk(4, 1)
    cy = f.sigmoid() * cx + i.sigmoid() * g.tanh()
    return o.sigmoid() * cy.tanh(), cy


def gru_cell(igates: Tensor, hgates: Tensor, hx: Tensor, ibias: Tensor, hbias: Tensor) -> tuple[Tensor]:
    ir, iz, inew = (igates + ibias).chunk(3, 1)
    hr, hz, hnew = (hgates + hbias).chunk(3, 1)
    new = ((ir + hr).sigmoid() * hnew + inew).tanh()
    return (new + (iz + hz).sigmoid() * (hx - new),)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_fused_cell(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gates = 20 if kind == "lstm" else 15
    inputs = [leaf(3, gates, dtype=dtype), leaf(3, gates, dtype=dtype), leaf(3, 5, dtype=dtype)]
    inputs += [leaf(gates, dtype=dtype), leaf(gates, dtype=dtype)]
    reference = lstm_cell if kind == "lstm" else gru_cell
    operator = aten._thnn_fused_lstm_cell if kind == "lstm" else aten._thnn_fused_gru_cell
    expected = reference(*(t.double() for t in inputs))
    leaves = [on_device(t) for t in inputs]
    actual = operator(*leaves)[: len(expected)]
    seeds = [torch.randn_like(t) for t in expected]
    for one, wanted in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        assert_close(one, wanted, TOLERANCE[dtype])
    wanted_grads = torch.autograd.grad(expected, inputs, seeds)
    actual_grads = torch.autograd.grad(actual, leaves, [s.to(dtype).cuda() for s in seeds])
    for one, wanted in zip(actual_grads, wanted_grads, strict=True):
        assert_close(one, wanted, 3 * TOLERANCE[dtype])


@pytest.mark.parametrize("output", [0, 1])
def test_lstm_cell_with_one_gradient(output: int) -> None:
    torch.manual_seed(0)
    inputs = [leaf(3, 20), leaf(3, 20), leaf(3, 5), leaf(20), leaf(20)]
    leaves = [on_device(t) for t in inputs]
    aten._thnn_fused_lstm_cell(*leaves)[output].sum().backward()
    lstm_cell(*inputs)[output].sum().backward()
    for one, wanted in zip(leaves, inputs, strict=True):
        assert one.grad is not None
        assert_close(one.grad, wanted.grad if wanted.grad is not None else torch.zeros_like(wanted), 1e-5)


def test_cell_sizes_are_checked() -> None:
    gates, cx = torch.randn(3, 20, device="cuda"), torch.randn(3, 4, device="cuda")
    with pytest.raises(
        RuntimeError, match=r"Expected tensor for argument #5 .prev_hidden. to have 15 elements"
    ):
        aten._thnn_fused_lstm_cell(gates, gates, cx)


def test_dropout_in_a_graph_draws_anew_at_every_replay() -> None:
    net = torch.nn.GRU(3, 4, num_layers=2, dropout=0.5).cuda()
    x = torch.ones(5, 2, 3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = net(x)[0]
    runs = []
    for seed in (1, 1, None):
        if seed is not None:
            torch.cuda.manual_seed(seed)
        graph.replay()
        runs.append(out.clone())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[1], runs[2])
