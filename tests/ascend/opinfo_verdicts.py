"""Every entry of PyTorch's operator database on npu over the emulated CANN, and on cuda through Heitu.

    python -m tests.ascend.opinfo_verdicts [--samples 2] [--out FILE.json]

Both sides run each entry's first samples in float32, forward and backward; the verdicts (the values, or the
error) have to be the same. Each side is a process that is started anew where an entry ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.ascend.comparison import ROOT

SIDES = {"npu": ["--via", "plugin"], "cuda": []}
LIMIT = 1800  # seconds for one process


def serve(device: str, samples: int, out: Path) -> None:
    """Adds a line for each entry that is not there yet: [name, verdicts]."""
    import warnings

    import torch
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.utils import _pytree as pytree

    def moved(value: Any) -> Any:
        def move(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                made = leaf.detach().to(device)
                return made.requires_grad_(leaf.requires_grad)
            return torch.device(device) if isinstance(leaf, torch.device) and leaf.type == "cpu" else leaf

        return pytree.tree_map(move, value)

    def verdict(op: Any, sample: Any) -> str:
        torch.manual_seed(0)
        try:
            given = moved((sample.input, sample.args, sample.kwargs))
            result = op(given[0], *given[1], **given[2])
            results = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            wanted = [t for t in pytree.tree_leaves(given) if isinstance(t, torch.Tensor) and t.requires_grad]
            sums = [t.abs().sum() for t in results if t.requires_grad]
            grads = torch.autograd.grad(sum(sums), wanted, allow_unused=True) if sums and wanted else ()
            shown = [t.detach().cpu() for t in (*results, *(g for g in grads if g is not None))]
            return str([(tuple(t.shape), str(t.dtype), repr(t.double().nansum().item())) for t in shown
                        if not t.is_complex() and t.layout is torch.strided])  # fmt: skip
        except Exception as error:
            return f"{type(error).__name__}"

    done = {json.loads(line)[0] for line in out.read_text().splitlines()} if out.exists() else set()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with out.open("a") as file:
        for number, op in enumerate(op_db):
            name = f"{op.name} {op.variant_test_name} {number}"
            if name in done or torch.float32 not in op.supported_dtypes("cpu"):
                continue
            # An entry that ends the process has this verdict, and the next process goes on after it.
            file.write(json.dumps([name, ["ended the process"]]) + "\n")
            file.flush()
            torch.manual_seed(0)
            try:
                drawn = list(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd))
            except Exception:
                drawn = []
            verdicts = [verdict(op, sample) for sample in drawn[:samples]]
            file.write(json.dumps([name, verdicts]) + "\n")
            file.flush()


def run(device: str, samples: int, folder: Path) -> dict[str, list[str]]:
    """The verdicts of one side, by entry."""
    out = folder / f"{device}.jsonl"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HEITU_QUIET": "1", "ASCEND_LAUNCH_BLOCKING": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "heitu", "run", "--chip", "ascend-910b", "--plugin", *SIDES[device]]
    command += ["-m", "tests.ascend.opinfo_verdicts", "--serve", device, "--samples", str(samples)]
    while True:
        ended = subprocess.run(
            [*command, "--out", str(out)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        if ended.returncode == 0:
            break
    return dict(json.loads(line) for line in out.read_text().splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a file for the entries whose verdicts differ")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.samples, asked.out)
        return 0
    with tempfile.TemporaryDirectory(prefix="heitu-opinfo-") as folder:
        npu, cuda = (run(device, asked.samples, Path(folder)) for device in ("npu", "cuda"))
    differing = {name: [npu[name], cuda.get(name)] for name in npu if npu[name] != cuda.get(name)}
    kinds = Counter(
        "computed" if any(v.startswith("[") for v in found) else "refused" for found in npu.values() if found
    )
    print(f"{len(npu)} entries ({kinds['computed']} computed on npu), {len(npu) - len(differing)} the same")
    for name, (on_npu, on_cuda) in differing.items():
        print(f"{name}: npu {str(on_npu)[:150]} cuda {str(on_cuda)[:150]}")
    if asked.out is not None:
        asked.out.write_text(json.dumps(differing, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
