"""Fifteen things that CUDA programs rely on and that makers' own redirections of CUDA are known to break.

Run by itself it tries each and prints, as JSON, its name and what went wrong, or null.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch


def device_type_is_cuda() -> None:
    assert torch.ones(2).cuda().device.type == "cuda"
    assert torch.nn.Linear(2, 2).cuda().weight.device == torch.device("cuda:0")


def a_device_object_means_the_chip() -> None:
    x = torch.ones(2, device=torch.device("cuda"))
    assert x.device.type == torch.device("cuda").type
    assert x.device == torch.device("cuda", torch.cuda.current_device())


def is_cuda_holds_for_the_chip_alone() -> None:
    assert torch.ones(2, device="cuda").is_cuda
    assert not torch.ones(2).is_cuda
    assert type(torch.ones(2, device="cuda").untyped_storage().is_cuda) is bool
    assert "device='cuda:0'" in repr(torch.ones(2, device="cuda"))


def torch_stream_takes_cuda() -> None:
    stream = torch.Stream("cuda")
    assert stream.device.type == "cuda"
    stream.synchronize()


def nvtx_marks_ranges() -> None:
    torch.cuda.nvtx.range_push("a step")
    torch.cuda.nvtx.mark("here")
    torch.cuda.nvtx.range_pop()


def cudart_answers() -> None:
    free, total = torch.cuda.cudart().cudaMemGetInfo(0)
    assert 0 < free <= total


def nccl_has_a_version() -> None:
    assert torch.cuda.nccl.version() >= (2, 0)


def the_capability_is_a_pair() -> None:
    major, minor = torch.cuda.get_device_capability()
    assert major >= 8
    assert minor >= 0
    properties = torch.cuda.get_device_properties(0)
    assert (properties.major, properties.minor) == (major, minor)


def torch_version_cuda_is_a_version() -> None:
    assert int(torch.version.cuda.split(".")[0]) >= 11


def jit_script_compiles() -> None:
    @torch.jit.script
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert isinstance(twice, torch.jit.ScriptFunction)
    assert twice(torch.ones(2, device="cuda")).tolist() == [2.0, 2.0]


def paths_are_not_rewritten() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "llama_cuda_ckpt" / "model.pt"
        file.parent.mkdir()
        torch.save({"w": torch.ones(2, device="cuda")}, str(file))
        assert torch.load(str(file), "cuda")["w"].device.type == "cuda"
        assert torch.load(str(file), "cpu")["w"].tolist() == [1.0, 1.0]


def double_stays_double() -> None:
    x = torch.cuda.DoubleTensor([1.0 + 2.0**-40])
    assert x.dtype is torch.float64
    assert x.item() == 1.0 + 2.0**-40


def device_ids_of_the_caller_stay_as_they_were() -> None:
    ids = ["cuda:0"]
    with tempfile.TemporaryDirectory() as folder:
        store = torch.distributed.FileStore(f"{folder}/store", 1)
        torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
        try:
            torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2).cuda(), device_ids=ids)
        finally:
            torch.distributed.destroy_process_group()
    assert ids == ["cuda:0"]


def generators_and_events_are_classes() -> None:
    generator = torch.Generator("cuda").manual_seed(1)
    assert isinstance(generator, torch.Generator)
    assert generator.device.type == "cuda"
    assert isinstance(torch.cuda.Event(), torch.Event)


def an_exception_leaves_cuda_available() -> None:
    from peft.utils.other import infer_device  # the library beside the tests that fails

    assert torch.cuda.is_available()
    try:
        infer_device()
    except LookupError:
        pass
    else:
        raise AssertionError("it did not fail")
    assert torch.cuda.is_available()


FAULTS: tuple[Callable[[], None], ...] = (
    device_type_is_cuda,
    a_device_object_means_the_chip,
    is_cuda_holds_for_the_chip_alone,
    torch_stream_takes_cuda,
    nvtx_marks_ranges,
    cudart_answers,
    nccl_has_a_version,
    the_capability_is_a_pair,
    torch_version_cuda_is_a_version,
    jit_script_compiles,
    paths_are_not_rewritten,
    double_stays_double,
    device_ids_of_the_caller_stay_as_they_were,
    generators_and_events_are_classes,
    an_exception_leaves_cuda_available,
)


def attempt(fault: Callable[[], None]) -> str | None:
    """What went wrong, or None."""
    try:
        fault()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


if __name__ == "__main__":
    json.dump({fault.__name__: attempt(fault) for fault in FAULTS}, sys.stdout, indent=1)
