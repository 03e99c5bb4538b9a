"""C to shared libraries: the compiler, its flags, and the cache of what it made."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from filelock import FileLock

from heitu.cache import private_cache, write_whole
from heitu.errors import ExitCode, HeituError

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
RUNTIME = HERE / "runtime"
CANDIDATES = ("cc", "gcc", "clang")
# Whole numbers wrap as the hardware's do, and memory is read as whatever type a kernel names. The order of
# floating-point operations is that of the program.
FLAGS = (
    "-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing",
    "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fvisibility=hidden", "-w", "-pipe",
)  # fmt: skip
LIMIT = 600  # seconds for one compilation


@cache
def compiler() -> tuple[str, ...]:
    """CC if it is set, else the first of cc, gcc, clang. Raises HeituError where there is none."""
    wanted = os.environ.get("CC", "").strip()
    if wanted and shutil.which(shlex.split(wanted)[0]):
        return tuple(shlex.split(wanted))
    for name in CANDIDATES:
        if shutil.which(name):
            return (name,)
    raise HeituError(
        f"There is no C compiler: none of {', '.join(CANDIDATES)} is on PATH.",
        hint="Install one (`apt install gcc`, `dnf install gcc`, `conda install gcc`), or set CC.",
        exit_code=ExitCode.COMPILER_MISSING,
    )


@cache
def identity() -> str:
    """What tells this compiler, this processor and these headers from others."""
    path = Path(os.path.realpath(shutil.which(compiler()[0]) or compiler()[0]))
    status = path.stat()
    parts = [*compiler(), str(path), str(status.st_size), str(status.st_mtime_ns), _processor(), *FLAGS]
    digest = hashlib.sha256("\0".join(parts).encode())
    for header in sorted(INCLUDE.glob("*.h")):
        digest.update(header.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """The vector instructions that there are: -march=native means others on another machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return sysconfig.get_platform()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def folder() -> Path:
    """Where libraries are kept; nobody else can write there."""
    path = private_cache() / "triton"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def compile_c(text: str, *flags: str) -> bytes:
    """The shared library that C becomes; equal texts are compiled once on a machine.

    Raises:
        HeituError: there is no compiler, or it fails.
    """
    key = hashlib.sha256("\0".join([identity(), *flags, text]).encode()).hexdigest()
    target = folder() / f"c-{key[:40]}.so"
    sums = target.with_suffix(".sha256")
    try:
        content = target.read_bytes()
        if sums.read_text() == hashlib.sha256(content).hexdigest():
            return content
    except OSError:
        pass
    with tempfile.TemporaryDirectory(dir=folder()) as place:
        source, made = Path(place, "kernel.c"), Path(place, "kernel.so")
        source.write_text(text)
        run_compiler([*FLAGS, *flags, f"-I{INCLUDE}", str(source), "-o", str(made), "-lm"])
        content = made.read_bytes()
    write_whole(target, content)
    write_whole(sums, hashlib.sha256(content).hexdigest().encode())
    return content


def run_compiler(arguments: list[str]) -> None:
    """Runs it. Raises HeituError with what it says."""
    command = [*compiler(), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise HeituError(f"{command[0]} was not done with a kernel after {LIMIT} s.") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        shown = next((line for line in lines if "error" in line), lines[-1] if lines else "it said nothing")
        raise HeituError(
            f"{command[0]} failed on a kernel (code {done.returncode}): {shown}",
            hint="`heitu doctor` says whether this compiler is new enough.",
            exit_code=ExitCode.COMPILE_FAILED,
        )


def load(content: bytes) -> ctypes.CDLL:
    """Loads a library, by way of a file whose name is its content's and which is compared with it."""
    target = folder() / f"{hashlib.sha256(content).hexdigest()[:40]}.so"
    try:
        same = target.read_bytes() == content
    except OSError:
        same = False
    if not same:
        write_whole(target, content)
    runtime()
    return ctypes.CDLL(str(target))


@cache
def runtime() -> ModuleType:
    """The compiled runtime: launcher, threads and products of tiles. It is built once for a Python."""
    sources = sorted(RUNTIME.glob("*.c"))
    name = "heitu_triton_runtime"
    flags = [
        "-O3",
        "-march=native",
        "-std=gnu11",
        "-fPIC",
        "-shared",
        "-ffp-contract=fast",
        "-w",
        "-pipe",
        "-pthread",
    ]
    include = f"-I{sysconfig.get_paths()['include']}"
    key = hashlib.sha256("\0".join([identity(), *flags, include, sys.version]).encode())
    for source in (*sources, *sorted(RUNTIME.glob("*.h"))):
        key.update(source.read_bytes())
    target = folder() / f"runtime-{key.hexdigest()[:40]}.so"
    with FileLock(folder() / "runtime.lock"):
        if not target.exists():
            made = target.with_suffix(f".{os.getpid()}.part")
            run_compiler([*flags, include, *map(str, sources), "-o", str(made)])
            made.replace(target)
    ctypes.CDLL(str(target), ctypes.RTLD_GLOBAL)  # kernels find its functions
    loader = importlib.machinery.ExtensionFileLoader(name, str(target))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@cache
def share_threads(usual: int) -> None:
    """Has kernels run on the threads on which torch runs its operators, and on as many.

    Args:
        usual: how many threads there are where torch does not say it.
    """
    count = _function_of_torch(r"libtorch_cpu\b", "_ZN2at15get_num_threadsEv")
    parallel = _function_of_torch(r"lib(gomp|iomp5|omp)\b", "GOMP_parallel")
    ctypes.CDLL(str(runtime().__file__)).heitu_use_threads(usual, count, parallel)


def _function_of_torch(library: str, name: str) -> ctypes.c_void_p | None:
    """A function in a library that torch has loaded, if that has it."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text("utf-8").splitlines() if maps.exists() else []
    for file in sorted({line.split(maxsplit=5)[5] for line in lines if ".so" in line}):
        if re.match(library, Path(file).name) and f"{os.sep}torch{os.sep}lib" in file:
            found = getattr(ctypes.CDLL(file), name, None)
            if found is not None:
                return ctypes.cast(found, ctypes.c_void_p)
    return None
