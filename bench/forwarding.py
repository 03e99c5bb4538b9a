"""What the way through Heitu costs on a vendor's plugin: a GPT step on cuda against device="npu" directly.

    python bench/forwarding.py [--rounds N]

Both sides run torch_npu on the emulated CANN, each in a process of its own, and take turns: one step each,
in an order that alternates. The medians are compared. It takes the torch_npu wheel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

WIDTHS = (256, 32)


def serve(device: str, width: int) -> None:
    """Does a training step for each line on standard input and answers with its seconds."""
    import torch
    import torch.nn as nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = self.qkv(self.norms[0](x)).view(batch, length, 3, 4, -1).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
            return x + self.mlp(self.norms[1](x))

    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Embedding(64, width), *(Block() for _ in range(4)), nn.LayerNorm(width), nn.Linear(width, 64)
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(0, 64, (8, 65), generator=torch.Generator().manual_seed(1)).to(device)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        print(time.perf_counter() - start, flush=True)


class Side:
    """A process that serves steps."""

    def __init__(self, device: str, width: int) -> None:
        command = [sys.executable, "-m", "heitu", "run", "--chip", "ascend-910b", "--plugin"]
        command += ["--via", "plugin"] if device != "cuda" else []
        command += [__file__, "--serve", device, "--width", str(width)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HEITU_QUIET": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> float:
        """Seconds of one step."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Lets the process end."""
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=60, help="steps of each side; the first ten do not count"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.width)
        return
    for width in WIDTHS:
        sides = {device: Side(device, width) for device in ("cuda", "npu")}
        times: dict[str, list[float]] = {device: [] for device in sides}
        for turn in range(asked.rounds):
            for device in sorted(sides, reverse=turn % 2 == 1):
                times[device].append(sides[device].step())
        for side in sides.values():
            side.end()
        cuda, npu = (statistics.median(times[device][10:]) for device in ("cuda", "npu"))
        print(
            f"width {width}: cuda {cuda * 1e3:.1f} ms, npu {npu * 1e3:.1f} ms, ratio {cuda / npu:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
