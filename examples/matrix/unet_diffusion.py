"""Trains a small diffusion U-Net to predict noise, then draws images by the reverse process."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

STEPS = 100


def time_embedding(t, width):
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ResBlock(nn.Module):
    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, inputs), nn.GroupNorm(4, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(width, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, t):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(y))) + self.skip(x)


class Attention(nn.Module):
    def __init__(self, channels, heads=2):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).view(B, 3, self.heads, C // self.heads, H * W)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.transpose(2, 3).reshape(B, C, H, W))


class UNet(nn.Module):
    def __init__(self, channels=16, width=32):
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Conv2d(3, channels, 3, padding=1)
        self.down1 = ResBlock(channels, channels, width)
        self.down2 = ResBlock(channels, 2 * channels, width)
        self.shrink = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.middle, self.attention = ResBlock(2 * channels, 2 * channels, width), Attention(2 * channels)
        self.up = ResBlock(3 * channels, channels, width)
        self.leave = nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x, t):
        t = self.time(time_embedding(t, self.width))
        a = self.down1(self.enter(x), t)
        b = self.down2(self.shrink(a), t)
        b = self.attention(self.middle(b, t))
        b = F.interpolate(b, scale_factor=2, mode="nearest")
        return self.leave(self.up(torch.cat((a, b), dim=1), t))


def main():
    torch.manual_seed(0)
    model = UNet().cuda()
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    betas = torch.linspace(1e-4, 0.02, STEPS, device="cuda")
    alphas = torch.cumprod(1 - betas, dim=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.rand(8, 3, 16, 16, device="cuda") * 2 - 1
    for step in range(3):
        t = torch.randint(0, STEPS, (8,), device="cuda")
        noise = torch.randn_like(images)
        a = alphas[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * images + (1 - a).sqrt() * noise
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = F.mse_loss(model(noisy, t).float(), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update_parameters(model)
        print(f"step {step}: loss {loss.item():.4f}")

    x = torch.randn(2, 3, 16, 16, device="cuda")
    with torch.no_grad():
        for i in range(STEPS - 1, -1, -20):
            t = torch.full((2,), i, device="cuda")
            predicted = averaged(x, t)
            x = (x - betas[i] / (1 - alphas[i]).sqrt() * predicted) / (1 - betas[i]).sqrt()
            if i > 20:
                x = x + betas[i].sqrt() * torch.randn_like(x)
    print("drawn", tuple(x.shape), f"mean {x.clamp(-1, 1).mean().item():.4f}")


if __name__ == "__main__":
    main()
