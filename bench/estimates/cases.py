"""What published measurements were made of, run without data so that the estimate can be held against them.

Usage: heitu run --dry --memory 16TiB --chip a100 bench/estimates/cases.py OUT CASE ...

Writes to OUT, for each case, which operators ran and how often. A case is `operator NAME DTYPE SCALE` (SCALE:
of the first size, in 1/1024 of what the benchmark has) or `train MODEL LENGTH BATCH [recompute]`: forward and
backward of one micro-batch.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from heitu.rehearsal.reading import read
from heitu.rehearsal.record import Counts, Operator

MI = 1024 * 1024


def full(*shape: int, dtype: torch.dtype, grad: bool = False) -> Tensor:
    """A tensor on the device; which values it has matters to no case."""
    return torch.empty(shape, dtype=dtype, device="cuda", requires_grad=grad)


def unary(of: Callable[[Tensor], object]) -> Callable[[int, torch.dtype], Callable[[], object]]:
    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        given = full(scale, 1024, 1024, dtype=dtype)
        return lambda: of(given)

    return make


def binary(of: Callable[[Tensor, Tensor], object]) -> Callable[[int, torch.dtype], Callable[[], object]]:
    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        a, b = full(scale, 1024, 1024, dtype=dtype), full(scale, 1024, 1024, dtype=dtype)
        return lambda: of(a, b)

    return make


def rows(of: Callable[[Tensor], object], factor: int) -> Callable[[int, torch.dtype], Callable[[], object]]:
    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        given = full(scale * factor, 1024 * factor, dtype=dtype)
        return lambda: of(given)

    return make


def trained(
    of: Callable[..., Tensor], *shape: Callable[[int], int]
) -> Callable[[int, torch.dtype], Callable[[], object]]:
    """Forward, the sum of the results, and the gradient of what was given."""

    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        given = full(*(size(scale) for size in shape), dtype=dtype, grad=True)

        def step() -> object:
            total = of(given).sum()
            return torch.autograd.grad(total, given, torch.zeros_like(total))

        return step

    return make


def products(
    of: Callable[..., object], *shapes: Callable[[int], tuple[int, ...]]
) -> Callable[[int, torch.dtype], Callable[[], object]]:
    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        given = [full(*shape(scale), dtype=dtype) for shape in shapes]
        return lambda: of(*given)

    return make


def cross_entropy(scale: int, dtype: torch.dtype) -> Callable[[], object]:
    target = torch.zeros(scale, dtype=torch.int64, device="cuda")
    made = trained(lambda logits: F.cross_entropy(logits, target), lambda s: s, lambda s: 128000)
    return made(scale, dtype)


def group_norm(columns: int, backward: bool) -> Callable[[int, torch.dtype], Callable[[], object]]:
    def make(scale: int, dtype: torch.dtype) -> Callable[[], object]:
        norm = nn.GroupNorm(3, 6, device="cuda", dtype=dtype)
        shape = (lambda s: 20 * s // 1024, lambda s: 6, lambda s: columns)
        if backward:
            return trained(norm, *shape)(scale, dtype)
        given = full(*(size(scale) for size in shape), dtype=dtype, grad=True)
        return lambda: norm(given)

    return make


IMAGE = (lambda s: s, lambda s: 1024, lambda s: 1024)
OPERATORS: dict[str, Callable[[int, torch.dtype], Callable[[], object]]] = {
    **{
        name: unary(getattr(torch, name))
        for name in ("abs", "neg", "cos", "sin", "exp", "reciprocal", "rsqrt")
    },
    **{name: unary(getattr(torch, name)) for name in ("isinf", "isnan", "bitwise_not", "clone")},
    **{name: unary(getattr(torch, name)) for name in ("sum", "mean", "prod", "max", "min")},
    **{name: binary(getattr(torch, name)) for name in ("add", "sub", "rsub", "bitwise_and", "bitwise_or")},
    **{name: binary(getattr(torch, name)) for name in ("eq", "ge", "gt", "le", "lt", "ne")},
    "gelu": unary(F.gelu),
    "dropout": unary(lambda a: F.dropout(a, 0.2)),
    "mul": unary(lambda a: torch.mul(a, 2)),
    "div": unary(lambda a: torch.div(a, 0.5)),
    "pow": unary(lambda a: torch.pow(a, 2)),
    "amax": rows(lambda a: torch.amax(a, 1), 80),
    "argmax": rows(lambda a: torch.argmax(a, 1), 80),
    "triu": rows(torch.triu, 50),
    "relu": trained(F.relu, *IMAGE),
    "sigmoid": trained(torch.sigmoid, *IMAGE),
    "silu": trained(F.silu, *IMAGE),
    "tanh": trained(torch.tanh, *IMAGE),
    "softmax": trained(lambda a: torch.softmax(a, 1), *IMAGE),
    "log_softmax": trained(lambda a: torch.log_softmax(a, 1), lambda s: s * 1024, lambda s: 10),
    "native_dropout": trained(lambda a: F.dropout(a, 0.2), lambda s: s * MI),
    "cross_entropy_loss": cross_entropy,
    "group_norm": group_norm(65536, backward=False),
    "native_group_norm": group_norm(32768, backward=True),
    "mm": products(torch.mm, lambda s: (8 * s, 8192), lambda s: (8192, 8192)),
    "linear": products(F.linear, lambda s: (8 * s, 8192), lambda s: (8192, 8192)),
    "addmm": products(torch.addmm, lambda s: (4 * s, 4096), lambda s: (4 * s, 4096), lambda s: (4096, 4096)),
    "bmm": products(torch.bmm, lambda s: (2, 4 * s, 4096), lambda s: (2, 4096, 4096)),
    "mv": products(torch.mv, lambda s: (s, 1024), lambda s: (1024,)),
    "outer": products(torch.outer, lambda s: (s * 10,), lambda s: (10240,)),
}


@dataclass(frozen=True)
class Model:
    """A decoder. `gated`: the feed-forward part has three matrices and norms are RMSNorm, as in Llama."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    kv_heads: int = 0
    gated: bool = True


