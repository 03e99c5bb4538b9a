"""Kernels in their checked form: every seeded defect is found where it is, and nothing else."""

from __future__ import annotations

import json
import linecache
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from heitu.errors import ExitCode

from . import seeded_defects

ROOT = Path(__file__).parents[2]
CHECKED = {"HEITU_CHECK_KERNELS": "1"}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process; both of its streams as text."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def findings() -> dict[str, list[dict[str, Any]]]:
    """What was found in each seeded kernel, with its defect and without."""
    done = run("-m", "tests.triton.seeded_defects", **CHECKED)
    assert done.returncode == 0, done.stderr
    made: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return made


def line(finding: dict[str, Any]) -> str:
    """The line of the program at which it was found."""
    file, _, number = finding["place"].rpartition(":")
    return linecache.getline(file, int(number)).rstrip()


@pytest.mark.parametrize("name", seeded_defects.CASES)
def test_defect(name: str, findings: dict[str, list[dict[str, Any]]]) -> None:
    kind, _ = seeded_defects.CASES[name]
    found = findings[f"{name} wrong"]
    assert {each["kind"] for each in found} == {kind.name}
    assert [line(each).endswith("# here") for each in found] == [True] * len(found)
    assert findings[f"{name} right"] == []


@pytest.mark.parametrize("name", [each.__name__ for each in seeded_defects.RIGHT])
def test_nothing_is_found_where_nothing_is(name: str, findings: dict[str, list[dict[str, Any]]]) -> None:
    assert findings[name] == []


def test_there_are_enough_defects() -> None:
    assert len(seeded_defects.CASES) >= 20


def test_where_a_finding_is(findings: dict[str, list[dict[str, Any]]]) -> None:
    (found,) = findings["extents_exchanged wrong"]
    # 20 rows and 40 columns in tiles of 16: row 20, the first that is not there, is the fifth of a tile.
    assert found["program"] == [1, 0, 0]
    assert found["element"] == [4, 0]
    assert found["argument"] == "x"
    assert found["count"] == 20 * 20  # rows 20 to 39 of columns 0 to 19
    assert "float32 (20, 40) on cpu; element 800: it has elements 0 to 799" in found["text"]
    (race,) = findings["tiles_that_overlap wrong"]
    assert race["program"] == [1, 0, 0]
    assert "by program (0, 0, 0)" in race["text"]
    assert race["count"] == 3  # one element of each tile but the first


PROGRAM = """
import sys
import torch, triton, triton.language as tl

@triton.jit
def past_the_end(x, n, LAST: tl.constexpr):
    at = tl.arange(0, 16)
    tl.store(x + at, 1.0, mask=at <= n if LAST else at < n)

x = torch.zeros(10)
past_the_end[(1,)](x, 10, sys.argv[1] == "wrong")
past_the_end[(1,)](x, 10, sys.argv[1] == "wrong")
assert bool((x == 1).all())
sys.exit(int(sys.argv[2]))
"""


def program(tmp_path: Path, text: str = PROGRAM) -> str:
    """A file with the program."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("wrong", "0"), ExitCode.KERNEL_DEFECTS),
        (("wrong", "3"), 3),
        (("right", "0"), 0),
    ],
)
def test_how_a_program_ends(tmp_path: Path, words: tuple[str, str], code: int) -> None:
    done = run(program(tmp_path), *words, **CHECKED)
    assert done.returncode == code, done.stderr
    blocks = done.stderr.count("heitu: out of bounds: a write of 4 bytes")
    summaries = done.stderr.count("heitu: --check-kernels found 1 defect in 1 kernel:")
    assert (blocks, summaries) == ((1, 1) if words[0] == "wrong" else (0, 0))
    if words[0] == "wrong":
        assert "past_the_end at " in done.stderr
        assert ": out of bounds, 2 accesses in 2 launches" in done.stderr


FILLING = """
import triton, triton.language as tl

@triton.jit
def fill(x, value, mask):
    tl.store(x, value, mask=mask)
