"""cuDNN as torch.backends.cudnn sees it: present, of one version. Its operators run on CPU kernels."""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

VERSION = 91002


class RNNMode(enum.IntEnum):
    """Kinds of recurrent network, numbered as cudnnRNNMode_t."""

    rnn_relu = 0
    rnn_tanh = 1
    lstm = 2
    gru = 3


def install(torch_c: Any, core: Any) -> None:
    """Supplies torch._C._cudnn and the settings beside it."""
    cudnn: Any = ModuleType("torch._C._cudnn")
    cudnn.is_cuda = True
    cudnn.RNNMode = RNNMode
    cudnn.getVersionInt = lambda: VERSION
    cudnn.getRuntimeVersion = lambda: _triple(VERSION)
    cudnn.getCompileVersion = lambda: _triple(VERSION)
    torch_c._cudnn = cudnn
    torch_c._has_cudnn = True
    limit = [10, False]

    def set_limit(value: int) -> None:
        limit[0] = value

    torch_c._cuda_get_cudnn_benchmark_limit = lambda: limit[0]
    torch_c._cuda_set_cudnn_benchmark_limit = set_limit
    torch_c._cuda_get_conv_benchmark_empty_cache = lambda: limit[1]


def _triple(version: int) -> tuple[int, int, int]:
    return version // 10000, version // 100 % 100, version % 100
