"""What a program may ask of its device, written once for a device name: "cuda", or the plugin's own.

    python contract.py DEVICE PACKAGE [NAME...]

prints, as JSON, for each named check, or all, its values and the plugin's kernels that it called.
"""

from __future__ import annotations

import copy
import gc
import importlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from heitu.backings.engine_thread import finish_at_exit

DEVICE, PACKAGE, *NAMED = sys.argv[1:]
if DEVICE != "cuda":
    importlib.import_module(PACKAGE)
    finish_at_exit(DEVICE)  # as Heitu does for programs on cuda
MODULE: Any = getattr(torch, DEVICE)


class Model(nn.Module):
    """One layer of each kind that plugins override."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(11, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.project, self.norm = nn.Linear(8, 24), nn.LayerNorm(8)
        self.lstm, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        q, k, v = self.project(self.norm(x)).unsqueeze(1).chunk(3, -1)
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1)
        return self.head(F.gelu(self.lstm(x)[0]))


def model_and_data() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    tokens = torch.randint(11, (2, 6), generator=generator)
    return Model().to(DEVICE), tokens.to(DEVICE), tokens.roll(-1).to(DEVICE)


def train(steps: int = 3, autocast: bool = False, **options: bool) -> list[float]:
    model, tokens, wanted = model_and_data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **options)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(tokens).flatten(0, 1), wanted.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def training() -> list[float]:
    return train()


def fused_optimizer() -> list[float]:
    return train(fused=True)


def foreach_optimizer() -> list[float]:
    return train(foreach=True)


def autocast() -> list[float]:
    return train(autocast=True)


def checkpointing() -> list[float]:
    model, tokens, _ = model_and_data()
    checkpoint(model, tokens, use_reentrant=False).square().mean().backward()
    return [parameter.grad.norm().item() for parameter in model.parameters()]


def views_and_writes() -> list[Any]:
    x = torch.arange(24.0, device=DEVICE).view(4, 6)
    x[1:3, ::2] *= 2
    x.t()[0].fill_(-1)
    x[torch.tensor([0, 3], device=DEVICE), 1] = torch.tensor(7.0, device=DEVICE)
    x.index_put_((torch.tensor([2], device=DEVICE),), torch.tensor(9.0))
    out = torch.empty(0, device=DEVICE)
    torch.add(x, 1, out=out)
    x.unsqueeze_(0).resize_(2, 12)
    masked = out.masked_fill(out > 8, 0.0).where(out < 5, torch.zeros((), device=DEVICE))
    return [
        x.tolist(),
        out.tolist(),
        masked.tolist(),
        torch.cat([x, x]).sum().item(),
        out.unfold(1, 2, 2).tolist(),
    ]


def numbers_written_by_index() -> list[Any]:
    x = torch.zeros(3, 2, device=DEVICE)
    x[torch.tensor([0, 2], device=DEVICE), 1] = 7
    x[x > 5] = 8
    x[0] = 1
    return x.tolist()


def lists_of_tensors() -> list[float]:
    tensors = [torch.full((n,), float(n), device=DEVICE) for n in (1, 2, 3)]
    torch._foreach_mul_(tensors, 2.0)
    norms = torch._foreach_norm(torch._foreach_add(tensors, 1.0))
    return [norm.item() for norm in norms]


def saved_tensors_are_guarded() -> str:
    x = torch.ones(3, device=DEVICE, requires_grad=True)
    y = F.gelu(x * 2)
    z = y * y
    with torch.no_grad():
        y.add_(1)
    try:
        z.sum().backward()
    except RuntimeError as error:
        return str(error).split(":")[0]
    return "not noticed"


def inputs_of_overridden_operators_are_guarded() -> str:
    x = (torch.ones(2, 4, device=DEVICE, requires_grad=True) * 1).contiguous()
    y = F.layer_norm(x, (4,))
    with torch.no_grad():
        x.add_(1)
    try:
        y.sum().backward()
    except RuntimeError as error:
        return str(error).split(":")[0]
    return "not noticed"


def random_numbers() -> list[Any]:
    MODULE.manual_seed(3)
    state = MODULE.get_rng_state()
    first = torch.rand(3, device=DEVICE).tolist()
    MODULE.set_rng_state(state)
    again = torch.rand(3, device=DEVICE).tolist()
    generator = torch.Generator(DEVICE).manual_seed(5)
    own = torch.randn(2, device=DEVICE, generator=generator).tolist()
    dropped = F.dropout(torch.ones(8, device=DEVICE), 0.5).tolist()
    assert first == again
    torch.manual_seed(4)
    return [first, own, dropped, torch.randperm(5, device=DEVICE).tolist()]


def random_numbers_in_the_backward_pass() -> list[Any]:
    MODULE.manual_seed(3)
    q = torch.ones(1, 1, 4, 4, device=DEVICE, requires_grad=True)
    attended = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    attended.sum().backward()
    return [attended.tolist(), q.grad.tolist(), torch.rand(1, device=DEVICE).item()]


def streams_and_events() -> list[Any]:
    x = torch.ones(5, device=DEVICE)
    stream = MODULE.Stream()
    stream.wait_stream(MODULE.current_stream())
    with MODULE.stream(stream):
        y = x * 3
        assert MODULE.current_stream() == stream
        done = MODULE.Event()
        done.record()
    x.record_stream(stream)
    MODULE.current_stream().wait_event(done)
    MODULE.synchronize()
    assert done.query()
    assert MODULE.current_stream() != stream
    return y.tolist()


def memory() -> list[int]:
    gc.collect()
    before = MODULE.memory_allocated()
    x = torch.empty(1 << 18, device=DEVICE)
    during = MODULE.memory_allocated() - before
    del x
    assert MODULE.max_memory_allocated() >= before + during
    MODULE.empty_cache()
    return [during, MODULE.memory_allocated() - before]


def saving_and_loading() -> list[Any]:
    model, tokens, _ = model_and_data()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "tokens": tokens}, file)
    other = Model().to(DEVICE)
    loaded = torch.load(io.BytesIO(file.getvalue()))
    other.load_state_dict(loaded["model"])
    assert loaded["tokens"].device == tokens.device
    on_host = torch.load(io.BytesIO(file.getvalue()), map_location="cpu")
    assert all(value.device.type == "cpu" for value in on_host["model"].values())
    twin = copy.deepcopy(other)
    return [(twin(tokens) - model(tokens)).abs().max().item(), on_host["tokens"].tolist()]


def errors() -> list[str]:
    said = []
    for attempt in (
        lambda: torch.ones(2, 3, device=DEVICE) @ torch.ones(2, 3, device=DEVICE),
        lambda: torch.ones(2, device=DEVICE).view(3),
        lambda: torch.empty(1 << 50, device=DEVICE),
        lambda: torch.ones(2, device=DEVICE).numpy(),
    ):
        try:
            attempt()
        except Exception as error:
            said.append(type(error).__name__)
    return said


def second_device() -> list[Any]:
    MODULE.set_device(1)
    x = torch.ones(2, device=DEVICE)
    y = x.to(f"{DEVICE}:0") + 1
    MODULE.set_device(0)
    return [x.device.index, y.device.index, y.to(x.device).tolist(), MODULE.current_device()]


KEPT: list[torch.Tensor] = []


def a_leak() -> None:
    """Not among the checks: shows that a tensor of the plugin's would be found."""
    KEPT.append(torch.ones(1, device=PACKAGE.removeprefix("torch_")))


CHECKS: dict[str, Callable[[], Any]] = {
    check.__name__: check
    for check in (
        training, fused_optimizer, foreach_optimizer, autocast, checkpointing, views_and_writes,
        numbers_written_by_index, lists_of_tensors, saved_tensors_are_guarded,
        inputs_of_overridden_operators_are_guarded, random_numbers, random_numbers_in_the_backward_pass,
        streams_and_events, memory, saving_and_loading, errors, second_device,
    )
}  # fmt: skip


def run(name: str, standin: Any) -> dict[str, Any]:
    """One check: its values, or how it failed, and the kernels that it called."""
    standin.clear_calls()
    try:
        said = a_leak() if name == a_leak.__name__ else CHECKS[name]()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    calls = dict(sorted(standin.calls().items()))
    leaked = [
        str(tensor.device)
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor) and tensor.device.type not in ("cpu", DEVICE, "meta")
    ]
    return {"values": said, "calls": calls, "leaked": leaked}


def main() -> None:
    standin = sys.modules[f"{PACKAGE}._C"]
    json.dump({name: run(name, standin) for name in NAMED or CHECKS}, sys.stdout)


if __name__ == "__main__":
    main()
