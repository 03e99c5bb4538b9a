"""`heitu run` and the chained sitecustomize. The core is not needed: its build is stubbed in the launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from heitu.launch.environment import BOOTSTRAP
from tests.unit.conftest import python, write_torch

LAUNCHER = """
import sys
import heitu.device.build
heitu.device.build.core_library = lambda: print("BUILD", file=sys.stderr)
from heitu.cli import invoke
from heitu.cli.run import main
invoke(main, sys.argv[1:])
"""

REPORT = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "name": __name__, "path": sys.path, "executable": sys.executable,
    "PYTHONPATH": os.environ.get("PYTHONPATH"), "enable": os.environ.get("HEITU_ENABLE"),
    "devices": os.environ.get("HEITU_DEVICES"), "memory": os.environ.get("HEITU_MEMORY"),
    "modules": sorted(m for m in sys.modules if m.startswith("heitu")), "flags": list(sys.flags),
}))
"""


def heitu_run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return python("-c", LAUNCHER, *args, **options)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a script that reports on itself."""
    (tmp_path / "report.py").write_text(REPORT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> str:
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_a_script_sees_what_it_would_see_alone(room: Path) -> None:
    args = ["report.py", "--lr", "1e-3", "--help", "--", "-m", "x"]
    alone, under = (json.loads(done.stdout) for done in (python(*args), heitu_run(*args)))
    for key in ("argv", "name", "path", "executable", "flags"):
        assert under[key] == alone[key]
    assert under["enable"] == "1"
    assert under["PYTHONPATH"] == str(BOOTSTRAP)
    assert "heitu.device.activation" not in under["modules"]


@pytest.mark.parametrize("args", [["-m", "report", "-x"], ["-c", REPORT, "-x", "--devices"]])
def test_a_module_and_a_code_string(room: Path, args: list[str]) -> None:
    alone, under = (json.loads(done.stdout) for done in (python(*args), heitu_run(*args)))
    for key in ("argv", "name", "path"):
        assert under[key] == alone[key]


def test_a_command_is_taken_from_beside_this_python(room: Path) -> None:
    done = heitu_run(
        "--", Path(sys.executable).name, "-X", "utf8", "report.py", "a", env={**os.environ, "PATH": ""}
    )
    report = json.loads(done.stdout)
    assert report["argv"] == ["report.py", "a"]
    assert report["executable"] == sys.executable
    assert report["enable"] == "1"


def test_options_become_settings(room: Path) -> None:
    done = heitu_run("--devices", "4", "--memory=80GiB", "report.py", "--devices", "9")
    report = json.loads(done.stdout)
    assert (report["devices"], report["memory"]) == ("4", str(80 << 30))
    assert report["argv"] == ["report.py", "--devices", "9"]


def test_the_users_python_path_keeps_its_order(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/one", "/two"]))
    report = json.loads(heitu_run("report.py").stdout)
    assert report["PYTHONPATH"].split(os.pathsep) == [str(BOOTSTRAP), "/one", "/two"]
    assert report["path"][:3] == [str(room), "/one", "/two"]
    # A run inside a run does not pile it up.
    nested = heitu_run("--", sys.executable, "-c", LAUNCHER, "report.py")
    assert json.loads(nested.stdout)["PYTHONPATH"] == report["PYTHONPATH"]


def test_the_core_is_built_before_the_program_and_only_if_there_is_one(room: Path) -> None:
    assert heitu_run("report.py").stderr == "BUILD\n"
    assert heitu_run("absent.py").stderr.count("BUILD") == 0


def test_a_script_that_does_not_exist(room: Path) -> None:
    alone, under = python("absent.py"), heitu_run("absent.py")
    assert under.stderr == alone.stderr
    assert "can't open file" in under.stderr
    assert under.returncode == alone.returncode == 2


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_exit_codes(room: Path, code: int) -> None:
    assert heitu_run("-c", f"raise SystemExit({code})").returncode == code


def test_a_traceback_is_the_programs_own(room: Path) -> None:
    script = write(room / "fails.py", "def f():\n    raise ValueError('mine')\nf()\n")
    alone, under = python(script), heitu_run(script)
    assert under.stderr.replace("BUILD\n", "") == alone.stderr
    assert under.returncode == 1


def test_stdin(room: Path) -> None:
    assert heitu_run("-c", "import sys; print(sys.stdin.read()[::-1])", input="abc").stdout == "cba\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_program(room: Path, number: signal.Signals) -> None:
    code = "import signal, time; signal.signal(2, signal.SIG_DFL); print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", LAUNCHER, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == -number


def test_a_command_does_not_inherit_pythons_ignored_signals(room: Path) -> None:
    done = heitu_run("--", "sh", "-c", "grep SigIgn /proc/$$/status")
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)
    assert not ignored & 1 << (signal.SIGXFSZ - 1)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "what is to run is missing"),
        (["--"], 2, "what is to run is missing"),
        (["--devices", "0", "report.py"], 2, "from 1 to 64"),
        (["--memory", "0", "report.py"], 2, "0 bytes is outside the limits of 1 MiB"),
        (["--bogus", "report.py"], 2, "unrecognized arguments: --bogus"),
        (["-u", "report.py"], 2, "heitu run -- python -u"),
        (["--", "no-such-command"], 2, "There is no command 'no-such-command'"),
        (["--chip", "some-chip", "report.py"], 80, "'some-chip' is not in the catalogue"),
    ],
)
def test_wrong_command_lines(room: Path, args: list[str], code: int, said: str) -> None:
    done = heitu_run(*args)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("HEITU_DEVISES", "2", 77), ("HEITU_MEMORY", "none", 77), ("HEITU_CHIP", "some-chip", 80)],
)
def test_wrong_settings(
    room: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, code: int
) -> None:
    monkeypatch.setenv(variable, value)
    done = heitu_run("report.py")
    assert done.returncode == code
    assert done.stdout == ""


def test_help_says_how(room: Path) -> None:
    done = heitu_run("--help")
    assert done.returncode == 0
    assert "-- torchrun" in done.stdout


# The device of these tests: a torch that is one line, and an activation that says it was there. They are
# put in place by a sitecustomize of the user's, which also shows that it is still run.
USERS_SITECUSTOMIZE = """
    import sys, types
    sys.users_sitecustomize = __file__
    activation = types.ModuleType("heitu.device.activation")
    activation.install = lambda companion: sys.stdout.write("installed ")
    sys.modules["heitu.device.activation"] = activation
