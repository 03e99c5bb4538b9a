"""heitu.device.activation, as far as it goes without a core."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from heitu.device.activation import _Device
from heitu.errors import ExitCode, HeituError


def test_a_library_that_does_not_load(tmp_path: Path) -> None:
    library = tmp_path / "core.so"
    library.write_bytes(b"\x7fELF and nothing more")
    with pytest.raises(HeituError, match=r"does not load: .*core\.so") as caught:
        _Device(library, None).before_c(ModuleSpec("torch._C", None))
    assert caught.value.exit_code is ExitCode.CORE_UNUSABLE
    assert str(library) in (caught.value.hint or "")
