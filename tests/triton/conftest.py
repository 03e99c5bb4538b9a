"""Kernels through the stock triton wheel; without it the tests are skipped."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

AVAILABLE = importlib.util.find_spec("triton") is not None
collect_ignore_glob = [] if AVAILABLE else ["test_*.py"]

HEAD = "import triton\nimport triton.language as tl\n\n"
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Makes a module of the text of kernels: Triton wants to read a function's file."""
    folder = tmp_path_factory.mktemp("kernels")
    numbers = itertools.count()

    def made(text: str) -> ModuleType:
        path = Path(folder, f"kernel_{next(numbers)}.py")
        path.write_text(HEAD + text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return made
