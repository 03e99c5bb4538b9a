"""The cuda device over a vendor's PyTorch plugin: every call goes on to the plugin's own device."""

from __future__ import annotations

from pathlib import Path

from heitu.device.library import Library

PACKAGE = Path(__file__).resolve().parent.parent.parent
NAME = "heitu_forwarding"


def library() -> Library:
    """The description of the library that the cuda device over a plugin consists of."""
    return Library(
        "the library over a vendor's plugin",
        "the cuda device over a vendor's plugin",
        NAME,
        (PACKAGE / "backings" / "csrc",),
        include_dirs=(PACKAGE / "device" / "csrc",),
        directory="forwarding",
    )
