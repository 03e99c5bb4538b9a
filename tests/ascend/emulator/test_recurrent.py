"""LSTMs on sequences of unequal length, by the operator for one layer and by those of the graph compiler."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.ascend.emulator.comparing import noted

LENGTHS = torch.tensor([9, 4, 7, 6])
# The plugin keeps the padding in what it packs and has PyTorch's derivative of packing, which knows of none:
# where the shortest sequence has ended, the gradient of its input goes elsewhere.
SHORTEST = int(LENGTHS.min())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"num_layers": 2}], ids=str)
def test_packed_sequences(more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.LSTM(5, 3, **more)
    inputs = torch.randn(9, 4, 5)

    def run(module: nn.LSTM, device: str) -> list[torch.Tensor]:
        given = inputs.to(device).detach().requires_grad_()
        packed = pack_padded_sequence(given, LENGTHS, enforce_sorted=False)
        packed_out, states = module.to(device)(packed)
        out, _ = pad_packed_sequence(packed_out)
        out.square().sum().backward()
        assert given.grad is not None
        found = [out.detach(), *(state.detach() for state in states), given.grad[:SHORTEST]]
        found += [each.grad for each in module.parameters() if each.grad is not None]
        return [each.cpu() for each in found]

    with noted():
        found = run(copy.deepcopy(model), "npu")
    torch.testing.assert_close(found, run(model, "cpu"), rtol=1e-4, atol=1e-5)
