"""Installed distributions, read from their metadata; nothing is imported."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from heitu.backings.detection import Machine


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def distribution(machine: Machine, name: str) -> Distribution | None:
    """The distribution of that name, however it is spelled; None where it is not installed."""
    for found in distributions(path=list(machine.path)):
        if _plain(found.metadata["Name"] or "") == _plain(name):
            return found
    return None


def owners(machine: Machine, package: str) -> list[Distribution]:
    """The distributions that put files into the top-level package of that name."""
    mark = f"{package}/__init__.py"
    return [
        found
        for found in distributions(path=list(machine.path))
        if any(str(file) == mark for file in found.files or ())
    ]


def writer(machine: Machine, file: str, candidates: list[Distribution]) -> Distribution | None:
    """Which of them wrote a file as it is now, by the hash that each has recorded of it; None: neither."""
    for candidate in candidates:
        for recorded in candidate.files or ():
            if str(recorded) != file or recorded.hash is None:
                continue
            digest = hashlib.new(recorded.hash.mode, Path(recorded.locate()).read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.hash.value.rstrip("="):
                return candidate
    return None
