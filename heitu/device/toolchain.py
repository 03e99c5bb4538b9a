"""The C++ compiler: which one, with which flags, and what its failures mean."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from heitu.device.installed_torch import InstalledTorch
from heitu.errors import ExitCode, HeituError

CANDIDATES = ("c++", "g++", "clang++")
OLDEST_COMPILERS = {"gcc": 11, "clang": 14}


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler driver and the words that go before its arguments (as in CXX="ccache g++")."""

    command: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The driver itself: the last word that is a program and not an option."""
        programs = [shutil.which(word) for word in self.command if not word.startswith("-")]
        return Path(os.path.realpath([p for p in programs if p][-1]))

    def identity(self) -> list[str | int]:
        """What tells this compiler from another without running it: words, path, size and time."""
        status = self.path.stat()
        return [*self.command, str(self.path), status.st_size, status.st_mtime_ns]


def find_compiler() -> Compiler:
    """CXX if it is set, else the first of c++, g++, clang++. Raises HeituError where there is none."""
    wanted = os.environ.get("CXX", "").strip()
    if wanted:
        command = tuple(shlex.split(wanted))
        if shutil.which(command[0]) is None:
            raise HeituError(
                f"CXX={wanted!r}: there is no such compiler.",
                hint="Set CXX to a C++ compiler (gcc 11 or newer, clang 14 or newer), or unset it.",
                exit_code=ExitCode.COMPILER_MISSING,
            )
        return Compiler(command)
    for name in CANDIDATES:
        if shutil.which(name):
            return Compiler((name,))
    raise HeituError(
        f"There is no C++ compiler: none of {', '.join(CANDIDATES)} is on PATH.",
        hint="Install one (`apt install g++`, `dnf install gcc-c++`, `conda install gxx`), or set CXX.",
        exit_code=ExitCode.COMPILER_MISSING,
    )


def compile_flags(torch: InstalledTorch, module: str, optimization: str) -> list[str]:
    """The flags of a translation unit; include directories of ours come on top."""
    flags = ["-std=c++20", optimization, "-fPIC", "-fvisibility=hidden", "-Wall", "-pipe"]
    flags.append("-DAT_PER_OPERATOR_HEADERS")  # as torch itself is built: operators from ATen/ops only
    flags += [f"-DTORCH_EXTENSION_NAME={module}", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.cxx11_abi)}"]
    if torch.pybind_build_abi:
        flags.append(f'-DPYBIND11_BUILD_ABI="{torch.pybind_build_abi}"')
    for directory in [*torch.include_dirs, Path(sysconfig.get_paths()["include"])]:
        flags += ["-isystem", str(directory)]
    return flags + own_flags()


def own_flags() -> list[str]:
    """The user's CXXFLAGS, for compiling and linking alike, as a sanitizer wants them."""
    return shlex.split(os.environ.get("CXXFLAGS", ""))


def link_flags(torch: InstalledTorch, portable: bool) -> list[str]:
    """The flags of the link.

    Args:
        portable: for a wheel: torch is looked for beside the package, not where it is on this machine.
    """
    flags = ["-shared", f"-L{torch.library_dir}", "-ltorch_cpu", "-ltorch", "-lc10", "-ltorch_python"]
    flags.append("-Wl,-rpath,$ORIGIN/../../../torch/lib" if portable else f"-Wl,-rpath,{torch.library_dir}")
    return flags + own_flags()


class ToolError(Exception):
    """A compiler or linker process that did not do its work."""

    def __init__(self, what: str, returncode: int, output: str) -> None:
        super().__init__(what)
        self.what = what
        self.returncode = returncode
        self.output = output  # the command line, then what the tool said

    def explain(self, library: str, log: Path) -> HeituError:
        """The sentence for the user about `library` ("the core"); the whole output lies in `log`."""
        if "No space left on device" in self.output:
            return disk_full(f"while building {self.what}")
        if self.returncode < 0 or re.search(r"Killed|signal terminated program", self.output):
            return HeituError(
                f"The compiler was killed while building {self.what}, most likely for want of memory.",
                hint=f"Set HEITU_BUILD_JOBS=1 and try again; what was built is kept. The log: {log}",
                exit_code=ExitCode.COMPILE_FAILED,
            )
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines[1:] if re.search(r"\berror\b|undefined reference", line)]
        said = (errors or lines[1:] or [f"it ended with code {self.returncode} and said nothing"])[0]
        return HeituError(
            f"{library[:1].upper()}{library[1:]} does not compile ({self.what}): {said}",
            hint=f"The whole log: {log}. It takes gcc 11, clang 14 or newer; CXX chooses a compiler.",
            exit_code=ExitCode.COMPILE_FAILED,
        )


def disk_full(where: str) -> HeituError:
    """The error for a disk with no space left."""
    return HeituError(
        f"No space is left on the disk {where}.",
        hint="Free about 500 MB, or set HEITU_CACHE_DIR (and TMPDIR) to a directory on another disk.",
        exit_code=ExitCode.DISK_FULL,
    )


def run_tool(what: str, command: list[str], running: set[subprocess.Popen[str]]) -> str:
    """Runs one compiler process; returns what it said.

    Args:
        what: the name of its product, for messages.
        running: where the process is listed while it runs, so that it can be ended from outside.

    Raises:
        ToolError: it ended with another code than 0.
    """
    # English messages, because the cause of a failure is read out of them.
    environment = {**os.environ, "LC_ALL": "C"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    running.add(process)
    try:
        output, _ = process.communicate()
    finally:
        running.discard(process)
    if process.returncode:
        raise ToolError(what, process.returncode, f"$ {shlex.join(command)}\n{output}")
    return output
