"""The private directory in which compiled code is kept.

What lies there is loaded into the user's processes, so nobody else may be able to write to it.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from heitu.errors import ExitCode, HeituError
from heitu.settings import settings


def cache_path() -> Path:
    """Where the cache is or would be: HEITU_CACHE_DIR, or the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules: what is not absolute counts as unset.
    return settings.cache_dir or (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "heitu"


def check_private(path: Path) -> None:
    """Raises HeituError unless `path` is a directory that this user owns and nobody else can write to."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise _refused(f"{path} is not a directory.")
    if status.st_uid != os.geteuid():
        raise _refused(f"{path} belongs to user id {status.st_uid}; this process has {os.geteuid()}.")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}).",
            f"Run `chmod go-w {path}` if you trust what is in it, or set HEITU_CACHE_DIR elsewhere.",
        )


def private_cache() -> Path:
    """The cache directory, made with mode 0700 where there was none.

    Raises:
        HeituError: it is not private, or cannot be made.
    """
    path = cache_path()
    try:
        check_private(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror}.") from None
    else:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _refused(f"{path} cannot be made: {error.strerror}.") from None
    check_private(path)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees either all of it or the one before."""
    # Threads of a process may write the same file at the same time, too.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _refused(message: str, hint: str = "Set HEITU_CACHE_DIR to a directory of your own.") -> HeituError:
    message = f"The cache directory is refused: {message}"
    return HeituError(message, hint=hint, exit_code=ExitCode.CACHE_REFUSED)
