"""The private directory in which compiled code is kept.

What lies there is loaded into the user's processes, so nobody else may be able to write to it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from heitu.errors import ExitCode, HeituError
from heitu.settings import settings


def cache_path() -> Path:
    """Where the cache is or would be: HEITU_CACHE_DIR, or the user's cache directory."""
    chosen = settings.cache_dir
    if chosen is not None:
        return chosen
    import platformdirs

    return platformdirs.user_cache_path("heitu", appauthor=False)


def check_private(path: Path) -> None:
    """Raises HeituError unless `path` is a directory that this user owns and nobody else can write to."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise _refused(f"{path} is not a directory.")
    if status.st_uid != os.geteuid():
        raise _refused(f"{path} belongs to user id {status.st_uid}, and this process is user id {os.geteuid()}.")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}).",
            f"Run `chmod go-w {path}` if you trust what is in it, or set HEITU_CACHE_DIR to another directory.",
        )


def private_cache() -> Path:
    """The cache directory, made with mode 0700 where there was none. Raises HeituError if it is not private."""
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


def _refused(message: str, hint: str = "Set HEITU_CACHE_DIR to a directory of your own.") -> HeituError:
    return HeituError(f"The cache directory is refused: {message}", hint=hint, exit_code=ExitCode.CACHE_REFUSED)
