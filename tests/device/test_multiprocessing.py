"""CUDA tensors and events between processes, and processes forked after CUDA was used."""

from __future__ import annotations

import os
import time
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

SPAWN = mp.get_context("spawn")


def _add_and_answer(received: Any, answers: Any) -> None:
    """Changes what it receives in place, and sends something of its own back."""
    message = received.get()
    tensor, row, parameter = message
    tensor.add_(1)
    answers.put((row.tolist(), parameter.requires_grad, type(parameter).__name__, str(tensor.device)))
    own = torch.full((3,), 5.0, device="cuda")
    answers.put(own)
    received.get()  # keeps `own` alive until the other side has read it
    try:
        answers.put(f"sent {len(ForkingPickler.dumps(tensor))} bytes")
    except RuntimeError as error:
        answers.put(str(error))
    del tensor, row, parameter, message
    received.get()


def test_tensors_travel_both_ways() -> None:
    to, back = SPAWN.Queue(), SPAWN.Queue()
    process = SPAWN.Process(target=_add_and_answer, args=(to, back))
    process.start()
    torch.cuda.synchronize()
    tensor = torch.arange(6.0, device="cuda").reshape(2, 3)
    parameter = torch.nn.Parameter(torch.ones(2, device="cuda"))
    to.put((tensor, tensor[1], parameter))
    row, requires_grad, kind, device = back.get(timeout=60)
    assert tensor.tolist() == [[1, 2, 3], [4, 5, 6]], "the receiver writes to the very same memory"
    assert row == [4, 5, 6], "the view is one of the tensor that was sent with it"
    assert requires_grad
    assert kind == "Parameter"
    assert device == "cuda:0"
    answer = back.get(timeout=60)
    assert answer.tolist() == [5, 5, 5]
    answer.fill_(1)
    del answer
    to.put(None)
    assert "received from another process" in back.get(timeout=60)
    to.put(None)
    process.join(60)
    assert process.exitcode == 0


def _hold(received: Any, answers: Any) -> None:
    tensor = received.get()
    answers.put("held")
    received.get()
    del tensor
    answers.put("released")
    received.get()


def test_memory_that_was_sent_lives_until_it_is_released_everywhere() -> None:
    to, back = SPAWN.Queue(), SPAWN.Queue()
    process = SPAWN.Process(target=_hold, args=(to, back))
    process.start()
    before = torch.cuda.memory_allocated()
    tensor = torch.ones(1 << 20, device="cuda")
    to.put(tensor)
    assert back.get(timeout=60) == "held"
    del tensor
    torch.cuda.ipc_collect()
    assert torch.cuda.memory_allocated() == before + (4 << 20)
    to.put(None)
    assert back.get(timeout=60) == "released"
    torch.cuda.ipc_collect()
    assert torch.cuda.memory_allocated() == before
    to.put(None)
    process.join(60)


def _wait_for(handle: bytes, connection: Any) -> None:
    event = torch.cuda.Event.from_ipc_handle(0, handle)
    connection.send(event.query())
    connection.recv()
    start = time.perf_counter()
    event.synchronize()
    connection.send(time.perf_counter() - start)


def test_events_are_seen_by_other_processes() -> None:
    event = torch.cuda.Event(interprocess=True)
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_wait_for, args=(event.ipc_handle(), there))
    process.start()
    assert here.recv() is True, "an event that was not recorded is done"
    torch.cuda._sleep(600_000_000)
    event.record()
    assert not event.query()
    here.send(None)
    assert here.recv() > 0.02
    assert event.query()
    process.join(60)


def test_only_interprocess_events_have_a_handle() -> None:
    with pytest.raises(RuntimeError, match="invalid argument"):
        torch.cuda.Event().ipc_handle()


def test_empty_tensors_and_same_process_round_trips() -> None:
    queue = SPAWN.SimpleQueue()
    for sent in (torch.empty(0, 3, device="cuda"), torch.arange(3, device="cuda")):
        queue.put(sent)
        got = queue.get()
        assert got.shape == sent.shape
        assert got.device == sent.device
        assert torch.equal(got, sent)


def test_a_forked_child_may_not_use_the_device() -> None:
    torch.zeros(1, device="cuda")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        message = "no error"
        try:
            torch.zeros(1, device="cuda")
        except RuntimeError as error:
            message = str(error)
        os.write(writer, message.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert (
        os.read(reader, 1000)
        .decode()
        .startswith(
            "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, "
            "you must use the 'spawn' start method"
        )
    )
