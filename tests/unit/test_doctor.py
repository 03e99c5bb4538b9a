"""`heitu doctor`: each FAIL and WARN can be seen, and nothing it meets makes it raise."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from heitu import doctor
from heitu.backings.detection import Machine
from heitu.cli import doctor as command
from heitu.device import build
from heitu.device.installed_torch import InstalledTorch
from heitu.findings import Finding, Status
from tests.unit.conftest import FakeCompiler, python, write_torch

Examine = Callable[[str], list[Finding]]


@pytest.fixture
def healthy(
    sources: Path, torch_package: Path, compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A machine on which all is well and the core is built; the trial of the device is stubbed."""
    monkeypatch.setattr(doctor, "find_torch", lambda: InstalledTorch(torch_package))
    headers = torch_package.parent / "headers"
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(headers)})
    build.core_library()
    real = subprocess.run

    def run(words: list[str], **options: object) -> object:
        if words[0] == sys.executable:
            return SimpleNamespace(returncode=0, stdout="1 x an emulated device\n", stderr="")
        return real(words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    return torch_package


def found(check: str) -> list[tuple[Status, str]]:
    return [(finding.status, finding.found) for finding in doctor.examine() if finding.check == check]


def only(check: str) -> tuple[Status, str]:
    (finding,) = found(check)
    return finding


@pytest.mark.usefixtures("healthy")
def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert {finding.status for finding in doctor.examine()} == {Status.PASS}
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert "an emulated device" in printed
    assert printed.endswith("0 WARN, 0 FAIL\n")


def test_an_old_python(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert only("Python") == (Status.FAIL, "Heitu runs on Python 3.10 to 3.13; this is 3.9.")


def test_another_system(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert only("Python") == (Status.FAIL, "Heitu runs on Linux; this is darwin.")


def test_missing_headers(healthy: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert found("Python")[1][0] is Status.WARN
    shutil.rmtree(clean_environment)
    assert found("Python")[1] == (Status.FAIL, "its C headers (Python.h) are missing")


def test_no_torch(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_torch", lambda: None)
    status, said = only("torch")
    assert status is Status.FAIL
    assert "there is none for" in said


@pytest.mark.parametrize(
    ("version", "builds", "status", "said"),
    [
        ("2.13.0", {"cuda": "12.8"}, Status.FAIL, "is a CUDA 12.8 build"),
        ("2.5.1+cpu", {}, Status.FAIL, "too old"),
        ("2.9.0+cpu", {}, Status.WARN, "2.13 is what is tested"),
        ("2.13.1+cpu", {}, Status.PASS, "a CPU build"),
    ],
)
def test_torch_builds(healthy: Path, version: str, builds: dict[str, str], status: Status, said: str) -> None:
    write_torch(healthy.parent, version, **builds)
    assert only("torch")[0] is status
    assert said in only("torch")[1]


def test_no_compiler(healthy: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert only("C++ compiler")[0] is Status.FAIL  # another CXX is another library, and that is not built
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "/nowhere")
    assert only("C++ compiler")[0] is Status.FAIL
    monkeypatch.setattr(doctor, "_ready", lambda: True)
    assert only("C++ compiler")[0] is Status.WARN


@pytest.mark.parametrize(
    ("first_line", "status"),
    [
        ("g++ (Debian 12.2.0-14) 12.2.0", Status.PASS),
        ("g++ (GCC 12) 10.2.1", Status.FAIL),
        ("Ubuntu clang version 14.0.0-1", Status.PASS),
        ("Debian clang version 13.0.1", Status.FAIL),
    ],
)
def test_compiler_versions(healthy: Path, compiler: FakeCompiler, first_line: str, status: Status) -> None:
    text = Path(os.environ["CXX"]).read_text()
    Path(os.environ["CXX"]).write_text(text.replace("fake g++ 13.2.0", first_line))
    assert only("C++ compiler")[0] is status


def test_a_broken_compiler(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/bin/sh -c 'exit 3'")
    assert only("C++ compiler") == (
        Status.FAIL,
        "`/bin/sh -c 'exit 3' --version` ends with code 3: it says nothing",
    )


def test_a_cache_open_to_others(healthy: Path, clean_environment: Path) -> None:
    clean_environment.chmod(0o777)
    status, said = only("Cache")
    assert status is Status.FAIL
    assert "can be written by others (mode 0777)" in said
    assert only("Device")[0] is Status.WARN


def test_a_core_that_is_not_built(healthy: Path, sources: Path) -> None:
    (sources / "a.cpp").write_text("int a() { return 9; }\n")
    assert only("Cache")[0] is Status.WARN
    assert only("Device") == (Status.WARN, "not tried, because the core is not built yet")


def test_a_full_disk(healthy: Path, monkeypatch: pytest.MonkeyPatch, sources: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    assert only("Disk")[0] is Status.PASS  # nothing has to be built
    (sources / "a.cpp").write_text("int a() { return 9; }\n")
    status, said = only("Disk")
    assert status is Status.FAIL
    assert "0.1 GB free" in said


def test_a_disk_that_cannot_be_written(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert only("Disk")[0] is Status.FAIL


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HEITU_MEMORY", "0", "outside the limits"),
        ("HEITU_DEVICSE", "2", "is not a setting of Heitu"),
        ("HEITU_CHIP", "some-chip", "is not in the catalogue"),
    ],
)
def test_wrong_settings(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    status, text = only("Settings")
    assert status is Status.FAIL
    assert said in text


def test_hidden_devices(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert found("Settings")[1] == (Status.WARN, "CUDA_VISIBLE_DEVICES hides every device")


@pytest.mark.parametrize(
    ("versions", "requires", "said"),
    [
        (
            {"torchvision": "0.20.0", "numpy": "2.0"},
            ["numpy", "torch==2.5.0"],
            "built for torch 2.5.0, not 2.13",
        ),
        ({"torchvision": "0.28.0+cu128", "numpy": "2.0"}, ["torch==2.13.0"], "built for a GPU build"),
        ({"triton": "3.4.0", "numpy": "2.0"}, [], "triton 3.4.0 is here"),
        ({}, [], "numpy is missing"),
    ],
)
def test_packages_that_do_not_fit(
    healthy: Path,
    monkeypatch: pytest.MonkeyPatch,
    versions: dict[str, str],
    requires: list[str],
    said: str,
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    status, text = found("Packages")[0]
    assert status is Status.WARN
    assert said in text


def test_a_device_that_fails(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nRuntimeError: no such device\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: failed)
    assert only("Device") == (Status.FAIL, "ended with code 1: RuntimeError: no such device")


def test_a_device_that_hangs(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(words, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert only("Device") == (Status.FAIL, f"torch did not answer within {doctor.SMOKE_SECONDS} s")


def test_a_check_that_breaks_is_a_fail(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> object:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "check_private", broken)
    assert only("Cache")[0] is Status.FAIL
    assert command.main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert {"check", "status", "found", "next"} == set(report["findings"][0])


def test_a_doctor_that_breaks_says_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> object:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "examine", broken)
    assert command.main([]) == 1
    assert capsys.readouterr().err == "heitu: doctor cannot go on: RuntimeError: boom\n"


def test_settings_are_printed_even_when_one_is_wrong() -> None:
    environment = {**os.environ, "HEITU_DEVICES": "many"}
    done = python("-m", "heitu.cli.doctor", "--settings", env=environment)
    assert done.returncode == 77
    assert "HEITU_MEMORY" in done.stdout
    assert "HEITU_DEVICES='many' is not usable" in done.stderr


def test_it_does_not_import_torch() -> None:
    code = (
        "import sys; from heitu import doctor; doctor.CHECKS = doctor.CHECKS[:-1];"
        "list(doctor.examine()); sys.exit('torch' in sys.modules)"
    )
    assert python("-c", code).returncode == 0


def test_a_makers_build_of_torch(healthy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node = tmp_path / "dev" / "mxcd"
    node.parent.mkdir()
    node.touch()
    write_torch(healthy.parent, "2.10.0+metax3.8.1.0", cuda="11.6")

    def machine() -> Machine:
        return Machine(tmp_path, {}, lambda _: False, lambda _: None, lambda: InstalledTorch(healthy), ())

    monkeypatch.setattr(doctor, "Machine", machine)
    monkeypatch.setattr("heitu.backings.detection.Machine", machine)
    assert only("torch")[0] is Status.PASS
    assert "MetaX" in only("torch")[1]
    assert only("Device") == (Status.PASS, "torch's own cuda device, on the chip of MetaX; not tried")
    assert not [finding for finding in doctor.examine() if finding.status is Status.FAIL]
