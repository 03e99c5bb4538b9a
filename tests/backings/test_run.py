"""`heitu run` with a plugin installed: children, visible devices, the other ways, and what goes wrong."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from heitu.backings.catalogue import backings
from heitu.errors import ExitCode
from tests.backings.conftest import start
from tests.standins.packages import vendor, write_package
from tests.standins.vendors import Vendor

CAMBRICON = {"HEITU_BACKING": "cambricon"}
RUN = ("-m", "heitu", "run")
REPORT = """
import builtins, json, os, sys
import torch
print(json.dumps({
    "count": torch.cuda.device_count(),
    "name": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "plugins": [name for name in sys.modules if name in ("torch_mlu", "torch_npu", "torch_musa")],
    "visible": {name: value for name, value in os.environ.items() if name.endswith("_VISIBLE_DEVICES")},
    "shim": getattr(builtins, "vendor_shim", None),
    "type": torch.ones(1).cuda().device.type if torch.cuda.is_available() else None,
}))
"""


@pytest.fixture
def mlu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in for torch_mlu, which `import torch` would load by itself."""
    return write_package(tmp_path_factory.mktemp("mlu"), vendor("mlu"), autoload=True)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that says what it sees."""
    path = tmp_path / "program.py"
    path.write_text(REPORT)
    return path


def said(*words: str | Path, sites: tuple[Path, ...], **environment: str) -> dict[str, object]:
    done = start([*RUN, *map(str, words)], *sites, **environment)
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_a_program_and_what_it_starts_have_the_plugins_devices(mlu: Path, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import subprocess, sys, torch\n"
        "from multiprocessing import get_context\n"
        "def double(x): return (torch.tensor(x, device='cuda') * 2).item()\n"
        "if __name__ == '__main__':\n"
        "    assert torch.cuda.get_device_name() == 'stand-in for torch_mlu'\n"
        "    with get_context('spawn').Pool(1) as pool:\n"
        "        assert pool.map(double, [1, 2]) == [2, 4]\n"
        "    code = 'import torch; print(torch.ones(2).cuda().sum().item())'\n"
        "    assert subprocess.check_output([sys.executable, '-c', code]) == b'2.0\\n'\n"
        "    print('done')\n"
    )
    assert start([*RUN, str(path)], mlu, **CAMBRICON).stdout == "done\n"


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "MLU_VISIBLE_DEVICES"])
def test_visible_devices(mlu: Path, program: Path, variable: str) -> None:
    report = said(program, sites=(mlu,), **CAMBRICON, **{variable: "1"})
    assert report["count"] == 1
    visible = report["visible"]
    assert isinstance(visible, dict)
    assert visible["CUDA_VISIBLE_DEVICES"] == visible["MLU_VISIBLE_DEVICES"] == "1"


def test_a_child_with_fewer_devices(mlu: Path, program: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import os, subprocess, sys\n"
        "os.environ['CUDA_VISIBLE_DEVICES'] = '1'\n"
        f"sys.exit(subprocess.call([sys.executable, {str(program)!r}]))\n"
    )
    report = said(parent, sites=(mlu,), **CAMBRICON, CUDA_VISIBLE_DEVICES="0,1")
    assert report["count"] == 1


def test_contradicting_variables(mlu: Path, program: Path) -> None:
    both = {"CUDA_VISIBLE_DEVICES": "0", "MLU_VISIBLE_DEVICES": "1"}
    done = start([*RUN, str(program)], mlu, ends=ExitCode.DEVICES, **CAMBRICON, **both)
    assert "choose different devices" in done.stderr


def test_a_plugin_without_its_chip_leaves_the_device_emulated(mlu: Path, program: Path) -> None:
    done = start([*RUN, str(program)], mlu)
    report = json.loads(done.stdout)
    assert report["plugins"] == []
    assert "emulated" in report["name"]
    assert "torch_mlu is installed, but there is no /dev/cambricon_dev" in done.stderr


def test_emulate(mlu: Path, program: Path) -> None:
    report = said("--emulate", program, sites=(mlu,), **CAMBRICON)
    assert report["plugins"] == []
    assert report["type"] == "cuda"


def test_the_makers_own_redirection(standin: Vendor, site: Path, program: Path) -> None:
    name = next(backing.name for backing in backings() if backing.device == standin.device)
    words, named = ["--via", "vendor-shim", str(program)], {"HEITU_BACKING": name}
    if standin.shim is None:
        done = start([*RUN, *words], site, ends=ExitCode.USAGE, **named)
        assert "no redirection of CUDA programs of Sunrise" in done.stderr
        return
    report = said(*words, sites=(site,), **named)
    assert report["shim"] == standin.shim
    assert report["count"] == 0


def test_what_only_the_emulated_device_knows_is_refused(mlu: Path, program: Path) -> None:
    for option in (["--dry"], ["--devices", "2"], ["--chip", "mlu590", "--report", "x.html"]):
        done = start([*RUN, *option, str(program)], mlu, ends=ExitCode.USAGE, **CAMBRICON)
        assert "add --emulate" in done.stderr


def test_a_plugin_that_is_missing(program: Path) -> None:
    done = start([*RUN, str(program)], ends=ExitCode.PLUGIN_UNUSABLE, HEITU_BACKING="enflame")
    assert "torch_gcu is not installed" in done.stderr
    assert "--emulate" in done.stderr


def test_a_plugin_that_cannot_be_imported(tmp_path: Path, program: Path) -> None:
    (tmp_path / "torch_gcu").mkdir()
    (tmp_path / "torch_gcu" / "__init__.py").write_text("raise ImportError('libtops.so: no such file')\n")
    done = start([*RUN, str(program)], tmp_path, ends=1, HEITU_BACKING="enflame")
    assert "torch_gcu cannot be imported: libtops.so: no such file" in done.stderr


def test_plugin_without_an_emulator(mlu: Path, program: Path) -> None:
    words = ["--chip", "mlu590", "--plugin", str(program)]
    done = start([*RUN, *words], mlu, ends=ExitCode.EMULATOR_MISSING)
    assert "There is no emulator" in done.stderr


def test_a_notebook(mlu: Path, tmp_path: Path) -> None:
    path = tmp_path / "notebook.py"
    path.write_text("import heitu\nheitu.enable()\n" + REPORT)
    report = json.loads(start([str(path)], mlu, **CAMBRICON).stdout)
    assert report["name"] == "stand-in for torch_mlu"


def test_a_program_written_for_the_plugin(mlu: Path, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\n"
        "assert torch.ones(2, device='mlu').device.type == 'mlu'\n"
        "assert not torch.cuda.is_available()\n"
        "print('done')\n"
    )
    assert start([*RUN, "--via", "plugin", str(path)], mlu, **CAMBRICON).stdout == "done\n"


def test_the_host_cannot_read_the_chips_memory(mlu: Path, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import ctypes, torch\n"
        "x = torch.ones(4, device='cuda')\n"
        "print(x.data_ptr() != 0, flush=True)\n"
        "ctypes.string_at(x.data_ptr(), 4)\n"
    )
    assert start([*RUN, str(path)], mlu, ends=-signal.SIGSEGV, **CAMBRICON).stdout == "True\n"


def test_a_chip_that_does_not_answer(mlu: Path, program: Path) -> None:
    done = start([*RUN, str(program)], mlu, **CAMBRICON, STANDIN_DEVICES="0")
    assert json.loads(done.stdout)["count"] == 0
    assert done.stderr.count("torch_mlu sees no device, and there is no /dev/cambricon_dev") == 1
    hidden = start([*RUN, str(program)], mlu, **CAMBRICON, STANDIN_DEVICES="0", CUDA_VISIBLE_DEVICES="")
    assert "sees no device" not in hidden.stderr
