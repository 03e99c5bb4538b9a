"""What is here and what fits together: the checks behind `heitu doctor`.

Torch is not imported in this process; the last check starts a Python of its own that does.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from heitu.backings import forwarding
from heitu.backings.checks import check_chips, check_pairings, check_triton
from heitu.backings.detection import Machine, torch_build
from heitu.cache import cache_path, check_private
from heitu.device.build import check_platform, is_built
from heitu.device.installed_torch import CPU_INSTALL, OLDEST, TESTED, find_torch
from heitu.device.library import Library
from heitu.device.toolchain import OLDEST_COMPILERS, find_compiler
from heitu.errors import HeituError
from heitu.findings import Finding, Line, Status
from heitu.launch.environment import check_chip, handed_on, where_to_run
from heitu.settings import settings

BUILD_COMMAND = "python -m heitu.device.build"
BUILD_SPACE = 600 * 10**6  # bytes: the precompiled header is most of it
SMOKE_SECONDS = 120
# Packages whose compiled part fits one torch only; their metadata names it.
TIED_TO_TORCH = ("torchvision", "torchaudio", "xformers", "vllm", "torchao")


def examine() -> Iterator[Finding]:
    """Runs every check. A check that breaks is a FAIL itself; nothing is raised."""
    for check in CHECKS:
        name = (check.__doc__ or check.__name__).rstrip(".")
        try:
            for status, found, advice in check():
                yield Finding(name, status, found, advice)
        except HeituError as error:
            yield Finding(name, Status.FAIL, error.message, error.hint or "")
        except Exception as error:
            yield Finding(name, Status.FAIL, f"the check broke: {type(error).__name__}: {error}")


def _python() -> Iterator[Line]:
    """Python."""
    check_platform()
    yield Status.PASS, f"{sys.version.split()[0]} at {sys.executable}", ""
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        status = Status.WARN if _ready() else Status.FAIL
        yield status, "its C headers (Python.h) are missing", "apt install python3-dev (or python3-devel)"


def _torch() -> Iterator[Line]:
    """torch."""
    torch = find_torch()
    if torch is None:
        yield Status.FAIL, f"there is none for {sys.executable}", CPU_INSTALL
        return
    built = torch_build(Machine())
    if built is not None and built.is_present:
        own = f"{torch.version}, built for the chip of {built.backing.maker} that is present"
        yield Status.PASS, f"{own}; its own cuda device is used", ""
        return
    torch.check_usable()
    found = f"{torch.version}, a CPU build, in {torch.root}"
    if torch.version.startswith(f"{TESTED}."):
        yield Status.PASS, found, ""
    else:
        oldest = ".".join(map(str, OLDEST))
        yield (
            Status.WARN,
            f"{found}; {TESTED} is what is tested, {oldest} the oldest that builds",
            CPU_INSTALL,
        )


def _compiler() -> Iterator[Line]:
    """C++ compiler."""
    try:
        compiler = find_compiler()
    except HeituError as error:
        if not _ready():
            raise
        yield Status.WARN, f"{error.message} The core is built, so none is needed now.", error.hint or ""
        return
    command = [*compiler.command, "--version"]
    shown = shlex.join(command)
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
    first = (said.stdout.strip() or said.stderr.strip() or "it says nothing").splitlines()[0]
    if said.returncode:
        yield Status.FAIL, f"`{shown}` ends with code {said.returncode}: {first}", "set CXX"
        return
    family = "clang" if "clang" in first else "gcc"
    version = re.search(r"\b(\d+)\.\d+", re.sub(r"\([^)]*\)", "", first))
    oldest = OLDEST_COMPILERS[family]
    if version and int(version[1]) < oldest:
        yield Status.FAIL, f"{first}: {family} {oldest} is the oldest that will do", "set CXX to a newer one"
    else:
        yield Status.PASS, f"{first} ({compiler.path})", ""


def _cache() -> Iterator[Line]:
    """Cache."""
    path = cache_path()
    if path.exists():
        check_private(path)
    if _uses_own_device():
        yield Status.PASS, f"{path}, private; for this torch nothing has to be built", ""
    elif _ready():
        yield Status.PASS, f"{path}, private; the core is built for this torch", ""
    else:
        yield Status.WARN, f"{path}; the core is not built yet: the first run does it, once", BUILD_COMMAND


def _disk() -> Iterator[Line]:
    """Disk."""
    path = cache_path()
    while not path.exists():
        path = path.parent
    if not os.access(path, os.W_OK):
        yield Status.FAIL, f"{path} cannot be written to", "set HEITU_CACHE_DIR to a directory of your own"
        return
    free = shutil.disk_usage(path).free
    found = f"{free / 10**9:.1f} GB free at {path}"
    if free < BUILD_SPACE and not _ready():
        advice = "free some space, or set HEITU_CACHE_DIR to another disk"
        yield Status.FAIL, f"{found}; a build takes {BUILD_SPACE / 10**9:.1f} GB", advice
    else:
        yield Status.PASS, found, ""


def _settings() -> Iterator[Line]:
    """Settings."""
    settings.check()
    check_chip(settings.chip)
    changed = [f"{row.variable}={row.value}" for row in settings.rows() if row.is_set]
    yield Status.PASS, ", ".join(changed) or "all at their defaults", ""
    if os.environ.get("CUDA_VISIBLE_DEVICES", None) in ("", "-1"):
        yield Status.WARN, "CUDA_VISIBLE_DEVICES hides every device", "unset CUDA_VISIBLE_DEVICES"


def _packages() -> Iterator[Line]:
    """Packages."""
    torch = find_torch()
    if _version("numpy") is None:
        yield Status.WARN, "numpy is missing: tensor.numpy() will raise", "pip install numpy"
    wrong = False
    for name in TIED_TO_TORCH:
        version = _version(name)
        if torch is None or version is None:
            continue
        wanted = _torch_wanted_by(name)
        if wanted and wanted.partition("+")[0] != torch.version.partition("+")[0]:
            wrong = True
            advice = f"pip install --upgrade {name} (the release for torch {torch.version})"
            yield Status.WARN, f"{name} {version} was built for torch {wanted}, not {torch.version}", advice
        elif re.search(r"\+(cu|rocm)", version):
            wrong = True
            advice = f"pip install '{name}=={version.partition('+')[0]}+cpu', from the index of the CPU torch"
            yield Status.WARN, f"{name} {version} was built for a GPU build of torch", advice
    triton = _version("triton")
    if triton is not None:
        yield Status.WARN, f"triton {triton} is here; its kernels do not run on the emulated device", ""
    if not wrong:
        yield Status.PASS, f"numpy {_version('numpy') or 'missing'}; nothing built for another torch", ""


def _device() -> Iterator[Line]:
    """Device."""
    code = "import torch; print(torch.cuda.device_count(), 'x', torch.cuda.get_device_name())"
    backing = where_to_run().backing
    if backing is not None and backing.is_inert:
        yield Status.PASS, f"torch's own cuda device, on the chip of {backing.maker}; not tried", ""
        return
    if not (_ready() if backing is None else _is_built(forwarding.library())):
        what = "the core" if backing is None else "the library over the chip's plugin"
        advice = BUILD_COMMAND if backing is None else f'heitu run -c "{code}"'
        yield Status.WARN, f"not tried, because {what} is not built yet", advice
        return
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **handed_on()}
    if backing is not None:
        environment[type(settings).backing.variable] = backing.name
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SMOKE_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        yield Status.FAIL, f"torch did not answer within {SMOKE_SECONDS} s", f'heitu run -c "{code}"'
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        yield Status.FAIL, f"ended with code {done.returncode}: {last}", f'heitu run -c "{code}"'
    else:
        yield Status.PASS, done.stdout.strip(), ""


def _chips() -> Iterator[Line]:
    """Chips."""
    yield from check_chips(Machine())


def _plugins() -> Iterator[Line]:
    """Plugins."""
    yield from check_pairings(Machine())


def _triton() -> Iterator[Line]:
    """Triton."""
    yield from check_triton(Machine())


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (
    _python,
    _torch,
    _compiler,
    _cache,
    _disk,
    _settings,
    _packages,
    _chips,
    _plugins,
    _triton,
    _device,
)


def _ready() -> bool:
    """Whether the core is built, or none is needed."""
    return _uses_own_device() or _is_built(None)


def _uses_own_device() -> bool:
    """Whether torch is built for a chip that is here, so that its own cuda device is used."""
    built = torch_build(Machine())
    return built is not None and built.is_present


def _is_built(library: Library | None) -> bool:
    """Whether it is; any trouble in finding out counts as no, for its own check to tell."""
    try:
        torch = find_torch()
        return torch is not None and is_built(torch, library)
    except (HeituError, OSError):
        return False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_wanted_by(package: str) -> str | None:
    """The one torch version that `package` asks for, or None where it leaves a choice."""
    for requirement in importlib.metadata.requires(package) or []:
        match = re.match(r"torch\s*\(?==\s*([\w.+]+)\)?\s*(;|$)", requirement)
        if match:
            return match[1]
    return None
