"""Puts the emulator into a process, in the place of CANN's own libraries.

What is emulated is read from the environment when a program first asks for it:

- HEITU_CANN_SOC: the name of the chip as the runtime gives it (Ascend910B1)
- HEITU_CANN_DEVICES: how many there are (1; under a launcher, as many as it starts processes here)
- HEITU_CANN_MEMORY: bytes of memory of each (64 GiB)
- HEITU_CANN_VERSION: of the toolkit (9.0.0)
- HEITU_CANN_DELAY: by how many microseconds a stream's tasks are late at most, at random (0)
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from heitu.device.build import library_file
from heitu.device.library import Library
from heitu.device.toolchain import find_compiler
from heitu.emulators.cann import tables
from heitu.errors import ExitCode, HeituError
from heitu.settings import settings

# The names under which torch_npu is linked with CANN or opens it while it runs.
SONAMES = (
    "libascendcl.so",
    "libacl_op_compiler.so",
    "libge_runner.so",
    "libgraph.so",
    "libacl_tdt_channel.so",
    "libnnopbase.so",
    "libopapi.so",
    "libhccl.so",
    "libhcomm.so",
)
SOURCES = Path(__file__).resolve().parent / "csrc"


def library() -> Library:
    """The description of the emulator's library."""
    return Library(
        name="the CANN emulator",
        title="the CANN emulator",
        module="heitu_cann",
        source_dirs=(SOURCES,),
        directory="cann",
        generate=tables.generate,
        generated_from=(*tables.tables(), tables.KNOWN),
    )


def activate() -> None:
    """Makes the coming `import torch_npu` find the emulator where it looks for CANN. Safe to call twice.

    Raises:
        HeituError: the emulator cannot be built or loaded.
    """
    _loaded()


def calls() -> dict[str, int]:
    """How often each operator was called since the start or `reset_calls`."""
    function = _loaded().heitu_cann_calls_json
    function.restype = ctypes.c_char_p
    found: dict[str, int] = json.loads(function())
    return found


def reset_calls() -> None:
    """Begins counting anew."""
    _loaded().heitu_cann_reset_calls()


def falsify(operator: str, factor: float) -> None:
    """Multiplies the results of `operator` from now on; 1 ends it. For tests that show what they notice."""
    function = _loaded().heitu_cann_falsify
    function.argtypes = [ctypes.c_char_p, ctypes.c_double]
    function(operator.encode(), factor)


@cache
def _loaded() -> ctypes.CDLL:
    built = library_file(library())
    home = _installation(built)
    # Global, because torch_npu's libraries find these by the names that they are linked with.
    emulator = _load(built)
    for soname in SONAMES:
        _load(home / "lib64" / soname)
    os.environ["ASCEND_HOME_PATH"] = str(home)
    os.environ["ASCEND_OPP_PATH"] = str(home / "opp")
    if settings.cann_calls is not None:
        atexit.register(_leave_calls, settings.cann_calls)
    return emulator


def _leave_calls(directory: Path) -> None:
    (directory / f"{os.getpid()}.json").write_text(json.dumps(calls()))


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
    except OSError as error:
        raise HeituError(
            f"The CANN emulator does not load: {error}.",
            hint=f"Remove {path.parent}, so that it is built anew, and run `heitu doctor`.",
            exit_code=ExitCode.CORE_UNUSABLE,
        ) from None


def _installation(built: Path) -> Path:
    """A directory that looks like CANN's: empty libraries with its names, which need the emulator."""
    home = built.with_name(f"{built.stem}-home")
    if home.is_dir():
        return home
    with tempfile.TemporaryDirectory(dir=built.parent) as place:
        made = Path(place) / "home"
        for folder in ("lib64", "runtime", "compiler", "opp"):  # torch_npu looks whether these are there
            (made / folder).mkdir(mode=0o700, parents=True)
        source = Path(place) / "empty.cpp"
        source.write_text("")
        for soname in SONAMES:
            command = [*find_compiler().command, "-shared", "-fPIC", str(source)]
            command += ["-o", str(made / "lib64" / soname), f"-Wl,-soname,{soname}"]
            command += ["-Wl,--no-as-needed", str(built), f"-Wl,-rpath,{built.parent}"]
            subprocess.run(command, check=True)
        try:
            made.rename(home)
        except OSError:
            if not home.is_dir():  # another process was faster
                raise
    return home
