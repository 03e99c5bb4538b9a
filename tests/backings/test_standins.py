"""The stand-ins are what they claim to be: plugins whose memory the host cannot reach."""

from __future__ import annotations

import signal

import pytest

from tests.backings.conftest import Run
from tests.standins.packages import vendor
from tests.standins.vendors import Vendor


@pytest.fixture(params=["npu", "gcu"])
def standin(request: pytest.FixtureRequest) -> Vendor:
    """The one with the longest list of operators and names, and one with the shortest."""
    return vendor(request.param)


HEAD = """
import torch, {plugin}
import torch.nn.functional as F
from heitu.backings.engine_thread import finish_at_exit
finish_at_exit("{device}")
device, module = "{device}", torch.{device}
standin = module.standin
"""


def head(standin: Vendor) -> str:
    return HEAD.format(plugin=standin.plugin, device=standin.device)


def test_it_trains_to_the_numbers_of_the_cpu_through_its_own_derivatives(plain: Run, standin: Vendor) -> None:
    plain(
        head(standin)
        + """
import copy, torch.nn as nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.norm, self.lstm = nn.Linear(8, 8), nn.LayerNorm(8), nn.LSTM(8, 8, batch_first=True)
    def forward(self, x):
        q = self.project(x).unsqueeze(1)
        h = F.scaled_dot_product_attention(q, q, q, is_causal=True).squeeze(1)
        return self.lstm(self.norm(F.gelu(h)))[0]

torch.manual_seed(0)
model, x = Model(), torch.randn(2, 5, 8)
losses = []
for place, trained in (("cpu", copy.deepcopy(model)), (device, copy.deepcopy(model).to(device))):
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2, fused=True)
    losses.append([])
    for _ in range(4):
        optimizer.zero_grad()
        loss = trained(x.to(place)).square().mean()
        loss.backward()
        optimizer.step()
        losses[-1].append(loss.item())
assert torch.allclose(*map(torch.tensor, losses), atol=1e-6), losses
calls = standin.calls()
for name in ("scaled_dot_product_attention", "layer_norm", "lstm.input", "gelu"):
    assert calls[name] == calls[name + "_backward"] == 4, (name, calls)
assert calls["_fused_adamw_"] == 4
assert not [name for name in calls if "attention" in name and name.startswith("_")], calls
"""
    )


def test_the_host_cannot_reach_its_memory(plain: Run, standin: Vendor) -> None:
    code = "import ctypes\nx = torch.ones(4, device=device)\nctypes.string_at(x.data_ptr(), 4)\n"
    plain(head(standin) + code, ends=-signal.SIGSEGV)


def test_it_refuses_a_tensor_that_is_not_its_own(plain: Run, standin: Vendor) -> None:
    plain(
        head(standin)
        + """
x = torch.ones(4, 2, device=device)
assert standin.is_vendor_tensor(x.t()) and standin.is_vendor_tensor(x[1:])
try:
    standin.foreign_tensor().add(1)
except RuntimeError as error:
    assert "whose storage is not its own" in str(error)
else:
    raise AssertionError("a storage that the plugin did not make was taken")
"""
    )


def test_streams_generators_and_memory_are_its_own(plain: Run, standin: Vendor) -> None:
    plain(
        head(standin)
        + """
assert torch.accelerator.current_accelerator().type == device and module.device_count() == 2
x = torch.ones(300, device=device)
stream = module.Stream()
standin.clear_calls()
with module.stream(stream):
    x + 1
assert f"0:{stream.stream_id}:add.Tensor" in standin.calls_by_stream(), standin.calls_by_stream()
draws = []
for _ in range(2):
    module.manual_seed(5)
    draws.append((torch.randn(4, device=device).cpu(), F.dropout(x, 0.5).cpu()))
assert all(torch.equal(a, b) for a, b in zip(*draws))
assert not torch.equal(torch.randn(4, device=device).cpu(), draws[0][0])
before = module.memory_allocated()
y = torch.empty(2**20, device=device)
assert module.memory_allocated() - before == 2**22
del y
assert module.memory_allocated() == before
try:
    torch.empty(2**40, device=device)
except torch.OutOfMemoryError:
    pass
else:
    raise AssertionError("more memory than there is")
"""
    )


def test_only_known_functions_are_there(plain: Run, standin: Vendor) -> None:
    done = plain(head(standin) + "print(*[name for name in dir(module) if not name.startswith('_')])\n")
    assert set(done.stdout.split()) - {"standin"} <= set(standin.names())


def test_two_processes_train_together(plain: Run, standin: Vendor) -> None:
    done = plain(
        head(standin)
        + f"""
import torch.distributed as dist
dist.init_process_group({standin.collective!r})
rank = dist.get_rank()
module.set_device(rank)
total = torch.full((3,), rank + 1.0, device=device)
dist.all_reduce(total)
assert total.cpu().tolist() == [3.0] * 3
torch.manual_seed(0)
model = torch.nn.Linear(4, 4).to(device)
model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
model(torch.full((8, 4), rank + 1.0, device=device)).square().mean().backward()
halves = [torch.empty(4, 4, device=device) for _ in range(2)]
dist.all_gather(halves, model.module.weight.grad)
assert torch.equal(halves[0].cpu(), halves[1].cpu())
assert standin.calls()[{standin.collective + ":allreduce"!r}] >= 2
print("done", flush=True)
dist.destroy_process_group()
""",
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    )
    assert done.stdout.count("done") == 2
