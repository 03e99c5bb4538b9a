"""Errors that a user can act on, and the exit code each of them ends a command with."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a `heitu` command ends when it is Heitu, not the user's program, that failed.

    A program that was started ends with its own code; these are only for what happens before it starts, but
    for the last.
    0, 1 and 2 have their usual meanings; the others leave alone the shell's 126 to 165.
    """

    OK = 0
    FAILED = 1  # a check said FAIL (`heitu doctor`), or an error of ours that has no line below
    USAGE = 2  # wrong command line, or a script that does not exist (as Python itself ends)
    PLATFORM = 70  # not Linux, or a Python outside 3.10 to 3.13
    TORCH_MISSING = 71  # no torch beside this Python
    TORCH_UNSUITABLE = 72  # a CUDA, ROCm or XPU build of torch, or one that is too old
    COMPILER_MISSING = 73  # no C++ compiler to build the core with
    COMPILE_FAILED = 74  # the compiler or the linker refused the core, or was killed
    CACHE_REFUSED = 75  # the cache directory is not private, not ours or not writable
    DISK_FULL = 76  # no space left while building
    SETTING = 77  # an unknown HEITU_* variable, or a value out of its range
    TORCH_IMPORTED = 78  # heitu.enable() came after `import torch`
    CORE_UNUSABLE = 79  # the library built without error but does not load
    UNKNOWN_CHIP = 80  # a chip that is not in the catalogue, or that cannot be rehearsed yet
    CHIP_FILE = 81  # a chip file is missing or wrong
    RECORD = 82  # a directory without the record of a rehearsal, or with one of another version
    REPORT = 83  # a file that is not a report, or one of another version
    REPORT_PATH = 84  # a report cannot be written where it was asked for
    PLUGIN_UNUSABLE = 85  # the vendor's plugin is missing or cannot be imported
    CHIPS_PRESENT = 86  # several makers' chips are present, and none was chosen
    CHIP_CLOSED = 87  # a chip is present and its device files may not be opened
    DEVICES = 88  # two variables choose different devices, or name one that the chip cannot
    EMULATOR_MISSING = 89  # --plugin for a chip whose software there is no emulator of
    KERNEL_DEFECTS = 90  # --check-kernels found defects in a program that itself ended with 0


class HeituError(RuntimeError):
    """Something a user can put right.

    Args:
        message: what is wrong and where, with the number and its limit; one sentence.
        hint: what to try next; one sentence, or None where the message says it.
        exit_code: how a command that ends with this error exits.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, exit_code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
