"""Training on the emulated device and on the CPU: the same losses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from heitu.emulators import cann
from tests.ascend.emulator.comparing import noted
from tests.ascend.emulator.conftest import run_program


class Attention(nn.Module):
    """A block with fused attention, embeddings and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 50)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        hidden = self.block(self.embedding(tokens), src_mask=mask, is_causal=True)
        return nn.functional.cross_entropy(self.head(hidden[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Recurrent(nn.Module):
    """LSTM and GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 16, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(32, 50, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.gru(self.lstm(self.embedding(tokens))[0])[0]
        return nn.functional.cross_entropy(hidden.flatten(0, 1), tokens.flatten())


class Images(nn.Module):
    """Convolutions, normalizations, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3),
            nn.GroupNorm(2, 8), nn.SiLU(), nn.ConvTranspose2d(8, 4, 2, 2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).square().mean()


TOKENS, PIXELS = torch.randint(0, 50, (2, 12)), torch.randn(2, 3, 32, 32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "batch"),
    [(Attention, TOKENS), (Recurrent, TOKENS), (Images, PIXELS)],
    ids=["attention", "recurrent", "images"],
)
@pytest.mark.parametrize("optimizer", ["adamw-fused", "adamw", "sgd-scaled"])
def test_losses_are_those_of_the_cpu(model: type[nn.Module], batch: torch.Tensor, optimizer: str) -> None:
    torch.manual_seed(0)
    first = model()
    second = copy.deepcopy(first)

    def train(module: nn.Module, device: str) -> list[float]:
        module = module.to(device)
        scaler = torch.amp.GradScaler(device, enabled=optimizer == "sgd-scaled")
        if optimizer == "sgd-scaled":
            chosen: torch.optim.Optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
        else:
            chosen = torch.optim.AdamW(module.parameters(), 1e-2, fused=optimizer == "adamw-fused")
        losses = []
        for _ in range(4):
            loss = module(batch.to(device))
            chosen.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(chosen)
            scaler.update()
            losses.append(loss.item())
        return losses

    with noted():
        assert train(second, "npu") == pytest.approx(train(first, "cpu"), rel=1e-4)
    if optimizer == "adamw-fused":
        assert cann.calls()["aclnnApplyAdamWV2"] == 4 * len(list(first.parameters()))


def test_two_processes_agree_with_one() -> None:
    done = run_program(
        """
        import sys
        import torch.distributed as dist
        dist.init_process_group("hccl")
        rank = dist.get_rank()
        torch.npu.set_device(rank)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        alone = [p.detach().clone().requires_grad_() for p in model.parameters()]
        parallel = torch.nn.parallel.DistributedDataParallel(model.to("npu"), device_ids=[rank])
        optimizer = torch.optim.SGD(parallel.parameters(), 0.1)
        data = torch.randn(8, 8)
        for step in range(3):
            loss = parallel(data[rank * 4 : rank * 4 + 4].to("npu")).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            hidden = torch.relu(data @ alone[0].T + alone[1]) @ alone[2].T + alone[3]
            grads = torch.autograd.grad(hidden.square().mean(), alone)
            alone = [(p - 0.1 * g).detach().requires_grad_() for p, g in zip(alone, grads)]
        for ours, theirs in zip(parallel.parameters(), alone):
            torch.testing.assert_close(ours.detach().cpu(), theirs.detach(), rtol=1e-4, atol=1e-5)
        whole = torch.zeros(8, device="npu")
        dist.all_gather_into_tensor(whole, torch.arange(4.0, device="npu") + 4 * rank)
        assert whole.tolist() == list(range(8))
        dist.destroy_process_group()
        print("equal", file=sys.stderr)
        """,
        processes=2,
    )
    assert done.stderr.count("equal") == 2, done.stderr[-3000:]
