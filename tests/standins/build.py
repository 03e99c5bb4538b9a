"""Compiles the stand-ins' one library, once for each content of its sources."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from filelock import FileLock

from heitu.cache import private_cache
from heitu.device.installed_torch import require_torch
from heitu.device.toolchain import compile_flags, find_compiler, link_flags

SOURCES = Path(__file__).parent / "csrc"


def library() -> Path:
    """The compiled library; it takes some 40 s where it is not in the cache."""
    torch, compiler = require_torch(), find_compiler()
    flags = compile_flags(torch, "_C", "-O1")
    flags.remove("-DAT_PER_OPERATOR_HEADERS")
    key = hashlib.sha256(repr((compiler.identity(), flags, torch.git_version)).encode())
    for source in sorted(SOURCES.iterdir()):
        key.update(source.read_bytes())
    folder = private_cache() / "standins"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{key.hexdigest()[:20]}.so"
    with FileLock(folder / "lock"):
        if not target.exists():
            made = target.with_suffix(".part")
            command = [*compiler.command, *flags, str(SOURCES / "standin.cpp"), "-o", str(made)]
            done = subprocess.run([*command, *link_flags(torch, False)], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"the stand-ins do not compile:\n{done.stderr[:4000]}")
            made.replace(target)
    return target
