"""Two training steps of a small GPT whose tensors are too large for a dry run to compute; run by test_dry.py.

Prints each operator with the form of its arguments and results, and the allocator's peak, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.nn as nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WIDTH, HEADS, VOCABULARY, LENGTH, BATCH = 512, 8, 4096, 192, 4


class Log(TorchDispatchMode):
    """The operators that ran, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[Any]] = []

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.calls.append([str(operator), forms((args, kwargs)), forms(result)])
        return result


def forms(values: Any) -> list[Any]:
    """Dtype, sizes, strides and device of each tensor."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
    return [[str(t.dtype), list(t.shape), list(t.stride()), str(t.device)] for t in tensors]


class Block(nn.Module):
    """Attention and a feed-forward part, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] to the same."""
        parts = self.qkv(self.first(x)).split(WIDTH, dim=2)
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        return x + functional.dropout(self.down(functional.gelu(self.up(self.second(x)))), 0.1)


def main(dtype: torch.dtype, fused: bool) -> None:
    """Trains, and prints what was seen."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(VOCABULARY, WIDTH), Block(), Block(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)
    ).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH), device="cuda")
    with Log() as log:
        for _ in range(2):
            with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
                logits = model(tokens)
                loss = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    step = optimizer.state[next(model.parameters())]["step"].item()
    seen = {"calls": log.calls, "peak": torch.cuda.max_memory_allocated(), "step": step, "loss": loss.item()}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(getattr(torch, sys.argv[1]), sys.argv[2] == "fused")
