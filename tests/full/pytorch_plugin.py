"""A plugin of pytest for PyTorch's tests: notes each outcome as it comes, and supplies former names.

The names are those of PyTorch's test helpers that tests of an older release still import.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch
from torch.testing._internal import common_cuda, common_mkldnn, common_nn

_NOTES = os.environ["HEITU_TEST_NOTES"]  # a file of JSON lines


def _note(**fields: Any) -> None:
    with open(_NOTES, "a", encoding="utf-8") as notes:
        notes.write(json.dumps(fields) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Says which test a process that dies was at."""
    _note(started=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes what a test came to; one that fails after its body too."""
    if report.when != "call" and report.passed:
        return
    message = ""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash else str(report.longrepr)
    elif isinstance(report.longrepr, tuple):
        message = report.longrepr[2]
    _note(test=report.nodeid, outcome=report.outcome, message=message)


def _tf32_is_not_fp32() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


if not hasattr(common_cuda, "tf32_is_not_fp32"):
    common_cuda.tf32_is_not_fp32 = _tf32_is_not_fp32
if not hasattr(common_mkldnn, "bf32_on_and_off"):
    common_mkldnn.bf32_on_and_off = common_mkldnn.reduced_f32_on_and_off
if not hasattr(common_nn, "new_module_tests"):
    common_nn.new_module_tests = common_nn.get_new_module_tests()
