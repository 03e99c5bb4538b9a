"""A program for cuda calls the same operators of CANN, with the same results, as one for npu."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ascend.comparison import compare, heitu, programs

pytestmark = pytest.mark.usefixtures("torch_npu")
QUICK = ("gpt", "ddp", "fsdp2")


@pytest.mark.parametrize("name", QUICK)
def test_cuda_is_npu(name: str) -> None:
    program = next(program for program in programs() if program[0] == name)
    outcome = compare(program)
    assert outcome.verdict == "same", outcome.cuda.error or outcome.npu.error


LEAKS = """
import gc
import torch
from torch import nn

found = []
note = lambda *tensors: found.extend(t for t in tensors if isinstance(t, torch.Tensor))
model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Softmax(-1), nn.LSTM(8, 4)).cuda()
nn.modules.module.register_module_forward_hook(lambda module, given, made: note(*given, made))
for parameter in model.parameters():
    parameter.register_hook(note)
x = torch.randn(5, 8, device="cuda", requires_grad=True)
with torch.autograd.graph.saved_tensors_hooks(lambda t: note(t) or t, lambda t: note(t) or t):
    out, _ = model(x)
    attended = nn.functional.scaled_dot_product_attention(*[out.view(1, 1, 5, 4)] * 3)
attended.register_hook(note)
(attended @ attended.transpose(-1, -2)).sum().backward()
values, indices = torch.topk(x.detach(), 2)
note(values, indices, *torch.linalg.svd(x.detach()), *torch._foreach_mul([values], 2.0))
found += [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
kinds = {t.device.type for t in found}
assert kinds <= {"cuda", "cpu"}, kinds
print(len(found), sorted(kinds))
"""


def test_no_tensor_of_the_plugin_reaches_the_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LEAKS)
    ended = heitu("--chip", "ascend-910b", "--plugin", str(program))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "'cuda'" in ended.stdout


def test_what_the_plugin_did_otherwise_is_said(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import torch\nx = torch.ones(3, 3, device='cuda')\nx.double()\ntorch.linalg.matrix_exp(x)\n"
    )
    ended = heitu("--chip", "ascend-910b", "--plugin", str(program))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "_to_copy (float64 became float32)  1x" in ended.stderr
    assert "program.py:3" in ended.stderr
    assert "linalg_matrix_exp  1x" in ended.stderr
    assert "program.py:4" in ended.stderr


ON_BOTH_SIDES = """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.manual_seed(0)
model = nn.LSTM(8, 6, num_layers=2).cuda()
packed = pack_padded_sequence(torch.randn(9, 4, 8, device="cuda"), torch.tensor([9, 7, 7, 3]))
out, _ = pad_packed_sequence(model(packed)[0])
lengths = torch.tensor([9, 7, 7, 3])
scores = out.log_softmax(-1)
targets = torch.randint(1, 6, (4, 2), device="cuda")
nn.functional.ctc_loss(scores, targets, lengths, torch.tensor([2, 2, 2, 1])).backward()
before = model.bias_ih_l0.grad.clone()
model.bias_hh_l0.grad.mul_(2)  # the plugin hands out one gradient for both
assert torch.equal(model.bias_ih_l0.grad, before) and before.any()
try:
    nn.functional.layer_norm(out, (6,), torch.ones(6))
except RuntimeError as error:
    assert "weight is on cpu, different from other tensors on cuda:0" in str(error), error
else:
    raise AssertionError("a weight on the CPU was taken")
"""


def test_tensors_of_the_host_and_shared_gradients(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ON_BOTH_SIDES)
    ended = heitu("--chip", "ascend-910b", "--plugin", str(program))
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_the_plugin_may_be_imported_before_torch() -> None:
    ended = heitu(
        "--chip", "ascend-910b", "--plugin", "--via", "plugin",
        "-c", "import torch_npu\nimport torch\nprint(torch.ones(2, device='npu').sum().item())",
    )  # fmt: skip
    assert ended.stdout.strip() == "2.0", ended.stderr[-3000:]