"""


def test_a_copy_of_the_program_has_its_own_places(tmp_path: Path) -> None:
    """Triton's cache gives it what was compiled of the other."""
    kept = tmp_path / "kept"
    text = PROGRAM.replace("@triton.jit", "from filling import fill\n\n@triton.jit").replace(
        "tl.store", "fill"
    )
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "filling.py").write_text(FILLING)
        done = run(program(folder, text), "wrong", "0", **CHECKED, TRITON_CACHE_DIR=str(kept))
        assert f"at       {folder}/filling.py:6: tl.store(x, value, mask=mask)" in done.stderr
    assert len(list(kept.rglob("past_the_end.so"))) == 1


ASSERTED = """
import torch, triton, triton.language as tl

@triton.jit
def positive(x):
    tl.device_assert(tl.load(x) > 0, "must be positive")

positive[(1,)](-torch.ones(1), debug=True)
"""


def test_an_assertion_of_a_copy_names_its_own_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        path = program(folder, ASSERTED)
        done = run(path, TRITON_CACHE_DIR=str(tmp_path / "kept"))
        assert f"device-side assert triggered: {path}:6: must be positive" in done.stderr


def test_nothing_is_checked_unasked(tmp_path: Path) -> None:
    done = run(program(tmp_path), "right", "0")
    assert (done.returncode, done.stderr) == (0, "")
    unchecked = "import torch, triton; assert not hasattr(torch.empty, '_heitu_original')"
    assert run("-c", unchecked + "; triton.runtime.driver.active").returncode == 0


def test_memory_that_torch_allocates(tmp_path: Path) -> None:
    """It holds the pattern, whichever way it is asked for; what has values has them."""
    text = """
        import torch, triton
        from heitu.kernels.triton.checking import poison

        def words(tensor):
            return tensor.contiguous().view(torch.uint8)[: tensor.numel() * tensor.element_size() // 4 * 4]

        x = torch.ones(7)
        made = [
            torch.empty(7), torch.empty(0), torch.empty(3, 5, dtype=torch.int64), torch.empty_like(x),
            torch.empty_strided((4, 3), (1, 4)), x.new_empty(9, dtype=torch.int16),
            x.new_empty_strided((2,), (1,)), torch.empty(2, 3, requires_grad=True).detach(),
        ]
        for each in made:
            word = torch.tensor([poison.pattern], dtype=torch.int32).view(torch.uint8)
            flat = each.untyped_storage()
            count = flat.nbytes() // 4 * 4
            got = torch.tensor(list(flat[:count]), dtype=torch.uint8)
            assert torch.equal(got, word.repeat(count // 4)), each
            assert not count or poison.holds(flat)
        assert not poison.holds(x.untyped_storage())
        assert torch.equal(torch.empty(3, out=x), x)

        @torch.jit.script
        def scripted(n: int):
            return torch.empty(n).fill_(2.0)

        assert scripted(3).tolist() == [2.0, 2.0, 2.0]
        compiled = torch.compile(lambda n: torch.empty(n).fill_(3.0), backend="eager", fullgraph=True)
        assert compiled(3).tolist() == [3.0, 3.0, 3.0]
        assert torch.empty(3, device="meta").shape == (3,)
        del made, each, flat
        assert not poison.live()
    """
    done = run(program(tmp_path, text), **CHECKED)
    assert done.returncode == 0, done.stderr


ON_CUDA = """
    import torch, triton, triton.language as tl

    @triton.jit
    def fill(x, n, B: tl.constexpr):
        at = tl.arange(0, B)
        tl.store(x + at, 1.0, mask=at < n)

    @triton.jit
    def read(addresses, out, n, B: tl.constexpr):
        at = tl.arange(0, B)
        x = tl.load(addresses).to(tl.pointer_type(tl.float32))
        tl.store(out + at, tl.load(x + at, mask=at < n, other=0.0))

    # In one block of the allocator, one behind the other.
    both = [torch.zeros(128, device="cuda") for _ in range(2)]
    both.sort(key=lambda each: each.data_ptr())
    assert both[1].data_ptr() - both[0].data_ptr() == 512
    fill[(1,)](both[0], 129, 256)
    assert both[1].sum() == 0, "the neighbour was written to"

    out = torch.empty(16, device="cuda")
    x = torch.ones(8, device="cuda")
    addresses = torch.tensor([x.data_ptr()], device="cuda")
    read[(1,)](addresses, out, 8, 16)
    assert out.sum() == 8
    print("so far", flush=True)
    read[(1,)](addresses, out, 9, 16)
    assert out.sum() == 8
"""