MODELS = {
    "mpt-125m": Model(12, 768, 12, 3072, 50368, gated=False),
    "mpt-1b": Model(24, 2048, 16, 8192, 50368, gated=False),
    "mpt-3b": Model(32, 2560, 20, 10240, 50368, gated=False),
    "mpt-7b": Model(32, 4096, 32, 16384, 50368, gated=False),
    "mpt-13b": Model(40, 5120, 40, 20480, 50368, gated=False),
    "mpt-30b": Model(48, 7168, 56, 28672, 50368, gated=False),
    "llama-7b": Model(32, 4096, 32, 11008, 32000),
    "llama-13b": Model(40, 5120, 40, 13824, 32000),
    "llama-3-8b": Model(32, 4096, 32, 14336, 128256, kv_heads=8),
    "aquila2-7b": Model(32, 4096, 32, 11008, 100008),
}


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and beside a residual."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        width = model.width
        self.heads, self.kv_heads = model.heads, model.kv_heads or model.heads
        self.head_width = width // model.heads
        norm = nn.RMSNorm if model.gated else nn.LayerNorm
        self.norms = nn.ModuleList(norm(width) for _ in range(2))
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * self.kv_heads * self.head_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, model.inner * (2 if model.gated else 1), bias=False)
        self.down = nn.Linear(model.inner, width, bias=False)
        self.gated = model.gated

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        normed = self.norms[0](x)
        query = self.query(normed).view(rows, length, self.heads, -1).transpose(1, 2)
        both = self.key_value(normed).view(rows, length, 2 * self.kv_heads, -1).transpose(1, 2)
        key, value = both.chunk(2, dim=1)
        if self.gated:  # rotary positions
            query, key = rotated(query), rotated(key)
        shared = self.kv_heads != self.heads
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=shared)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        inner = self.up(self.norms[1](x))
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            inner = F.silu(gate) * inner
        else:
            inner = F.gelu(inner)
        return x + self.down(inner)


def rotated(x: Tensor) -> Tensor:
    """Pairs of columns turned by their row's angle; the angles themselves cost next to nothing."""
    angles = full(x.shape[2], x.shape[3], dtype=x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * angles + torch.cat((-second, first), dim=-1) * angles


class Decoder(nn.Module):
    """Tokens to the loss of the next."""

    def __init__(self, model: Model, recompute: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(model.vocabulary, model.width)
        self.layers = nn.ModuleList(Layer(model) for _ in range(model.layers))
        self.norm = (nn.RMSNorm if model.gated else nn.LayerNorm)(model.width)
        self.head = nn.Linear(model.width, model.vocabulary, bias=False)
        self.recompute = recompute

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def training(
    model: str, length: int, batch: int, recompute: bool, dtype: torch.dtype
) -> Callable[[], object]:
    with torch.device("meta"):
        decoder = Decoder(MODELS[model], recompute).to(dtype)
    decoder = decoder.to_empty(device="cuda").train()
    tokens = torch.zeros((batch, length), dtype=torch.int64, device="cuda")
    return lambda: decoder(tokens).backward()


def made(case: str) -> Callable[[], object]:
    """What to run for a case."""
    kind, name, *rest = case.split()
    if kind == "operator":
        return OPERATORS[name](int(rest[1]), getattr(torch, rest[0]))
    dtype = getattr(torch, rest[2])
    return training(name, int(rest[0]), int(rest[1]), rest[3:] == ["recompute"], dtype)


def counted() -> dict[Operator, Counts]:
    """What this process has run so far."""
    import heitu_core

    heitu_core.settle_record()
    return dict(read(Path(os.environ["HEITU_RECORD"])).operators)


def since(before: dict[Operator, Counts]) -> list[tuple[Operator, Counts]]:
    """What it has run since then."""
    lines = []
    for operator, now in counted().items():
        old = before.get(operator, Counts())
        if now.calls > old.calls:
            calls = now.calls - old.calls
            given, results = now.bytes_in - old.bytes_in, now.bytes_out - old.bytes_out
            lines.append((operator, Counts(calls=calls, bytes_in=given, bytes_out=results)))
    return lines


def main() -> None:
    """Runs the cases one after the other."""
    out, *cases = sys.argv[1:]
    found = {}
    for case in cases:
        step = made(case)
        before = counted()
        step()
        found[case] = since(before)
        del step
    Path(out).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