"""


@pytest.fixture
def fakes(room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = room / "fakes"
    directory.mkdir()
    write(directory / "sitecustomize.py", USERS_SITECUSTOMIZE)
    write(directory / "torch.py", "name = 'fake'\n")
    monkeypatch.setenv("PYTHONPATH", str(directory))
    return directory


def test_the_users_sitecustomize_runs_and_takes_its_place(fakes: Path) -> None:
    code = "import sys, sitecustomize; print(sys.users_sitecustomize, sitecustomize.__file__)"
    expected = str(fakes / "sitecustomize.py")
    assert heitu_run("-c", code).stdout.split() == [expected, expected]


def test_an_error_in_the_users_sitecustomize_is_reported_as_ever(fakes: Path) -> None:
    write(fakes / "sitecustomize.py", "import a_module_that_is_missing")
    alone, under = python("-c", "pass"), heitu_run("-c", "print('on')")
    assert alone.stderr
    assert under.stderr.replace("BUILD\n", "").endswith(alone.stderr)
    assert under.stdout == "on\n"


def test_importing_torch_activates(fakes: Path) -> None:
    assert heitu_run("-c", "print('before', end=' '); import torch; print(torch.name)").stdout == (
        "before installed fake\n"
    )


CHILD = "import torch; print(torch.name)"
BY_MULTIPROCESSING = """
    import multiprocessing
    def work():
        import torch
        print(torch.name, flush=True)
    if __name__ == "__main__":
        process = multiprocessing.get_context("METHOD").Process(target=work)
        process.start()
        process.join()
"""


@pytest.mark.parametrize(
    "parent",
    [
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])",
        f"import os, sys; os.system(sys.executable + ' -c \"{CHILD}\"')",
        *(BY_MULTIPROCESSING.replace("METHOD", method) for method in ("spawn", "fork", "forkserver")),
    ],
    ids=["subprocess", "system", "spawn", "fork", "forkserver"],
)
def test_children_inherit(fakes: Path, parent: str) -> None:
    script = write(fakes.parent / "parent.py", parent)
    assert heitu_run(script).stdout == "installed fake\n"


def test_isolated_children_do_not(fakes: Path) -> None:
    shown = "import sys; print('HEITU', sys.meta_path)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '{{}}', '-c', {shown!r}])"
    assert "TorchWatch" in heitu_run("-c", code.format("-B")).stdout
    assert "TorchWatch" not in heitu_run("-c", code.format("-E")).stdout


def test_a_program_that_did_not_ask_is_untouched(fakes: Path) -> None:
    code = (
        "import sys, torch; print([m for m in sys.modules if m == 'heitu' or m.startswith('heitu.launch')])"
    )
    assert python("-c", code).stdout == "[]\n"
    # Even with the directory on its path, without the mark nothing happens but the chain.
    path = os.pathsep.join([str(BOOTSTRAP), str(fakes)])
    for mark in ({}, {"HEITU_ENABLE": "0"}):
        done = python("-c", code, env={**os.environ, "PYTHONPATH": path, **mark})
        assert done.stdout == "[]\n", done.stderr


def test_a_python_without_heitu_is_left_alone(fakes: Path) -> None:
    path = os.pathsep.join([str(BOOTSTRAP), str(fakes)])
    environment = {**os.environ, "PYTHONPATH": path, "HEITU_ENABLE": "1"}
    # -S leaves out the site-packages, in which heitu is.
    code = "import sitecustomize, torch; print(torch.name)"
    done = python("-S", "-c", code, env=environment, cwd="/")
    assert (done.stdout, done.stderr) == ("fake\n", "")


def test_enable_refuses_after_torch(fakes: Path) -> None:
    done = python("-c", "import torch, heitu; heitu.enable()")
    assert "torch is already imported" in done.stderr
    assert "restart" in done.stderr.lower()


def test_enable_activates_and_hands_on(fakes: Path) -> None:
    code = """
        import os, subprocess, sys
        import heitu.device.build
        heitu.device.build.core_library = lambda: None
        import heitu
        heitu.enable(devices=3)
        print(os.environ["HEITU_DEVICES"], flush=True)
        subprocess.run([sys.executable, "-c", "import torch; print(torch.name)"])
    """
    assert python("-c", textwrap.dedent(code)).stdout == "installed 3\ninstalled fake\n"


def test_importing_heitu_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import heitu; print(sorted(set(sys.modules) - before))"
    assert python("-c", code).stdout == "['__future__', 'heitu']\n"


def test_a_makers_build_of_torch_is_left_alone(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_torch(room / "site", "2.10.0+metax3.8.1.0", cuda="11.6")
    (room / "site" / "torch" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(room / "site"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    done = heitu_run("report.py")
    report = json.loads(done.stdout)
    assert report["enable"] is None
    assert report["PYTHONPATH"] == str(room / "site")
    assert "BUILD" not in done.stderr
    assert "no /dev/mxcd here" in done.stderr
