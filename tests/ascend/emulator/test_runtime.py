"""The emulated runtime: memory that the host cannot touch, streams that are late, limits, failures."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from heitu.emulators import cann
from tests.ascend.emulator.conftest import run_program

LATE = 200_000_000  # cycles of a kernel that does nothing, 0.2 s


def test_streams_do_not_wait_for_each_other() -> None:
    done = run_program(
        f"""
        x, y = torch.zeros(4, device="npu"), torch.ones(4, device="npu")
        torch.npu.synchronize()
        side = torch.npu.Stream()
        with torch.npu.stream(side):
            torch.npu._sleep({LATE})
            x.copy_(y)
        early = x.clone()
        torch.npu.current_stream().wait_stream(side)
        print(early.tolist(), x.tolist())
        """
    )
    assert done.stdout.split("\n")[0] == "[0.0, 0.0, 0.0, 0.0] [1.0, 1.0, 1.0, 1.0]", done.stderr


def test_who_waits_for_an_event_does_not_go_when_it_is_recorded_anew() -> None:
    done = run_program(
        f"""
        x, y = torch.zeros(4, device="npu"), torch.ones(4, device="npu")
        slow, waiting, idle = (torch.npu.Stream() for _ in range(3))
        event = torch.npu.Event()
        torch.npu.synchronize()
        with torch.npu.stream(slow):
            torch.npu._sleep({LATE})
            x.copy_(y)
        event.record(slow)
        waiting.wait_event(event)
        event.record(idle)
        with torch.npu.stream(waiting):
            seen = x.clone()
        torch.npu.synchronize()
        print(seen.tolist())
        """
    )
    assert done.stdout.split("\n")[0] == "[1.0, 1.0, 1.0, 1.0]", done.stderr


def test_streams_are_late_by_as_much_as_was_asked_for() -> None:
    program = """
        import time
        x = torch.zeros(4, device="npu")
        torch.npu.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            x.add_(1)
        torch.npu.synchronize()
        print(time.perf_counter() - start)
        """
    assert float(run_program(program, HEITU_CANN_DELAY="100000").stdout) > 0.3


def test_a_kernel_runs_after_the_call_returned() -> None:
    done = run_program(
        f"""
        torch.zeros(1, device="npu")
        torch.npu.synchronize()
        event = torch.npu.Event()
        torch.npu._sleep({LATE})
        event.record()
        before = event.query()
        event.synchronize()
        print(before, event.query())
        """
    )
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_events_tell_the_time() -> None:
    done = run_program(
        f"""
        start, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
        start.record()
        torch.npu._sleep({LATE})
        end.record()
        end.synchronize()
        print(start.elapsed_time(end))
        """
    )
    assert 190 < float(done.stdout) < 1000, done.stderr


def test_a_read_of_device_memory_by_the_host_is_caught() -> None:
    done = run_program(
        """
        import ctypes
        x = torch.ones(4, device="npu")
        torch.npu.synchronize()
        print(ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_float))[0])
        """
    )
    assert done.returncode < 0
    assert "host access to device memory at 0x" in done.stderr


def test_memory_has_an_end() -> None:
    done = run_program(
        """
        print(torch.npu.mem_get_info()[1])
        try:
            torch.empty(3 << 30, dtype=torch.uint8, device="npu")
        except torch.OutOfMemoryError as error:
            print(error)
        """,
        HEITU_CANN_MEMORY=str(2 << 30),
    )
    total, said = done.stdout.split("\n")[:2]
    assert int(total) == 2 << 30
    assert "Tried to allocate 3.00 GiB" in said


def test_the_chip_is_what_was_asked_for() -> None:
    done = run_program(
        "print(torch.npu.get_device_name(), torch.npu.device_count())\n",
        HEITU_CANN_SOC="Ascend910_9391",
        HEITU_CANN_DEVICES="3",
    )
    assert done.stdout.split() == ["Ascend910_9391", "3"]


def test_a_missing_operator_is_named() -> None:
    assert "aclnnMaskedCausalConv1d" in cann.missing()
    x, weight = torch.rand(2, 4, 8, device="npu"), torch.rand(3, 8, device="npu")
    with pytest.raises(RuntimeError, match="aclnnMaskedCausalConv1d is not emulated"):
        torch.ops.npu.npu_masked_causal_conv1d(x, weight)


def test_calls_are_counted() -> None:
    x = torch.ones(3, device="npu")
    cann.reset_calls()
    torch.mul(torch.add(x, x), x)
    torch.npu.synchronize()
    assert cann.calls() == {"aclnnAdd": 1, "aclnnMul": 1}


def test_a_recorded_graph_is_replayed() -> None:
    layer = torch.nn.Linear(4, 4).to("npu")
    x = torch.ones(2, 4, device="npu")
    layer(x)
    torch.npu.synchronize()
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        y = layer(x) * 2
    x.fill_(3.0)
    graph.replay()
    torch.npu.synchronize()
    torch.testing.assert_close(y, layer(x) * 2)


def test_random_numbers_follow_the_seed() -> None:
    def draw() -> list[torch.Tensor]:
        ones = torch.ones(1000, device="npu")
        torch.manual_seed(3)
        drawn = [torch.rand(10, device="npu"), torch.randn(10, device="npu")]
        drawn += [torch.randperm(10, device="npu"), torch.nn.functional.dropout(ones, 0.25)]
        return [each.cpu() for each in drawn]

    first, again = draw(), draw()
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], draw()[0] + 1)
    assert sorted(first[2].tolist()) == list(range(10))
    assert 200 < int((first[3] == 0).sum()) < 300


def test_a_module_is_copied_and_saved(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 4).to("npu")
    copied = copy.deepcopy(module)
    torch.save(copied.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt")
    assert loaded["weight"].device.type == "npu"
    assert torch.equal(loaded["weight"], module.weight)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TASK_QUEUE_ENABLE", "0"),
        ("TASK_QUEUE_ENABLE", "2"),
        ("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
        ("HEITU_CANN_SOC", "Ascend950PR_9599"),
    ],
)
def test_the_plugins_other_ways(variable: str, value: str) -> None:
    done = run_program(
        """
        streams = [torch.npu.Stream() for _ in range(3)]
        total = torch.zeros(1000, device="npu")
        torch.npu.synchronize()
        for stream in streams:
            with torch.npu.stream(stream):
                total = total + 1
            torch.npu.synchronize()
        print(int(total.sum()), torch.npu.memory_allocated())
        """,
        **{variable: value},
    )
    assert done.stdout.split()[0] == "3000", done.stderr


def test_copies_are_checked() -> None:
    done = run_program(
        """
        import ctypes
        runtime = ctypes.CDLL("libascendcl.so")
        runtime.aclGetRecentErrMsg.restype = ctypes.c_char_p
        x = torch.ones(4, device="npu")
        torch.npu.synchronize()
        here = (ctypes.c_float * 4)()
        there = ctypes.c_void_p(x.data_ptr())
        for kind, size in ((1, 16), (2, 16), (2, 32)):
            code = runtime.aclrtMemcpy(here, ctypes.c_size_t(16), there, ctypes.c_size_t(size), kind)
            print(code != 0, runtime.aclGetRecentErrMsg().decode() if code else here[3])
        """
    )
    said = done.stdout.splitlines()
    assert "the destination is declared to be device memory" in said[0]
    assert said[1] == "False 1.0"
    assert "32 bytes into 16 bytes" in said[2]


def test_one_process_has_all_ranks_of_a_communicator() -> None:
    done = run_program(
        """
        import ctypes
        hccl = ctypes.CDLL("libhccl.so")
        comms = (ctypes.c_void_p * 2)()
        print(hccl.HcclCommInitAll(2, (ctypes.c_int32 * 2)(0, 1), comms))
        ranks, rank = ctypes.c_uint32(), ctypes.c_uint32()
        for comm in comms:
            hccl.HcclGetRankSize(ctypes.c_void_p(comm), ctypes.byref(ranks))
            hccl.HcclGetRankId(ctypes.c_void_p(comm), ctypes.byref(rank))
            print(ranks.value, rank.value)
        """
    )
    assert done.stdout.splitlines() == ["0", "2 0", "2 1"], done.stderr


def test_a_captured_stream_cannot_be_waited_for() -> None:
    x = torch.ones(1, device="npu")
    stream, graph = torch.npu.Stream(), torch.npu.NPUGraph()
    with torch.npu.stream(stream):
        graph.capture_begin()
        with pytest.raises(RuntimeError):
            (x + 1).item()
        graph.capture_end()
    torch.npu.current_stream().wait_stream(stream)
    assert (x + 1).item() == 2
