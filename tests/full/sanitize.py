"""Runs tests on a core built with AddressSanitizer and UndefinedBehaviorSanitizer.

`python -m tests.full.sanitize` runs those of the device, bare and under the rules of chips; others may be
named, as for pytest. The process ends at the first error, with the sanitizer's report. Of device memory,
AddressSanitizer knows what is in use (heitu/device/csrc/sanitizer.h), so it also sees kernels of the core
that leave their tensors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from heitu.device.toolchain import find_compiler

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FLAGS = "-fsanitize=address,undefined -fno-omit-frame-pointer -O1 -g1"
# Python and torch are not built with the sanitizers, so theirs have to be there first; libstdc++ with
# them, because they look for its functions (as __cxa_throw) when they are loaded.
LIBRARIES = ("libasan.so", "libubsan.so", "libstdc++.so.6")
OPTIONS = {
    # What lives as long as the process is never freed, by design of Python, torch and the core.
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
# Writes one byte past a tensor.
OVERRUN = "import ctypes, torch; x = torch.zeros(10, device='cuda'); ctypes.memset(x.data_ptr(), 0, 41)"
TESTS = ("tests/device", "tests/full/test_threads.py")
# The same under the rules of a chip, every call recorded; and programs on chips that narrow and refuse.
UNDER_RULES = ("tests/device/test_opinfo.py", "tests/device/test_features.py")
ON_CHIPS = ("tests/rehearsal/test_porting_reports.py",)


def main() -> int:
    """The exit status of pytest, or of the sanitizer."""
    environment = {**os.environ, "CXXFLAGS": FLAGS}
    # Without the libraries: the compiler is no place for them.
    subprocess.run([sys.executable, "-m", "heitu.device.build"], cwd=REPOSITORY, env=environment, check=True)
    environment |= OPTIONS | {"LD_PRELOAD": " ".join(map(library, LIBRARIES))}
    run = [sys.executable, "-m", "heitu", "run"]
    probe = subprocess.run(
        [*run, "-c", OVERRUN], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    if "AddressSanitizer: use-after-poison" not in probe.stderr:
        raise SystemExit(f"The sanitizer does not see a write past the end of a tensor:\n{probe.stderr}")
    runs = [[*run, "-m", "pytest", "-x", *(sys.argv[1:] or TESTS)]]
    if not sys.argv[1:]:
        runs.append([*run, "--chip", "h200", "-m", "pytest", "-x", *UNDER_RULES])
        runs.append([sys.executable, "-m", "pytest", "-x", *ON_CHIPS])
    return max(subprocess.run(one, cwd=REPOSITORY, env=environment).returncode for one in runs)


def library(name: str) -> str:
    """Where the compiler keeps the library of that name."""
    compiler = find_compiler()
    command = [*compiler.command, f"-print-file-name={name}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(found).is_absolute():
        raise SystemExit(f"{compiler.path} has no {name}: install gcc's sanitizers, or set CXX=g++")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
