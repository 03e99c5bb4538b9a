"""Trains the GPT of train_gpt.py for a few steps in bfloat16, and samples from it."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from train_gpt import GPT, GPTConfig


def main():
    torch.manual_seed(0)
    text = "All the world's a stage, and all the men and women merely players. " * 4
    letters = sorted(set(text))
    data = torch.tensor([letters.index(letter) for letter in text])
    model = GPT(GPTConfig(len(letters), 32, n_layer=2, n_head=4, n_embd=64, dropout=0.1)).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for step in range(4):
        starts = torch.randint(len(data) - 33, (8,))
        windows = torch.stack([data[i : i + 33] for i in starts]).pin_memory().to("cuda", non_blocking=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            _, loss = model(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")
    model.eval()
    sample = model.generate(data[None, :4].to("cuda"), 12)
    print("".join(letters[i] for i in sample[0].tolist()))


if __name__ == "__main__":
    main()
