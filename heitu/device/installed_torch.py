"""The torch that this Python would import, looked at without importing it."""

from __future__ import annotations

import importlib.util
import re
from functools import cached_property
from pathlib import Path

from heitu.errors import ExitCode, HeituError

OLDEST = (2, 7)
TESTED = "2.13"
CPU_INSTALL = "pip install 'torch==2.13.0+cpu' --extra-index-url https://download.pytorch.org/whl/cpu"


class InstalledTorch:
    """Facts about the torch package in the directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _version_module(self) -> dict[str, str | None]:
        """The string constants of torch/version.py; empty for a file that cannot be read."""
        import ast

        try:
            tree = ast.parse((self.root / "version.py").read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            return {}
        found: dict[str, str | None] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                target, value = node.target, node.value
            else:
                continue
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                found[target.id] = value.value if isinstance(value.value, str) else None
        return found

    @property
    def version(self) -> str:
        """For instance "2.13.0+cpu"; "unknown" where version.py does not say."""
        return self._version_module.get("__version__") or "unknown"

    @property
    def git_version(self) -> str:
        """The commit it was built from, or an empty string."""
        return self._version_module.get("git_version") or ""

    def constant(self, name: str) -> str | None:
        """A string that torch/version.py sets, for instance "hip"; None where it does not."""
        return self._version_module.get(name)

    @property
    def accelerator(self) -> str | None:
        """What the build is for other than the CPU, for instance "CUDA 12.8"; None for a CPU build."""
        for key, name in (("cuda", "CUDA"), ("hip", "ROCm"), ("xpu", "XPU")):
            if self._version_module.get(key):
                return f"{name} {self._version_module[key]}"
        return None

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version; (0, 0) where unknown."""
        match = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def library_dir(self) -> Path:
        return self.root / "lib"

    @property
    def include_dirs(self) -> list[Path]:
        include = self.root / "include"
        return [include, include / "torch" / "csrc" / "api" / "include"]

    @cached_property
    def cxx11_abi(self) -> bool:
        """Whether libc10 takes std::string in its new layout, read from its symbol table."""
        old = rb"_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
        return not _search(self.library_dir / "libc10.so", old)

    @cached_property
    def pybind_build_abi(self) -> str | None:
        """The compiler ABI in the name of torch's pybind11 internals, where it is part of that name.

        Up to torch 2.8 that name carries the ABI number of the compiler of the wheel; an extension that
        is to know torch's Python types has to claim the same one.
        """
        library = self.library_dir / "libtorch_python.so"
        found = _search(library, rb"__pybind11_internals_v\d+_\w*?(_cxxabi\d+)")
        return found[1].decode() if found else None

    def check_usable(self) -> None:
        """Raises HeituError unless this is a CPU build of a supported version."""
        unsuitable = ExitCode.TORCH_UNSUITABLE
        if self.accelerator:
            raise HeituError(
                f"The torch in {self.root.parent} is a {self.accelerator} build ({self.version}); "
                "Heitu needs a CPU build, where the place of the cuda device is still free.",
                hint=f"In a fresh virtual environment: {CPU_INSTALL}",
                exit_code=unsuitable,
            )
        if self.release < OLDEST:
            raise HeituError(
                f"torch {self.version} in {self.root.parent} is too old: "
                f"{OLDEST[0]}.{OLDEST[1]} is the oldest that Heitu builds against.",
                hint=f"Update it: {CPU_INSTALL}",
                exit_code=unsuitable,
            )
        if not (self.library_dir / "libtorch_python.so").exists():
            raise HeituError(
                f"{self.library_dir} has no libtorch_python.so: this torch is incomplete.",
                hint=f"Install it anew: {CPU_INSTALL}",
                exit_code=unsuitable,
            )


def find_torch() -> InstalledTorch | None:
    """The torch package on this Python's path, or None."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return InstalledTorch(Path(spec.origin).parent)


def require_torch() -> InstalledTorch:
    """Like find_torch, but raises HeituError where there is none."""
    torch = find_torch()
    if torch is None:
        import sys

        raise HeituError(
            f"There is no torch for {sys.executable}.",
            hint=f"Install one: {CPU_INSTALL}",
            exit_code=ExitCode.TORCH_MISSING,
        )
    return torch


def _search(path: Path, pattern: bytes) -> re.Match[bytes] | None:
    import mmap

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = re.search(pattern, text)
            # The map is gone when this returns, so the match is made again on a copy of its bytes.
            return re.search(pattern, bytes(found[0])) if found else None
    except (OSError, ValueError):
        return None
