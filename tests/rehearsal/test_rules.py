"""Operators judged by the rules of chips, as PyTorch's dispatcher resolves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heitu.chips import load
from heitu.rehearsal.rules import Rules
from tests.rehearsal.conftest import Rehearse

# Asks the core about every overload that torch's table of default kernels has.
ALL_VERDICTS = """
    import json, torch, heitu_core
    from heitu.chips import default_classes
    verdicts = {}
    for overload in default_classes("2.13"):
        name, _, rest = overload.partition(".")
        ruling = heitu_core.rule_on(name, rest)
        on_cpu = torch._C._dispatch_has_kernel_for_dispatch_key(overload, "CPU")
        verdicts[overload] = ("composite" if ruling is None else ruling[0], on_cpu)
    print(json.dumps(verdicts))
"""

# PyTorch chooses these by device type; on the device of a plugin it would choose another, which is listed.
CHOSEN_BY_DEVICE = {
    "ascend-910b": {"conj_physical_"},
    "mlu590": {"convolution", "conj_physical_"},
    "mtt-s5000": {"convolution", "convolution_backward", "conj_physical_", "copy_",
                  "_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward",
                  "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
                  "_scaled_dot_product_efficient_attention_backward",
                  "_scaled_dot_product_cudnn_attention_backward"},
    "s60": set(), "c500": set(), "p800": set(), "br104": {"convolution", "convolution_backward"},
}  # fmt: skip


@pytest.mark.parametrize("chip", CHOSEN_BY_DEVICE)
def test_the_dispatcher_judges_every_overload_as_the_tables_do(rehearse: Rehearse, chip: str) -> None:
    rules = Rules(load(chip))
    judged = json.loads(rehearse(chip, ALL_VERDICTS).out)
    assert len(judged) > 3000
    different = set()
    for overload, (found, on_cpu) in judged.items():
        expected = rules.verdict(overload)
        if expected == "fallback" and not on_cpu and found == "refused":
            continue  # a host fallback serves nothing that the CPU has no kernel for
        if found != expected:
            different.add(overload.removeprefix("aten::"))
    assert different == CHOSEN_BY_DEVICE[chip]


def test_a_fallback_is_run_warned_of_as_the_plugin_does_and_counted(rehearse: Rehearse) -> None:
    done = rehearse(
        "ascend-910b",
        """
        import torch
        x = torch.ones(8, 4, device="cuda")
        for _ in range(3):
            value = torch.nn.functional.huber_loss(x, torch.zeros_like(x))
        print(value.item(), torch.cuda.get_device_name())
    """,
    )
    assert done.status == 0
    assert done.out == "0.5 Ascend910B3 (emulated by Heitu)\n"
    warning = "CAUTION: The operator 'aten::huber_loss' is not currently supported on the NPU backend"
    assert done.err.count(warning) == 1
    assert done.calls("fallback") == {"aten::huber_loss": 3}
    (row,) = done.rows("aten::huber_loss")
    # Two tensors of 8 × 4 float32 go to the host, one number comes back, three times.
    assert row["bytes_in"] + row["bytes_out"] == 3 * (2 * 8 * 4 * 4 + 4)
    assert row["places"][0]["user"]["file"] == "program.py"
    assert row["places"][0]["user"]["line"] == 5
    assert "huber_loss: 3 calls" in done.err


def test_a_plugin_whose_fallback_is_switched_off_refuses(rehearse: Rehearse) -> None:
    program = """
        import torch
        x = torch.ones(3, device="cuda")
        try:
            torch.nn.functional.huber_loss(x, x)
        except NotImplementedError as error:
            print("refused:", error)
    """
    done = rehearse("ascend-910b", program, TORCH_NPU_FALLBACK_CPU_DISABLE="1")
    assert done.out.startswith("refused: Could not run 'aten::huber_loss'")
    assert done.calls("refused") == {"aten::huber_loss": 1}


def test_what_a_chip_without_a_fallback_lacks_raises_the_plugins_text(rehearse: Rehearse) -> None:
    done = rehearse(
        "mtt-s5000",
        """
        import torch
        torch.logcumsumexp(torch.ones(3, device="cuda"), 0)
    """,
    )
    assert done.status == 1
    refusal = (
        "NotImplementedError: Could not run 'aten::_logcumsumexp' with arguments from the 'musa' backend"
    )
    assert refusal in done.err
    assert done.report["ending"]["at"]["line"] == 3


def test_a_composite_is_judged_by_its_parts(rehearse: Rehearse) -> None:
    # Nothing of l1_loss is listed for Moore Threads, and all it is composed of is.
    done = rehearse(
        "mtt-s5000",
        """
        import torch
        x = torch.ones(3, device="cuda", requires_grad=True)
        torch.nn.functional.l1_loss(x, torch.zeros(3, device="cuda")).backward()
        print(x.grad.tolist())
    """,
    )
    assert done.status == 0, done.err
    assert not done.rows("aten::l1_loss")
    assert {"aten::sub.Tensor", "aten::mean"} & set(done.calls("native"))
    assert set(done.calls("refused")) == set()


def test_a_composite_that_the_plugin_registers_is_one_native_operator(rehearse: Rehearse) -> None:
    done = rehearse(
        "ascend-910b",
        """
        import torch
        lstm = torch.nn.LSTM(4, 5).cuda()
        out, _ = lstm(torch.ones(7, 2, 4, device="cuda"))
        out.sum().backward()
        q = torch.ones(1, 2, 8, 16, device="cuda", requires_grad=True)
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
        print(lstm.weight_ih_l0.grad.shape, q.grad.shape)
    """,
    )
    assert done.status == 0, done.err
    native = done.calls("native")
    assert native["aten::lstm.input"] == native["aten::scaled_dot_product_attention"] == 1
    assert not done.calls("fallback")
    assert not done.calls("refused")


def test_a_chip_of_which_nothing_is_published_answers_unknown(rehearse: Rehearse) -> None:
    done = rehearse("tx81", 'import torch; print((torch.ones(3, device="cuda") + 1).sum().item())')
    assert done.out == "6.0\n"
    assert not done.calls("native")
    assert done.calls("unknown")["aten::add.Tensor"] == 1


@pytest.mark.parametrize("chip", ["c500", "bi-v150", "h200"])
def test_a_fork_of_cuda_takes_all_that_cuda_takes(rehearse: Rehearse, chip: str) -> None:
    done = rehearse(
        chip,
        """
        import torch
        x = torch.rand(3, 3, dtype=torch.float64, device="cuda")
        print(torch.linalg.det(x).dtype, torch.nn.functional.huber_loss(x, x).item())
    """,
    )
    assert done.out == "torch.float64 0.0\n"
    assert set(done.calls("native")) >= {"aten::_linalg_det", "aten::huber_loss"}


def test_float64_is_computed_in_float32_where_the_chip_does_so(rehearse: Rehearse) -> None:
    program = """
        import torch
        x = torch.tensor([1.0], dtype=torch.float64).cuda()
        y = x + 1e-12
        print(y.dtype, y.item() == 1.0, x.add_(1e-12).item() == 1.0)
        print((torch.full((3,), 0.1, dtype=torch.float64, device="cuda") * 3).sum().item())
    """
    narrowed, exact = (rehearse(chip, program) for chip in ("mlu590", "h200"))
    assert exact.out.splitlines()[0] == "torch.float64 False False"
    assert narrowed.out.splitlines()[0] == "torch.float64 True True"
    assert narrowed.out.splitlines()[1] != exact.out.splitlines()[1]
    assert abs(float(narrowed.out.splitlines()[1]) - 0.9) < 1e-6
    (row,) = narrowed.rows("aten::add.Tensor")
    assert row["dtype_verdict"] == "narrowed"


def test_ascend_gives_float32_where_only_float64_is_asked_for(rehearse: Rehearse) -> None:
    done = rehearse(
        "ascend-910b",
        """
        import torch
        x = torch.ones(2, device="cuda")
        print(x.double().dtype, x.to("cuda", torch.float64).dtype, torch.ones(1).double().cuda().dtype)
    """,
    )
    assert done.out.split()[0] == "torch.float32"
    assert done.out.split()[2] == "torch.float64"
    assert "Device do not support double dtype now, dtype cast replace with float." in done.err


def test_a_refused_dtype_raises_what_the_plugin_says(rehearse: Rehearse) -> None:
    done = rehearse(
        "ascend-910b",
        """
        import torch
        x = torch.arange(4, dtype=torch.float64).cuda()
        x.expm1()
    """,
    )
    assert done.status == 1
    refusal = "call aclnnExpm1 failed, error code is 161002: Tensor self not implemented for DT_DOUBLE"
    assert f"RuntimeError: {refusal}" in done.err
    assert done.calls("refused") == {"aten::expm1": 1}


def test_strict_stops_at_the_first_that_is_not_native_and_allow_lets_it_pass(rehearse: Rehearse) -> None:
    program = """
        import torch
        x = torch.ones(3, device="cuda")
        torch.nn.functional.huber_loss(x, x)
        torch.linalg.det(torch.eye(3, device="cuda"))
    """
    strict = rehearse("ascend-910b", program, "--strict")
    assert strict.status == 1
    assert "aten::huber_loss would run on the host on Huawei Ascend 910B3" in strict.err
    assert "program.py:4" in strict.err
    allowed = rehearse("ascend-910b", program, "--strict", "--allow", "huber_loss")
    assert "aten::_linalg_det.result would run on the host" in allowed.err
    both = rehearse("ascend-910b", program, "--strict", "--allow", "huber_loss,_linalg_det")
    assert both.status == 0, both.err


def test_the_device_has_the_chips_memory(rehearse: Rehearse) -> None:
    done = rehearse(
        "ascend-910b4",
        """
        import torch
        print(torch.cuda.get_device_properties(0).total_memory == 32 * 2**30)
        try:
            torch.empty(33 * 2**30, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError as error:
            print("GPU 0 has a total capacity of 32.00 GiB" in str(error))
    """,
    )
    assert done.out == "True\nTrue\n", done.err


def test_a_users_own_chip_file(rehearse: Rehearse, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("""
        extends = "ascend-910b"
        [sources]
        rack = { text = "our rack", date = 2026-11-01, kind = "measured" }
        [hardware]
        memory_bytes = { value = "2 GiB", from = "rack" }
        [[dtypes]]
        dtype = "float16"
        verdict = "refused"
        operators = ["aten::mm"]
        message = "no half on this rack"
        from = "rack"
    """)
    done = rehearse(
        "./mine.toml",
        """
        import os, torch
        print(torch.cuda.mem_get_info()[1] == 2 * 2**30)
        os.chdir("/")
        x = torch.ones(4, 4, device="cuda", dtype=torch.float16)
        try:
            x @ x
        except RuntimeError as error:
            print(error)
    """,
    )
    # The plugin registers matmul as one operator, so a rule about mm does not stop it.
    assert done.out.splitlines()[0] == "True"
    assert done.report["chip"]["title"]


def test_an_operator_that_came_later_falls_back_too(rehearse: Rehearse) -> None:
    program = """
        import torch
        library = torch.library.Library("shop", "DEF")
        library.define("wrap(Tensor x) -> Tensor")
        library.impl("wrap", lambda x: x % 3, "CPU")
        print(torch.ops.shop.wrap(torch.arange(5, device="cuda")).tolist())
    """
    done = rehearse("ascend-910b", program)
    assert done.out == "[0, 1, 2, 0, 1]\n", done.err
    assert done.calls("fallback") == {"shop::wrap": 1}
    assert rehearse("mtt-s5000", program).calls("unknown") == {"shop::wrap": 1}


def test_rules_without_a_record(rehearse: Rehearse) -> None:
    done = rehearse(
        "mtt-s5000",
        """
        import torch
        torch.logcumsumexp(torch.ones(3, device="cuda"), 0)
    """,
        "--no-record",
    )
    assert "Could not run 'aten::_logcumsumexp'" in done.err


def test_a_captured_operator_is_counted_at_each_replay(rehearse: Rehearse) -> None:
    done = rehearse(
        "h200",
        """
        import torch
        x = torch.ones(4, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = x.sin()
        for _ in range(5):
            graph.replay()
        print(torch.equal(y, x.sin()))
        """,
    )
    assert done.out == "True\n"
    (row,) = done.rows("aten::sin")
    assert (row["calls"], row["replays"]) == (2, 5)


def test_an_operator_with_two_narrowed_dtypes_is_narrowed_in_both(rehearse: Rehearse) -> None:
    program = """
        import torch
        angle = torch.full((2,), 0.1, dtype=torch.float64).cuda()
        turn = torch.polar(torch.ones_like(angle), angle)
        print(turn.dtype, turn.abs().dtype, torch.view_as_real(turn).dtype)
        print(turn[0].real.item())
    """
    narrowed, exact = (rehearse(chip, program) for chip in ("mlu590", "h200"))
    assert narrowed.status == 0, narrowed.err
    assert narrowed.out.splitlines()[0] == "torch.complex128 torch.float64 torch.float64"
    first, second = (float(done.out.splitlines()[1]) for done in (narrowed, exact))
    assert 1e-10 < abs(first - second) < 1e-6
