"""Training of transformers' models raises no alarm on a chip whose plugin has all they need.

Ascend's plugin registers every operator that these programs reach (torch_npu warns in none), so
whatever a rehearsal says of them would be false.

    python -m pytest tests/full/test_false_alarms.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")

MODELS = (
    *("llama", "qwen3", "mixtral", "deepseek_v3", "gemma", "phi", "gpt2", "mamba", "bert", "t5", "vit"),
    *("whisper", "clip"),
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("model", MODELS)
def test_training_is_native_on_ascend(repository: Path, tmp_path: Path, model: str, dtype: str) -> None:
    report = tmp_path / "report.json"
    program = [str(repository / "examples" / "matrix" / "transformers_step.py"), model, "--dtype", dtype]
    done = subprocess.run(
        [sys.executable, "-m", "heitu", "run", "--chip", "ascend-910b", "--report", str(report), *program],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    operators = json.loads(report.read_text())["operators"]
    assert sum(row["calls"] for row in operators) > 200
    alarms = [
        (row["operator"], row["verdict"], row["dtype_verdict"])
        for row in operators
        if row["verdict"] != "native" or row["dtype_verdict"]
    ]
    assert not alarms
    assert "CAUTION" not in done.stderr
