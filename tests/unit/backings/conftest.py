"""Machines that are folders: device files, commands, a site-packages and a torch that cannot be imported."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from heitu.backings.detection import Machine
from heitu.device.installed_torch import InstalledTorch
from tests.unit.conftest import write_torch


class FakeMachine:
    """Builds a machine below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root / "root"
        self.site = root / "site"
        self.site.mkdir(parents=True)
        self.environment: dict[str, str] = {}
        self.tools: dict[str, str] = {}

    def torch(self, version: str = "2.13.0+cpu", **fields: str) -> None:
        package = write_torch(self.site, version)
        with (package / "version.py").open("a") as file:
            file.writelines(f"{name} = {value!r}\n" for name, value in fields.items())

    def node(self, path: str, *, mode: int = 0o666) -> Path:
        node = self.root / path.lstrip("/")
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        node.chmod(mode)
        return node

    def file(self, path: str, text: str) -> None:
        self.node(path).write_text(text)

    def install(self, name: str, version: str, files: dict[str, str], entry_points: str = "") -> None:
        """A distribution with these files, as pip would have left it."""
        record = []
        for file, text in files.items():
            path = self.site / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(text)}\n")
        information = self.site / f"{name}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (information / "RECORD").write_text("".join(record))
        if entry_points:
            (information / "entry_points.txt").write_text(entry_points)

    def plugin(self, name: str, version: str = "2.13.0", *, autoloads: bool = False) -> None:
        entry = f"[torch.backends]\n{name} = {name}:_autoload\n" if autoloads else ""
        self.install(name, version, {f"{name}/__init__.py": "raise ImportError('never import me')\n"}, entry)

    def tool(self, name: str, body: str = "exit 0") -> None:
        path = self.root / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        self.tools[name] = str(path)

    def machine(self) -> Machine:
        torch = self.site / "torch"
        return Machine(
            self.root,
            self.environment,
            lambda module: (self.site / module / "__init__.py").is_file(),
            self.tools.get,
            lambda: InstalledTorch(torch) if torch.is_dir() else None,
            (str(self.site),),
        )


@pytest.fixture
def fake(tmp_path: Path) -> FakeMachine:
    """A machine with a CPU build of torch 2.13.0 and nothing else."""
    made = FakeMachine(tmp_path)
    made.torch()
    return made


@pytest.fixture
def as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions hold, also where the tests run as root."""

    def access(path: object, mode: int) -> bool:
        return bool(os.stat(str(path)).st_mode & 0o006)

    monkeypatch.setattr(os, "access", access)
