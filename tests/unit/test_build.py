"""heitu.device.build with a fake compiler, a fake torch and a core of two lines."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from heitu.device import build, compilation
from heitu.device.installed_torch import InstalledTorch
from heitu.device.library import Library
from heitu.errors import ExitCode, HeituError
from tests.unit.conftest import FakeCompiler, write_torch

pytestmark = pytest.mark.usefixtures("sources", "torch_package")

ALL = ["a.cpp", "b.cpp", "link"]


def test_it_is_built_once(compiler: FakeCompiler, capfd: pytest.CaptureFixture[str]) -> None:
    library = build.core_library()
    assert library.read_bytes().startswith(b"built by the fake compiler")
    assert compiler.calls() == ALL
    talk = capfd.readouterr()
    assert talk.out == ""
    assert "[3/3] linking" in talk.err
    assert build.core_library() == library
    assert compiler.calls() == []
    assert capfd.readouterr().err == ""


def test_quiet_says_nothing(
    compiler: FakeCompiler, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEITU_QUIET", "1")
    build.core_library()
    assert capfd.readouterr() == ("", "")


def test_a_changed_source_makes_one_object_anew(compiler: FakeCompiler, sources: Path) -> None:
    first = build.core_library()
    compiler.calls()
    (sources / "inner" / "b.cpp").write_text("int b() { return 3; }\n")
    second = build.core_library()
    assert compiler.calls() == ["b.cpp", "link"]
    assert second != first
    assert b"return 3" in second.read_bytes()


def test_a_changed_header_makes_what_includes_it_anew(compiler: FakeCompiler, sources: Path) -> None:
    build.core_library()
    compiler.calls()
    (sources / "a.h").write_text("#pragma once\nlong a();\n")
    build.core_library()
    assert compiler.calls() == ["a.cpp", "link"]


def test_a_changed_prelude_makes_everything_anew(compiler: FakeCompiler, sources: Path) -> None:
    build.core_library()
    compiler.calls()
    (sources / "prelude.h").write_text("#pragma once\n#define MORE\n")
    build.core_library()
    assert compiler.calls() == ALL


def test_a_touched_source_costs_nothing(compiler: FakeCompiler, sources: Path) -> None:
    library = build.core_library()
    compiler.calls()
    os.utime(sources / "a.cpp")
    assert build.core_library() == library
    assert compiler.calls() == []


def test_another_torch_makes_everything_anew(compiler: FakeCompiler, torch_package: Path) -> None:
    first = build.core_library()
    compiler.calls()
    write_torch(torch_package.parent, "2.12.0+cpu")
    build.require_torch().__dict__.pop("_version_module", None)
    assert build.core_library() != first
    assert compiler.calls() == ALL


def test_another_compiler_makes_everything_anew(
    compiler: FakeCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.core_library()
    other = tmp_path / "other"
    other.mkdir()
    replacement = FakeCompiler(other, monkeypatch)
    assert build.core_library() != first
    assert replacement.calls() == ALL


def test_the_library_outlives_its_compiler(compiler: FakeCompiler, tmp_path: Path) -> None:
    library = build.core_library()
    (tmp_path / "fake-c++").unlink()
    assert build.core_library() == library


@pytest.mark.parametrize("damage", [b"", b"something else of another length"])
def test_a_corrupt_library_is_built_anew(
    compiler: FakeCompiler, capfd: pytest.CaptureFixture[str], damage: bytes
) -> None:
    library = build.core_library()
    good = library.read_bytes()
    library.write_bytes(damage)
    compiler.calls()
    capfd.readouterr()
    assert build.core_library() == library
    assert library.read_bytes() == good
    assert compiler.calls() == ["link"]
    assert f"{library} is corrupt; building it anew" in capfd.readouterr().err


def test_damage_that_keeps_size_and_time_is_seen(compiler: FakeCompiler) -> None:
    library = build.core_library()
    good, before = library.read_bytes(), library.stat()
    library.write_bytes(good.replace(b"fake", b"FAKE"))
    os.utime(library, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert build.core_library().read_bytes() == good


@pytest.mark.parametrize("stamp", [b"", b"{}", b"[]", b'{"library": 3, "inputs": 1, "state": 2}', b"\xff"])
def test_a_corrupt_stamp_costs_only_a_check(
    compiler: FakeCompiler, clean_environment: Path, stamp: bytes
) -> None:
    library = build.core_library()
    compiler.calls()
    (file,) = clean_environment.glob("stamp-*.json")
    file.write_bytes(stamp)
    assert build.core_library() == library
    assert compiler.calls() == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeituError, match=r"no C\+\+ compiler: none of c\+\+, g\+\+, clang\+\+") as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.COMPILER_MISSING


def test_cxx_names_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++ -m64")
    with pytest.raises(HeituError, match=r"CXX='/nowhere/c\+\+ -m64': there is no such compiler") as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.COMPILER_MISSING


def test_a_compile_error_shows_its_first_line_and_names_the_log(
    compiler: FakeCompiler, clean_environment: Path
) -> None:
    compiler.behave(
        "if args[-3].endswith('a.cpp'):\n"
        "    print('In file included from x.h')\n"
        "    print('a.cpp:1:2: error: no such thing')\n"
        "    print('a.cpp:9:9: error: nor this')\n"
        "    sys.exit(1)"
    )
    log = clean_environment / "build.log"
    with pytest.raises(
        HeituError, match=r"\(a.cpp\): a.cpp:1:2: error: no such thing\n.*build.log"
    ) as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.COMPILE_FAILED
    assert "a.cpp:9:9: error: nor this" in log.read_text()
    assert not list(clean_environment.rglob("*.tmp"))
    compiler.behave("")
    compiler.calls()
    assert build.core_library().exists()
    assert "prelude.h" not in compiler.calls()


def test_a_full_disk_as_the_compiler_says_it(compiler: FakeCompiler) -> None:
    compiler.behave("print('fatal error: error writing to /tmp/x.s: No space left on device')\nsys.exit(1)")
    with pytest.raises(HeituError, match="No space is left on the disk while building") as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.DISK_FULL


def test_a_full_disk_as_the_system_says_it(
    compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch, clean_environment: Path
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilation, "write_whole", full)
    with pytest.raises(HeituError, match=f"No space is left on the disk of {clean_environment}") as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.DISK_FULL


def test_a_compiler_that_is_killed(compiler: FakeCompiler) -> None:
    compiler.behave("import signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(HeituError, match=r"was killed .* want of memory(.|\n)*HEITU_BUILD_JOBS=1") as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.COMPILE_FAILED


def test_a_damaged_object_is_not_kept(compiler: FakeCompiler) -> None:
    compiler.behave(
        "if '-shared' in args:\n    print('x.o: file not recognized: file truncated')\n    sys.exit(1)"
    )
    with pytest.raises(HeituError, match="not recognized"):
        build.core_library()
    compiler.behave("")
    compiler.calls()
    build.core_library()
    assert compiler.calls() == ["a.cpp", "b.cpp", "link"]


def test_a_source_edited_during_the_build_is_compiled_again(
    compiler: FakeCompiler, sources: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = sources / "a.cpp"
    compiler.behave(
        f"if args[-3].endswith('a.cpp') and 'edited' not in open({str(source)!r}).read():\n"
        f"    open({str(source)!r}, 'a').write('// edited')"
    )
    library = build.core_library()
    assert b"edited" in library.read_bytes()
    assert "a.cpp was edited while it was being compiled" in capfd.readouterr().err
    compiler.calls()
    assert build.core_library() == library
    assert compiler.calls() == []


class ClosedPipe(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_talk_that_nobody_hears_does_not_stop_the_build(
    compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedPipe())
    assert build.core_library().exists()


def test_no_sources(compiler: FakeCompiler, sources: Path) -> None:
    for path in sources.rglob("*.cpp"):
        path.unlink()
    with pytest.raises(HeituError, match="no sources of the core"):
        build.core_library()


def test_the_wheel_may_carry_it(
    compiler: FakeCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_package: Path
) -> None:
    monkeypatch.setattr(compilation, "PREBUILT", tmp_path / "_prebuilt")
    monkeypatch.setattr(compilation, "require_torch", build.require_torch)
    carried = compilation.prebuild()
    compiler.calls()
    assert build.core_library() == carried
    assert compiler.calls() == []
    write_torch(torch_package.parent, "2.12.0+cpu")
    build.require_torch().__dict__.pop("_version_module", None)
    assert build.core_library() != carried


def test_is_built(compiler: FakeCompiler, torch_package: Path, clean_environment: Path) -> None:
    torch = InstalledTorch(torch_package)
    assert not build.is_built(torch)
    assert not clean_environment.exists()
    build.core_library()
    assert build.is_built(torch)


def test_what_is_long_unused_is_removed(
    compiler: FakeCompiler, sources: Path, clean_environment: Path
) -> None:
    old = build.core_library()
    long_ago = time.time() - 86400 * (compilation.UNUSED_DAYS + 1)
    for path in clean_environment.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    (sources / "a.cpp").write_text("int a() { return 4; }\n")
    new = build.core_library()
    assert new.exists()
    assert not old.exists()
    assert len(list((clean_environment / "objects").glob("*.o"))) == 2


@pytest.mark.parametrize(
    ("platform", "version", "said"),
    [
        ("darwin", (3, 11), "runs on Linux; this is darwin"),
        ("win32", (3, 11), "runs on Linux; this is win32"),
        ("linux", (3, 9), "Python 3.10 to 3.13; this is 3.9"),
        ("linux", (3, 14), "Python 3.10 to 3.13; this is 3.14"),
    ],
)
def test_platforms(
    monkeypatch: pytest.MonkeyPatch, platform: str, version: tuple[int, int], said: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(HeituError, match=said) as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.PLATFORM


@pytest.mark.parametrize(
    ("version", "builds", "said"),
    [
        ("2.13.0", {"cuda": "12.8"}, "is a CUDA 12.8 build"),
        ("2.13.0", {"hip": "6.4"}, "is a ROCm 6.4 build"),
        ("2.6.0+cpu", {}, "torch 2.6.0.cpu .* is too old: 2.7"),
    ],
)
def test_an_unsuitable_torch(
    compiler: FakeCompiler, torch_package: Path, version: str, builds: dict[str, str], said: str
) -> None:
    write_torch(torch_package.parent, version, **builds)
    with pytest.raises(HeituError, match=said) as caught:
        build.core_library()
    assert caught.value.exit_code is ExitCode.TORCH_UNSUITABLE
    assert "torch==2.13.0+cpu" in (caught.value.hint or "")
    assert compiler.calls() == []


PROGRAM = """
import sys
from pathlib import Path
from heitu.device import build
from heitu.device.installed_torch import InstalledTorch
build.SOURCE_DIRS = (Path(sys.argv[1]),)
build.require_torch = lambda: InstalledTorch(Path(sys.argv[2]))
print(build.core_library())
"""


def test_each_folder_level_is_one_unit(compiler: FakeCompiler, sources: Path) -> None:
    (sources / "c.cpp").write_text("int c() { return 3; }\n")
    batches = build.core().sources(sources.parent).batches()
    names = [[source.name for source in batch.sources] for batch in batches]
    assert names == [["a.cpp", "c.cpp"], ["b.cpp"]]
    assert [batch.optimization for batch in batches] == ["-O2", "-O1"]
    build.core_library()
    assert len([call for call in compiler.calls() if call.endswith(".cpp")]) == 2


def builder(sources: Path, torch_package: Path) -> subprocess.Popen[str]:
    """A process of its own that builds."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(sources), str(torch_package)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_two_processes_build_once(compiler: FakeCompiler, sources: Path, torch_package: Path) -> None:
    compiler.behave("time.sleep(0.3)")
    both = [builder(sources, torch_package) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert compiler.calls() == ALL
    assert sum("another process is building" in err for _, err in said) == 1


def test_a_killed_build_goes_on_where_it_was(
    compiler: FakeCompiler, sources: Path, torch_package: Path, clean_environment: Path
) -> None:
    compiler.behave("if '-shared' in args:\n    time.sleep(60)")
    process = builder(sources, torch_package)
    deadline = time.monotonic() + 30
    while len(list(clean_environment.glob("objects/*.o"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    compiler.behave("")
    compiler.calls()
    assert build.core_library().read_bytes().startswith(b"built by")
    assert compiler.calls() == ["link"]


def second_library(root: Path, **more: object) -> Library:
    """A library beside the core, of one source."""
    root.mkdir()
    (root / "d.cpp").write_text("int d() { return 4; }\n")
    return Library("the other", "another device", "heitu_other", (root,), directory="other", **more)  # type: ignore[arg-type]


def test_libraries_lie_beside_each_other(
    compiler: FakeCompiler, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    core = build.core_library()
    compiler.calls()
    capfd.readouterr()
    other = second_library(tmp_path / "second")
    path = build.library_file(other)
    assert compiler.calls() == ["d.cpp", "link"]
    assert "building another device for torch" in capfd.readouterr().err
    assert path.parent.parent.name == "other"
    assert (build.core_library(), build.library_file(other)) == (core, path)
    assert compiler.calls() == []


def test_generated_sources_are_made_anew_with_what_they_are_made_from(
    compiler: FakeCompiler, tmp_path: Path
) -> None:
    table = tmp_path / "table.txt"
    table.write_text("5")
    other = second_library(
        tmp_path / "second",
        generate=lambda: {"made.cpp": f"int made() {{ return {table.read_text()}; }}\n"},
        generated_from=(table,),
    )
    assert b"return 5" in build.library_file(other).read_bytes()
    compiler.calls()
    build.library_file(other)
    assert compiler.calls() == []
    table.write_text("66")
    assert b"return 66" in build.library_file(other).read_bytes()
    assert compiler.calls() == ["link", "made.cpp"]


def test_a_header_of_another_library_counts(compiler: FakeCompiler, tmp_path: Path, sources: Path) -> None:
    other = second_library(tmp_path / "second", include_dirs=(sources,))
    (tmp_path / "second" / "d.cpp").write_text('#include "a.h"\nint d() { return a(); }\n')
    build.library_file(other)
    compiler.calls()
    (sources / "a.h").write_text("#pragma once\nlong a();\n")
    build.library_file(other)
    assert compiler.calls() == ["d.cpp", "link"]
