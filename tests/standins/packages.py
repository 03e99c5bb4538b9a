"""Writes a vendor's package, with the compiled library in it, into a folder for PYTHONPATH."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from tests.standins.build import library
from tests.standins.vendors import OVERRIDDEN, VENDORS, Vendor

PLUGIN = Path(__file__).parent / "plugin.py"


def vendor(name: str) -> Vendor:
    """A vendor by plugin or device."""
    return next(vendor for vendor in VENDORS if name in (vendor.plugin, vendor.device))


def write_package(folder: Path, of: Vendor, *, autoload: bool = False) -> Path:
    """Makes `folder` a place that `of.plugin` can be imported from; returns `folder`.

    Args:
        autoload: whether `import torch` imports it, by its entry point, as the vendor's does.
    """
    package = folder / of.plugin
    package.mkdir(parents=True)
    shutil.copy(PLUGIN, package / "_plugin.py")
    (package / "_C.so").symlink_to(library())
    (package / "__init__.py").write_text(
        f"import torch\nfrom ._plugin import start\n{of.device} = start(__name__)\ndef _autoload(): pass\n"
    )
    words = asdict(of) | {"names": of.names(), "operators": of.overloads(), "overridden": OVERRIDDEN}
    (package / "vendor.json").write_text(json.dumps(words))
    if of.shim is not None:
        _write_shim(folder, of.shim)
    information = folder / f"{of.plugin}-{of.version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {of.plugin.replace('_', '-')}\nVersion: {of.version}\n"
    )
    (information / "top_level.txt").write_text(f"{of.plugin}\n")
    if autoload:
        entry = f"[torch.backends]\n{of.plugin} = {of.plugin}:_autoload\n"
        (information / "entry_points.txt").write_text(entry)
    return folder


def _write_shim(folder: Path, module: str) -> None:
    """A redirection that only tells that it was imported."""
    *parents, name = module.split(".")
    place = folder
    for parent in parents:
        place = place / parent
        place.mkdir(exist_ok=True)
        if not (place / "__init__.py").exists():
            (place / "__init__.py").write_text("")
    (place / f"{name}.py").write_text(f"import builtins\nbuiltins.vendor_shim = {module!r}\n")


if __name__ == "__main__":
    import sys

    for name in sys.argv[2:]:
        print(write_package(Path(sys.argv[1]), vendor(name)))
