"""What programs use of torch beside operators: interoperability, profiling, functions, compilers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


# ---- errors ----


@pytest.fixture
def sync_debug() -> Iterator[Callable[[str], None]]:
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


def test_what_the_host_waits_for_is_reported(sync_debug: Callable[[str], None]) -> None:
    x, one = torch.rand(4, device="cuda"), torch.rand((), device="cuda")
    index, mask = torch.tensor([0, 2], device="cuda"), x > 0.5
    repeats = torch.tensor([2], device="cuda")
    index_on_cpu, pinned = index.cpu(), torch.ones(3).pin_memory()
    waiting: list[Callable[[], object]] = [
        x.nonzero,
        x.cpu,
        one.item,
        index.unique,
        torch.ones(3).cuda,
        lambda: x[mask],
        lambda: x[index_on_cpu],
        lambda: x.__setitem__(mask, one),
        lambda: x.__setitem__(index_on_cpu, one),
        lambda: functional.one_hot(index),
        lambda: torch.repeat_interleave(x, repeats),
        torch.cuda.current_stream().synchronize,
    ]
    going_on: list[Callable[[], object]] = [
        one.any,
        lambda: x[index],
        lambda: x.__setitem__(mask, 1.0),
        lambda: x.__setitem__(index, one),
        lambda: functional.one_hot(index, num_classes=4),
        lambda: torch.randperm(20000, device="cuda"),
        lambda: torch.repeat_interleave(x, repeats, output_size=8),
        lambda: pinned.to("cuda", non_blocking=True),
    ]
    for mode in ("warn", "error"):
        sync_debug(mode)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for call in going_on:
                call()
        for call in waiting:
            if mode == "warn":
                with pytest.warns(UserWarning, match="called a synchronizing CUDA operation"):
                    call()
            else:
                with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
                    call()


def test_cuda_errors_are_accelerator_errors() -> None:
    has_own_type = torch.__version__ >= "2.8"
    count = torch.cuda.device_count()
    for action in (
        lambda: torch.zeros(1, device=f"cuda:{count}"),
        lambda: torch.cuda.set_device(count),
        lambda: torch.UntypedStorage(1, device=f"cuda:{count}"),
    ):
        expected = torch.AcceleratorError if has_own_type else RuntimeError
        with pytest.raises(expected, match="CUDA error: invalid device ordinal") as caught:
            action()
        assert not has_own_type or caught.value.error_code == 101


def test_an_index_out_of_bounds_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        torch.ones(3, device="cuda")[torch.tensor([7], device="cuda")]


# ---- streams, events, devices, random state ----


def test_generic_streams_and_events_are_cudas() -> None:
    stream = torch.Stream(device="cuda")
    event = torch.Event(device="cuda", enable_timing=True)
    with stream:
        assert torch.cuda.current_stream().stream_id == stream.stream_id
        event.record()
    torch.cuda.current_stream().wait_event(event)
    event.synchronize()
    assert event.query()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    cuda_stream = torch.cuda.Stream()
    assert isinstance(cuda_stream, torch.Stream)
    cuda_event = torch.cuda.Event(enable_timing=True)
    cuda_stream.record_event(cuda_event)
    stream.wait_event(cuda_event)
    stream.record_event(event)
    cuda_stream.wait_stream(torch.cuda.current_stream())
    assert cuda_event.query()
    with torch.cuda.stream(cuda_stream):
        assert torch.accelerator.current_stream().stream_id == cuda_stream.stream_id


def test_accelerator_is_cuda() -> None:
    assert torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert torch.accelerator.device_count() == torch.cuda.device_count()
    assert torch.accelerator.current_device_index() == torch.cuda.current_device()
    torch.accelerator.synchronize()
    assert torch.get_device_module("cuda") is torch.cuda
    assert torch.get_device_module() is torch.cuda
    with torch.device("cuda"):
        assert torch.zeros(1).is_cuda


def test_random_state_is_kept() -> None:
    state = torch.cuda.get_rng_state()
    first = torch.rand(4, device="cuda")
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(4, device="cuda"), first)
    torch.cuda.set_rng_state(state)
    with torch.random.fork_rng():
        torch.rand(9, device="cuda")
    assert torch.equal(torch.rand(4, device="cuda"), first)
    assert len(torch.cuda.get_rng_state_all()) == torch.cuda.device_count()


def test_checkpoint_replays_random_numbers() -> None:
    x = torch.ones(64, device="cuda", requires_grad=True)
    dropped = checkpoint(lambda t: nn.functional.dropout(t, 0.5), x, use_reentrant=False)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


# ---- memory beyond the device ----


def test_pinned_memory() -> None:
    pinned = torch.arange(4.0).pin_memory()
    assert pinned.is_pinned()
    assert not torch.ones(1).is_pinned()
    assert torch.empty(3, pin_memory=True).is_pinned()
    moved = pinned.to("cuda", non_blocking=True)
    assert moved.tolist() == [0, 1, 2, 3]
    back = torch.empty(4, pin_memory=True).copy_(moved, non_blocking=True)
    torch.cuda.synchronize()
    assert back.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader_pins_memory(workers: int) -> None:
    data = TensorDataset(torch.arange(8.0), torch.arange(8))
    seen = []
    for values, labels in DataLoader(data, batch_size=4, pin_memory=True, num_workers=workers):
        assert values.is_pinned()
        seen += labels.cuda(non_blocking=True).tolist()
    assert seen == list(range(8))


def test_dlpack_shares_memory() -> None:
    tensor = torch.arange(4.0, device="cuda")
    assert tensor.__dlpack_device__() == (2, 0)  # kDLCUDA
    again = torch.from_dlpack(tensor)
    again[0] = 9
    assert tensor[0].item() == 9
    assert again.is_cuda
    capsule = torch.utils.dlpack.to_dlpack(tensor)
    assert torch.utils.dlpack.from_dlpack(capsule).data_ptr() == tensor.data_ptr()
    stream = torch.cuda.Stream()
    assert tensor.__dlpack__(stream=stream.cuda_stream) is not None
    assert torch.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]


class _ArrayOnDevice:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.__cuda_array_interface__ = tensor.__cuda_array_interface__


def test_cuda_array_interface() -> None:
    tensor = torch.arange(6.0, device="cuda").reshape(2, 3)
    interface = tensor.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert interface["typestr"] == "<f4"
    assert interface["data"] == (tensor.data_ptr(), False)
    again = torch.as_tensor(_ArrayOnDevice(tensor), device="cuda")
    again[0, 0] = 7
    assert tensor[0, 0].item() == 7


# ---- measuring ----


def test_profiler_lists_operators(tmp_path: Path) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, record_shapes=True, profile_memory=True) as profile:
        torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")
    product = next(event for event in profile.key_averages() if event.key == "aten::mm")
    assert product.device_time_total > 0
    profile.key_averages().table(sort_by="cuda_time_total")
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    assert (tmp_path / "trace.json").stat().st_size > 0


def test_nvtx_and_emit_nvtx() -> None:
    assert torch.cuda.nvtx.range_push("outer") == 0
    assert torch.cuda.nvtx.range_push("inner") == 1
    assert torch.cuda.nvtx.range_pop() == 1
    assert torch.cuda.nvtx.range_pop() == 0
    with torch.cuda.nvtx.range("range"):
        torch.cuda.nvtx.mark("mark")
    with torch.autograd.profiler.emit_nvtx():
        torch.ones(2, device="cuda").sum()
    with torch.cuda.profiler.profile():
        pass


def test_benchmark_timer() -> None:
    from torch.utils.benchmark import Timer

    measured = Timer("x + 1", globals={"x": torch.ones(4, device="cuda")}).timeit(5)
    assert measured.mean > 0


def test_memory_history(tmp_path: Path) -> None:
    torch.cuda.memory._record_memory_history()
    try:
        kept = torch.ones(1000, device="cuda")
        snapshot = torch.cuda.memory._snapshot()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    assert any(entry["addr"] == kept.data_ptr() for entry in snapshot["device_traces"][0])
    torch.cuda.memory._dump_snapshot(str(tmp_path / "snapshot.pickle"))
    assert "allocated" in torch.cuda.memory_summary().lower()


def test_what_nvml_would_say_needs_nvml() -> None:
    for function in (torch.cuda.utilization, torch.cuda.temperature, torch.cuda.power_draw):
        with pytest.raises(ModuleNotFoundError, match=r"nvidia-ml-py|pynvml"):
            function()


# ---- autograd and autocast ----


def test_anomaly_mode_and_hooks() -> None:
    seen: list[str] = []
    x = torch.ones(3, device="cuda", requires_grad=True)
    x.register_hook(lambda grad: seen.append(str(grad.device)))
    with torch.autograd.detect_anomaly(check_nan=True), pytest.raises(RuntimeError, match="nan"):
        (x * float("nan")).sqrt().sum().backward()
    (x * 2).sum().backward()
    assert seen == ["cuda:0"]
    model = Mlp().cuda()
    model.register_forward_hook(lambda *_: seen.append("forward"))
    model.register_full_backward_hook(lambda *_: seen.append("backward"))
    model(torch.ones(2, 4, device="cuda", requires_grad=True)).sum().backward()
    assert seen[1:] == ["forward", "backward"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_scaler(dtype: torch.dtype) -> None:
    model = Mlp().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cuda", init_scale=4.0)
    with torch.autocast("cuda", dtype=dtype):
        output = model(torch.ones(4, 4, device="cuda"))
        loss = output.float().pow(2).sum()
    assert output.dtype == dtype
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 4.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with torch.cuda.amp.autocast(dtype=dtype):
            assert model(torch.ones(1, 4, device="cuda")).dtype == dtype


def test_backward_runs_on_several_threads() -> None:
    results: list[float] = []

    def work() -> None:
        x = torch.ones(8, device="cuda", requires_grad=True)
        (x * 3).sum().backward()
        assert x.grad is not None
        results.append(x.grad.sum().item())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [24.0] * 4


# ---- backends ----


def test_backends_answer_as_cuda() -> None:
    assert torch.backends.cuda.is_built()
    assert torch.backends.cudnn.is_available()
    assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.version() >= 90000
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    assert torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before
    torch.backends.cuda.preferred_linalg_library("cusolver")
    torch.backends.cuda.preferred_linalg_library("default")
    torch.backends.cuda.preferred_blas_library("default")
    query = torch.ones(1, 2, 8, 16, device="cuda", dtype=torch.float16)
    parameters = torch.backends.cuda.SDPAParams(query, query, query, None, 0.0, False, False)
    assert torch.backends.cuda.can_use_flash_attention(parameters)
    assert torch.backends.cuda.can_use_efficient_attention(parameters)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        nn.functional.scaled_dot_product_attention(query, query, query)
    with torch.backends.cudnn.flags(enabled=False):
        assert not torch.backends.cudnn.enabled
    torch.backends.cuda.cufft_plan_cache[0].max_size = 10
    assert torch.backends.cuda.cufft_plan_cache[0].max_size == 10


# ---- functions and compilers ----


def test_torch_func() -> None:
    from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

    x = torch.arange(3.0, device="cuda")
    assert torch.equal(vmap(lambda row: row * row)(x), x * x)
    assert torch.equal(grad(lambda t: (t**2).sum())(x), 2 * x)
    assert torch.equal(hessian(lambda t: (t**2).sum())(x), 2 * torch.eye(3, device="cuda"))
    assert torch.equal(jacrev(lambda t: t * 3)(x), 3 * torch.eye(3, device="cuda"))
    value, tangent = jvp(torch.sin, (x,), (torch.ones_like(x),))
    assert value.is_cuda
    assert torch.allclose(tangent, torch.cos(x))
    model = Mlp().cuda().eval()
    assert torch.equal(functional_call(model, dict(model.named_parameters()), x.new_ones(2, 4)),
                       model(x.new_ones(2, 4)))  # fmt: skip


def test_jit() -> None:
    model = Mlp().cuda().eval()
    x = torch.ones(2, 4, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for compiled in (torch.jit.script(model), torch.jit.trace(model, x)):
            for _ in range(3):
                assert torch.allclose(compiled(x), model(x))
        assert torch.allclose(torch.jit.freeze(torch.jit.script(model))(x), model(x))


def test_export() -> None:
    model = Mlp().cuda().eval()
    x = torch.ones(2, 4, device="cuda")
    exported = torch.export.export(model, (x,))
    assert torch.equal(exported.module()(x), model(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile_without_code_generation(backend: str) -> None:
    model = Mlp().cuda().eval()
    compiled = torch.compile(model, backend=backend)
    x = torch.ones(2, 4, device="cuda", requires_grad=True)
    output = compiled(x)
    output.sum().backward()
    assert torch.allclose(output, model(x))
    assert x.grad is not None


def test_fake_and_meta_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.cuda.memory_allocated()
    with FakeTensorMode() as mode:
        fake = torch.empty(1 << 40, device="cuda") + 1
        assert fake.device == torch.device("cuda", 0)
    assert torch.cuda.memory_allocated() == before
    real = torch.ones(3, device="cuda")
    assert mode.from_tensor(real).device == real.device
    assert real.to("meta").device.type == "meta"
    with torch.device("meta"):
        model = Mlp()
    assert next(model.to_empty(device="cuda").parameters()).is_cuda


def test_custom_operators() -> None:
    @torch.library.custom_op("heitu_test::twice", mutates_args=(), device_types="cuda")
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert twice(torch.ones(2, device="cuda")).tolist() == [2, 2]
    with pytest.raises(NotImplementedError):
        twice(torch.ones(2))


def test_sanitizer_finds_a_race() -> None:
    program = (
        "import torch\n"
        "a = torch.rand(4, device='cuda')\n"
        "with torch.cuda.stream(torch.cuda.Stream()):\n"
        "    a.mul_(5)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TORCH_CUDA_SANITIZER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CSAN detected a possible data race" in finished.stderr


# ---- refused with a sentence ----


def test_what_needs_a_gpu_says_so() -> None:
    square = torch.cuda.jiterator._create_jit_fn("template <typename T> T square(T x) { return x * x; }")
    with pytest.raises(RuntimeError, match="jiterator"):
        square(torch.ones(2, device="cuda"))
    if hasattr(torch.cuda, "green_contexts"):
        with pytest.raises(RuntimeError, match="Green Context"):
            torch.cuda.green_contexts.GreenContext.create(num_sms=1)
    with pytest.raises(RuntimeError, match="not supported on this platform"):
        torch.cuda.gds.gds_register_buffer(torch.ones(1, device="cuda").untyped_storage())
