"""Trains a diffusion transformer (patches, adaptive norms, class labels with dropout) by flow matching."""

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, HEADS, PATCH, SIZE, CLASSES = 48, 4, 2, 16, 10


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU("tanh"), nn.Linear(4 * WIDTH, WIDTH))
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x, condition):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).chunk(6, dim=-1)
        B, T, C = x.shape
        qkv = self.qkv(modulate(self.norm1(x), shift1, scale1)).view(B, T, 3, HEADS, C // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C)
        x = x + gate1[:, None] * self.proj(y)
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(4, WIDTH, PATCH, stride=PATCH)
        self.positions = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2, WIDTH) * 0.02)
        self.time = nn.Sequential(nn.Linear(1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.labels = nn.Embedding(CLASSES + 1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 4 * PATCH * PATCH)

    def forward(self, x, t, label):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        condition = self.time(t[:, None]) + self.labels(label)
        for block in self.blocks:
            tokens = block(tokens, condition)
        y = self.head(self.norm(tokens)).transpose(1, 2)
        return F.fold(y, (SIZE, SIZE), PATCH, stride=PATCH)


def main():
    torch.manual_seed(0)
    model = DiT().to("cuda", torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    latents = torch.randn(8, 4, SIZE, SIZE, device="cuda", dtype=torch.bfloat16)
    label = torch.randint(0, CLASSES, (8,), device="cuda")
    for step in range(3):
        t = torch.sigmoid(torch.randn(8, device="cuda")).to(torch.bfloat16)
        noise = torch.randn_like(latents)
        mixed = torch.lerp(latents, noise, t.view(-1, 1, 1, 1))
        dropped = torch.where(torch.rand(8, device="cuda") < 0.1, CLASSES, label)
        loss = F.mse_loss(model(mixed, t, dropped), noise - latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")

    x = torch.randn(2, 4, SIZE, SIZE, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        for i in range(4):
            t = torch.full((2,), 1 - i / 4, device="cuda", dtype=torch.bfloat16)
            guided, free = model(x, t, label[:2]), model(x, t, torch.full_like(label[:2], CLASSES))
            x = x - (free + 3.0 * (guided - free)) / 4
    print("drawn", tuple(x.shape), "finite", torch.isfinite(x).all().item())


if __name__ == "__main__":
    main()