def test_on_cuda(tmp_path: Path) -> None:
    """Memory of one tensor lies beside another's there, and addresses are known to the allocator."""
    done = run("-m", "heitu", "run", "--check-kernels", program(tmp_path, ON_CUDA))
    assert done.returncode == ExitCode.KERNEL_DEFECTS, done.stderr
    assert done.stdout == "so far\n"
    assert "out of bounds: a write of 4 bytes\n         kernel   fill, program (0, 0, 0)" in done.stderr
    assert "x: float32 (128,) on cuda:0; element 128: it has elements 0 to 127" in done.stderr
    assert "out of bounds: a read of 4 bytes\n         kernel   read, program (0, 0, 0)" in done.stderr
    assert "found 2 defects in 2 kernels" in done.stderr


def test_what_a_rehearsal_says_of_it(tmp_path: Path) -> None:
    text = PROGRAM.replace("torch.zeros(10)", "torch.zeros(10, device='cuda')")
    written = tmp_path / "report.json"
    words = ("--chip", "h200", "--check-kernels", "--report", str(written))
    path = program(tmp_path, text)
    done = run("-m", "heitu", "run", *words, path, "wrong", "0")
    assert done.returncode == ExitCode.KERNEL_DEFECTS, done.stderr
    (said,) = [each for each in done.stderr.splitlines() if each.startswith("  defects")]
    assert said.startswith("  defects  1 in kernel past_the_end: out")
    assert said.endswith("program.py:8")
    report = json.loads(written.read_text())
    (found,) = report["defects"]
    assert (found["kind"], found["kernel"], found["argument"]) == ("out of bounds", "past_the_end", "x")
    assert found["at"]["line"] == 8
    assert found["accesses"] == 2
    assert "element (10,) of a tile of (16,)" in found["text"]
    (kernel,) = report["kernels"]
    assert kernel["user"]["line"] == 11  # the launch
    assert report["ending"] is None
    shown = run("-m", "heitu", "report", "show", str(written))
    assert "Defects in kernels" in shown.stdout


def test_a_graph(tmp_path: Path) -> None:
    """A kernel is judged as it is captured; replays do what it does."""
    text = """
        import torch, triton, triton.language as tl

        @triton.jit
        def add(x, n, B: tl.constexpr):
            at = tl.arange(0, B)
            tl.store(x + at, tl.load(x + at, mask=at < 8) + 1.0, mask=at < n)

        x = torch.zeros(8, device="cuda")
        for n in (8, 9):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                add[(1,)](x, n, 16)
            if n == 8:
                graph.replay()
                graph.replay()
        assert x.tolist() == [2.0] * 8
    """
    done = run("-m", "heitu", "run", "--check-kernels", program(tmp_path, text))
    assert done.returncode == ExitCode.KERNEL_DEFECTS, done.stderr
    assert done.stderr.count("out of bounds: a write of 4 bytes") == 1
    assert "out of bounds, 1 access in 1 launch" in done.stderr


def test_what_torch_compile_generates(tmp_path: Path) -> None:
    text = """
        import copy, torch
        from torch import nn

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10)).cuda()
        other = copy.deepcopy(model)
        x, target = torch.randn(33, 64, device="cuda"), torch.randint(0, 10, (33,), device="cuda")
        for step in (torch.compile(model), other):
            nn.functional.cross_entropy(step(x), target).backward()
        for a, b in zip(model.parameters(), other.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
    """
    inductor = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = run("-m", "heitu", "run", "--check-kernels", program(tmp_path, text), **inductor)
    assert done.returncode == 0, done.stderr
    assert "heitu:" not in done.stderr
