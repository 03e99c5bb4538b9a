"""Functions of the C headers that kernels are compiled with, each in a loop over arrays."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heitu

INCLUDE = Path(heitu.__file__).parent / "kernels" / "triton" / "include"
# What kernels are compiled with.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
C_TYPES = {
    "f32": "float", "f64": "double", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t", "u16": "uint16_t",
    "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t",
}  # fmt: skip
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype({"f": "float", "i": "int", "u": "uint"}[name[0]] + name[1:]) for name in C_TYPES
}
# A function's arguments and, last, its result.
Signature = Sequence[str]


class Loops:
    """A library with one loop for each function; `vectorised` names those the compiler vectorised."""

    def __init__(
        self, library: Path, signatures: Mapping[str, Signature], vectorised: frozenset[str]
    ) -> None:
        self._library = ctypes.CDLL(str(library))
        self.signatures = signatures
        self.vectorised = vectorised

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The function of each element; arguments are converted to the dtypes of its signature."""
        *kinds, result = (DTYPES[kind] for kind in self.signatures[name])
        arrays = [np.ascontiguousarray(a, dtype=k) for a, k in zip(arguments, kinds, strict=True)]
        out = np.empty(arrays[0].shape, result)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)]
        self._library[f"loop_{name}"](*pointers, ctypes.c_long(out.size))
        return out


def _loop(name: str, signature: Signature) -> str:
    *kinds, result = (C_TYPES[kind] for kind in signature)
    parameters = ", ".join(f"const {kind}* restrict a{i}" for i, kind in enumerate(kinds))
    arguments = ", ".join(f"a{i}[i]" for i in range(len(kinds)))
    return (
        f"void loop_{name}({parameters}, {result}* restrict out, long n)"
        f" {{ for (long i = 0; i < n; ++i) out[i] = {name}({arguments}); }}"
    )


@pytest.fixture(scope="session")
def compile_loops(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Loops]:
    """`compile_loops(header, {function: signature}, flags=FLAGS)` gives their `Loops`."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(header: str, signatures: Mapping[str, Signature], flags: Sequence[str] = FLAGS) -> Loops:
        folder = tmp_path_factory.mktemp("loops")
        source = folder / "loops.c"
        names = list(signatures)
        lines = [f'#include "{header}"', *(_loop(name, signatures[name]) for name in names)]
        source.write_text("\n".join(lines) + "\n")
        # Functions with the same body would be merged, and only one of them reported.
        report = ["-fopt-info-vec", "-fno-ipa-icf"] if "gcc" in compiler else []
        warnings = ["-Wall", "-Wextra", "-Werror"]
        command = [compiler, *flags, *report, *warnings, f"-I{INCLUDE}", "-shared", "-fPIC"]
        built = subprocess.run(
            [*command, str(source), "-lm", "-o", str(folder / "loops.so")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        rows = {int(line.split(":")[1]) for line in built.stderr.splitlines() if "loop vectorized" in line}
        vectorised = frozenset(name for row, name in enumerate(names, start=2) if row in rows)
        return Loops(folder / "loops.so", signatures, vectorised)

    return build
