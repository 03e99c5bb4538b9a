"""A clean environment, a cache of its own, and small stand-ins for torch, a compiler and the core."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from heitu.device import build, installed_torch

FAKE_COMPILER = """\
#!{python}
import os, sys, time
args = sys.argv[1:]
with open({calls!r}, "a") as log:
    log.write(" ".join(args) + "\\n")
if args == ["--version"]:
    print("fake g++ 13.2.0")
    sys.exit(0)
{body}
target = args[args.index("-o") + 1]
with open(target, "wb") as out:
    out.write(b"built by the fake compiler\\n")
    for name in args:
        if name.endswith((".cpp", ".o")) and name != target:
            out.write(open(name, "rb").read())
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No HEITU_* variable of the caller's, and a cache directory of the test's own, which is returned."""
    for name in [name for name in os.environ if name.startswith("HEITU_")]:
        monkeypatch.delenv(name)
    for name in ("CXX", "PYTHONPATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("HEITU_CACHE_DIR", str(cache))
    return cache


class FakeCompiler:
    """A compiler that notes how it was called and joins its inputs; `body` is what it does besides."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = directory / "fake-c++"
        self._calls = directory / "calls.txt"
        self.behave("")
        monkeypatch.setenv("CXX", str(self._path))

    def behave(self, body: str) -> None:
        """Replaces what it does; its identity stays the same."""
        before = self._path.stat() if self._path.exists() else None
        padded = body.ljust(400, "\n")
        text = FAKE_COMPILER.format(python=sys.executable, calls=str(self._calls), body=padded)
        self._path.write_text(text)
        self._path.chmod(stat.S_IRWXU)
        if before is not None:
            os.utime(self._path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def calls(self) -> list[str]:
        """What it was asked to make since the last question: source names, and "link"."""
        if not self._calls.exists():
            return []
        lines = [line.split() for line in self._calls.read_text().splitlines()]
        self._calls.unlink()
        return sorted("link" if "-shared" in words else Path(words[-3]).name for words in lines)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    """A fake compiler, named by CXX."""
    return FakeCompiler(tmp_path, monkeypatch)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny core of two sources, one header and a prelude."""
    root = tmp_path / "csrc"
    (root / "inner").mkdir(parents=True)
    (root / "prelude.h").write_text("#pragma once\n")
    (root / "a.h").write_text("#pragma once\nint a();\n")
    (root / "a.cpp").write_text('#include "a.h"\nint a() { return 1; }\n')
    (root / "inner" / "b.cpp").write_text("int b() { return 2; }\n")
    monkeypatch.setattr(build, "SOURCE_DIRS", (root, tmp_path / "none"))
    return root


def write_torch(root: Path, version: str = "2.13.0+cpu", **builds: str) -> Path:
    """A directory that looks like an installed torch."""
    package = root / "torch"
    (package / "lib").mkdir(parents=True, exist_ok=True)
    (package / "include").mkdir(exist_ok=True)
    lines = ["from typing import Optional", f"__version__ = {version!r}", "debug = False"]
    lines += [f"{name}: Optional[str] = {builds.get(name)!r}" for name in ("cuda", "hip", "xpu")]
    (package / "version.py").write_text("\n".join(lines) + "\n")
    (package / "lib" / "libc10.so").write_bytes(b"\x7fELF")
    (package / "lib" / "libtorch_python.so").write_bytes(b"\x7fELF")
    return package


@pytest.fixture
def torch_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed torch, as far as can be seen without importing it."""
    package = write_torch(tmp_path / "site")
    found = installed_torch.InstalledTorch(package)
    for module in (build, installed_torch):
        monkeypatch.setattr(module, "require_torch", lambda: found)
    return package


def python(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs this Python and gives back what it said."""
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]
