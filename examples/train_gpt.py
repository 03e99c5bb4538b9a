"""Trains a character-level GPT on a text file and samples from it.

Usage:
    python train_gpt.py --steps 300
    python train_gpt.py --steps 600 --resume            # goes on from the checkpoint
    python train_gpt.py --dtype float16                 # fp16 with loss scaling instead of bf16
"""

import argparse
import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass
class GPTConfig:
    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for part in self.qkv(x).split(C, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
            nn.Dropout(config.dropout),
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layer)))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        position = torch.arange(idx.size(1), device=idx.device)
        x = self.drop(self.tokens(idx) + self.positions(position))
        logits = self.head(self.ln_f(self.blocks(x)))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(self, idx, length, temperature=0.8, top_k=40):
        for _ in range(length):
            logits, _ = self(idx[:, -self.config.block_size :])
            logits = logits[:, -1].float() / temperature
            kth = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
            probs = logits.masked_fill(logits < kth, -math.inf).softmax(dim=-1)
            idx = torch.cat((idx, torch.multinomial(probs, num_samples=1)), dim=1)
        return idx


class Characters(Dataset):
    """Windows of `block_size` characters and the same shifted by one."""

    def __init__(self, data, block_size):
        self.data = data
        self.block_size = block_size

    def __len__(self):
        return len(self.data) - self.block_size

    def __getitem__(self, i):
        window = self.data[i : i + self.block_size + 1]
        return window[:-1], window[1:]


def learning_rate(step, args):
    """Linear warm-up, then a cosine down to a tenth."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = (step - args.warmup) / max(1, args.steps - args.warmup)
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


def forever(loader):
    while True:
        yield from loader


@torch.no_grad()
def evaluate(model, loader, device, autocast, batches=8):
    model.eval()
    losses = []
    for x, y in islice(loader, batches):
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with autocast:
            losses.append(model(x, y)[1])
    model.train()
    return torch.stack(losses).mean().item()


def parse_args():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Train a character-level GPT.")
    parser.add_argument("--data", type=Path, default=here / "data" / "as-you-like-it.txt")
    parser.add_argument("--out", type=Path, default=here / "out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=96)
    parser.add_argument("--n-layer", type=int, default=4)
    parser.add_argument("--n-head", type=int, default=4)
    parser.add_argument("--n-embd", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--grad-clip", type=float, default=1.0)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--eval-every", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--sample", type=int, default=300, help="characters to sample at the end")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    if device.type == "cuda":
        print(f"device: {torch.cuda.get_device_name(device)}")

    text = args.data.read_text()
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in text], dtype=torch.long)
    split = int(0.9 * len(data))
    pin = device.type == "cuda"
    common = {"batch_size": args.batch_size, "pin_memory": pin, "drop_last": True}
    train_loader = DataLoader(
        Characters(data[:split], args.block_size),
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        **common,
    )
    generator = torch.Generator().manual_seed(args.seed)
    val_loader = DataLoader(
        Characters(data[split:], args.block_size), shuffle=True, generator=generator, **common
    )

    config = GPTConfig(len(chars), args.block_size, args.n_layer, args.n_head, args.n_embd, args.dropout)
    model = GPT(config).to(device)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": args.weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.95),
        fused=True,
    )
    dtype = getattr(torch, args.dtype)
    autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")

    first = 0
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint_path = args.out / "checkpoint.pt"
    if args.resume:
        checkpoint = torch.load(checkpoint_path, map_location=device)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scaler.load_state_dict(checkpoint["scaler"])
        first = checkpoint["step"]
        print(f"resumed at step {first}")

    def save(step):
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "config": asdict(config),
            "step": step,
        }
        unfinished = checkpoint_path.with_suffix(".tmp")
        torch.save(state, unfinished)
        os.replace(unfinished, checkpoint_path)

    batches = forever(train_loader)
    start = time.perf_counter()
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        x, y = next(batches)
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with autocast:
            _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        scaler.step(optimizer)
        scaler.update()

        done = step + 1
        if done == 1 or done % args.eval_every == 0 or done == args.steps:
            val_loss = evaluate(model, val_loader, device, autocast)
            per_step = (time.perf_counter() - start) / (done - first)
            print(
                f"step {done:4d} | train loss {loss.item():.4f} | val loss {val_loss:.4f} | "
                f"{per_step * 1000:.0f} ms/step",
                flush=True,
            )
            save(done)

    if device.type == "cuda":
        print(f"peak memory: {torch.cuda.max_memory_allocated(device) / 2**20:.1f} MiB")
    if args.sample:
        model.eval()
        prompt = torch.tensor([[stoi["\n"]]], device=device)
        with autocast:
            sample = model.generate(prompt, args.sample)[0].tolist()
        print("-" * 60)
        print("".join(chars[i] for i in sample))


if __name__ == "__main__":
    main()
