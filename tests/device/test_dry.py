"""Dry runs: forms, memory and control flow are those of a true run, and large tensors cost nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

GPT = str(Path(__file__).with_name("dry_gpt.py"))
MEGABYTE = 10**6


def run(*command: str, dry: bool = True) -> subprocess.CompletedProcess[str]:
    """A program under `heitu run`, with --dry or without."""
    options = ["--dry"] if dry else []
    return subprocess.run(
        [sys.executable, "-m", "heitu", "run", *options, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )


def values(code: str, *options: str) -> Any:
    """What a dry program prints as JSON."""
    done = run(*options, "-c", PRELUDE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PRELUDE = """
import json, resource, torch
import torch.nn as nn, torch.nn.functional as F
def peak():  # bytes of the process's memory, at most
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def show(*values):
    print(json.dumps(values))
at_start = peak()
"""


@pytest.mark.parametrize(
    ("dtype", "optimizer"), [("float32", "fused"), ("float32", "foreach"), ("bfloat16", "fused")]
)
def test_training_has_the_operators_forms_and_memory_of_a_true_run(dtype: str, optimizer: str) -> None:
    seen = []
    for dry in (True, False):
        done = run(GPT, dtype, optimizer, dry=dry)
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    rehearsed, true = seen
    assert len(rehearsed["calls"]) > 300
    for call, expected in zip(rehearsed["calls"], true["calls"], strict=True):
        assert call == expected
    assert rehearsed["step"] == true["step"] == 2
    assert rehearsed["loss"] == 0.0 != true["loss"]
    if dtype == "float32":
        assert rehearsed["peak"] == true["peak"]
    else:  # a true run computes 16-bit products in float32, and needs memory for that
        assert 0.95 * true["peak"] < rehearsed["peak"] <= true["peak"]


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer keeps a byte of its own for each eight",
)
def test_large_tensors_take_no_memory_of_the_host() -> None:
    grown, allocated, size, loss = values(
        """
        weight = torch.randn(60000, 60000)  # 14.4 GB, on the CPU
        nn.init.trunc_normal_(weight)
        x = torch.randn(60000, 60000, device="cuda", requires_grad=True)
        y = F.layer_norm((x @ weight.cuda()).relu(), (60000,))
        loss = y.square().mean()
        loss.backward()
        back = x.grad.cpu()
        show(peak() - at_start, torch.cuda.max_memory_allocated(), list(back.shape), loss.item())
        """
    )
    assert grown < 200 * MEGABYTE
    assert allocated > 3 * 60000**2 * 4
    assert (size, loss) == ([60000, 60000], 0.0)


def test_memory_ends_where_the_device_s_does() -> None:
    code = 'import torch\nkept = [torch.ones(2**28, device="cuda") for _ in range(9)]'
    done = run("--memory", "8GiB", "-c", code)
    assert done.returncode == 1
    assert "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1024.00 MiB." in done.stderr
    assert "GPU 0 has a total capacity of 8.00 GiB of which 0 bytes is free." in done.stderr
    assert "memory of the host" not in done.stderr


def test_what_programs_decide_by_is_computed() -> None:
    assert values(
        """
        count = torch.zeros((), dtype=torch.long, device="cuda")
        while count < 10:
            count += 1
        position = torch.arange(2048, device="cuda")
        causal = position[None] <= position[:, None]  # 4 MiB
        tokens = torch.arange(500_000)  # 4 MB
        order = torch.randperm(1000, device="cuda").sort().values
        small = torch.ones(3, 5, device="cuda") @ torch.arange(5.0, device="cuda")
        show(count.item(), causal.sum().item(), tokens.max().item(), order.tolist() == list(range(1000)),
             small.tolist(), torch.where(position > 2045)[0].tolist())
        """
    ) == [10, 2048 * 2049 // 2, 499_999, True, [10.0] * 3, [2046, 2047]]


def test_results_follow_computed_indices() -> None:
    assert values(
        """
        hidden = torch.randn(4096, 1024, device="cuda")
        expert = torch.arange(4096, device="cuda") % 8
        shapes = []
        for i in range(2):
            rows = torch.where(expert == i)[0]
            part = hidden[rows]
            hidden.index_add_(0, rows, part)
            shapes.append(list(part.shape))
        shapes.append(list(hidden[expert < 3].shape))
        shapes.append(list(hidden[:, expert[:1024] == 1].shape))
        none = torch.where(expert > 8)[0]
        hidden.index_add_(0, none, hidden[none])
        shapes.append(list(hidden[none].shape))
        show(*shapes)
        """
    ) == [[512, 1024], [512, 1024], [1536, 1024], [4096, 128], [0, 1024]]


def test_uncomputed_values_read_as_zero_whatever_the_memory_held() -> None:
    assert values(
        """
        ones = torch.ones(2_000_000, dtype=torch.long, device="cuda")  # 16 MB, computed
        total = ones.sum().item()
        address = ones.data_ptr()
        del ones
        x = torch.ones(2000, 2000, device="cuda") * 2  # in the block that held them
        show(total, x.data_ptr() == address or torch.cuda.memory_reserved() < 60e6,
             x[0, :3].tolist(), x.max().item(), x.isnan().any().item())
        """
    ) == [2_000_000, True, [0.0] * 3, 0.0, False]


def test_views_and_arguments_that_are_written_to_keep_their_memory() -> None:
    assert values(
        """
        x = torch.randn(4096, 4096, device="cuda")
        same = [x.add_(1), x.t().mul_(2), x.view(-1), x[1:].relu_()]
        out = torch.empty(0, device="cuda")
        result = torch.add(x, x, out=out)
        loaded = torch.empty(2048, 4096).copy_(x[:2048])
        show([part.data_ptr() - x.data_ptr() for part in same], result is out, list(out.shape),
             out.untyped_storage().nbytes(), x._version, str(loaded.device))
        """
    ) == [[0, 0, 0, 4096 * 4], True, [4096, 4096], 4096 * 4096 * 4, 3, "cpu"]


def test_networks_that_cudnn_runs() -> None:
    shapes = values(
        """
        shapes, lengths = [], list(range(100, 84, -1))
        lstm = nn.LSTM(512, 1024, num_layers=2, bidirectional=True, dropout=0.1).to("cuda")
        packed = nn.utils.rnn.pack_padded_sequence(torch.randn(100, 16, 512, device="cuda"), lengths)
        output, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0])
        scores = output.log_softmax(-1)
        F.ctc_loss(scores, torch.ones(16, 9, dtype=torch.long), lengths, [9] * 16).backward()
        shapes += [list(output.shape), list(lstm.weight_hh_l1.grad.shape)]
        net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
                            nn.ConvTranspose2d(64, 32, 2), nn.GroupNorm(4, 32)).to("cuda")
        scaler, optimizer = torch.amp.GradScaler(), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        with torch.autocast("cuda", torch.float16):
            y = net(torch.randn(32, 3, 128, 128, device="cuda"))
        scaler.scale(y.float().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        shapes += [list(y.shape), str(y.dtype), scaler.get_scale()]
        show(peak() - at_start, *shapes)
        """
    )
    assert shapes[0] < 400 * MEGABYTE
    assert shapes[1:] == [[100, 16, 2048], [4096, 1024], [32, 32, 64, 64], "torch.float32", 65536.0]


def test_wrong_arguments_raise_what_they_always_do() -> None:
    messages = values(
        """
        x, messages = torch.randn(4096, 4096, device="cuda"), []
        host = torch.randn(4096, 4096)
        for wrong in (lambda: x @ x[:7].contiguous(), lambda: x + host, lambda: x.view(-1, 7)):
            try:
                wrong()
            except RuntimeError as error:
                messages.append(str(error).splitlines()[0])
        show(*messages)
        """
    )
    assert messages == [
        "mat1 and mat2 shapes cannot be multiplied (4096x4096 and 7x4096)",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        "shape '[-1, 7]' is invalid for input of size 16777216",
    ]


def test_what_had_to_be_computed_is_said() -> None:
    code = 'import torch\nprint(tuple(torch.ones(2000, 2000, device="cuda").to_sparse().shape))'
    done = run("-c", code)
    assert done.stdout == "(2000, 2000)\n"
    assert "calls on large tensors were not computed" in done.stderr
    assert "computed all the same: _to_sparse" in done.stderr
    small = run("-c", 'import torch\nprint(torch.ones(3, device="cuda").sum().item())')
    assert (small.stdout, small.stderr) == ("3.0\n", "")


def test_children_and_chips_are_dry_too() -> None:
    child = "import torch; print(torch.ones(4000, 4000, device='cuda').sum().item())"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    assert run("-c", code).stdout.strip() == "0.0"
    done = run("--chip", "ascend-910b3", "-c", 'import torch\ntorch.ones(10**11, device="cuda")')
    assert "OutOfMemoryError" in done.stderr
    assert "without data" in done.stderr
