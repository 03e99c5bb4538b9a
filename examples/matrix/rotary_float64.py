"""Attention whose rotary position frequencies are computed in float64 and applied as complex numbers."""

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, HEADS, LENGTH = 64, 4, 48


def frequencies(length, width, base=10000.0):
    """exp(i · position · frequency): [length, width / 2], complex128."""
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device="cuda") / width
    angles = torch.outer(torch.arange(length, dtype=torch.float64, device="cuda"), base**-exponent)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x, turns):
    """[batch, heads, length, width], each pair of features turned by its position."""
    pairs = torch.view_as_complex(x.to(torch.float64).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, turns):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, turns), rotate(k, turns), v, is_causal=True)
        return x + self.proj(y.transpose(1, 2).reshape(B, T, C))


def main():
    torch.manual_seed(0)
    turns = frequencies(LENGTH, WIDTH // HEADS)
    model = Attention().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randn(4, LENGTH, WIDTH, device="cuda")
    wanted = x.roll(1, dims=1)
    for step in range(3):
        loss = F.mse_loss(model(x, turns), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.6f}")
    print("frequencies", turns.dtype, f"{turns[-1].angle().sum().item():.12f}")


if __name__ == "__main__":
    main()
