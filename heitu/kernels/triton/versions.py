"""What differs between releases of Triton, from 3.4 on; all that depends on the release stands here."""

from __future__ import annotations

from typing import Any

from triton import __version__, knobs
from triton._C.libtriton import passes

VERSION: str = __version__
RELEASE = tuple(int(number) for number in VERSION.split(".")[:2])
# What a launch is given of a tensor descriptor besides its memory, shape and strides: whether padding is NaN
# (3.5), and whether float32 is rounded to tf32 (3.7).
DESCRIPTOR_FLAGS = 0 if RELEASE < (3, 5) else 1 if RELEASE < (3, 7) else 2
# Those whose launches are remembered (launching.py).
REMEMBERED = ((3, 9),)
# What a compiled kernel is read with besides what it says of itself.
METADATA: dict[str, Any] = {"cluster_dims": (1, 1, 1)} if RELEASE < (3, 6) else {}


def add_pointer_passes(manager: Any) -> None:
    """Has descriptors become pointers, and block pointers, which there were until 3.8."""
    rewrite = getattr(passes.ttir, "add_rewrite_tensor_pointer", None)
    if rewrite is not None:
        rewrite(manager)
    passes.ttir.add_rewrite_tensor_descriptor_to_pointer(manager)


def run_passes(manager: Any, module: Any, name: str) -> None:
    """Runs a pipeline; before 3.6 they had no names."""
    if RELEASE < (3, 6):
        manager.run(module)
    else:
        manager.run(module, name)


def fuses_products(asked: bool | None) -> bool:
    """Whether a product and a sum may be rounded once, as the launch or the environment says."""
    if RELEASE < (3, 9):
        return bool(knobs.language.default_fp_fusion if asked is None else asked)
    return bool(knobs.language.fp_fusion_enabled(True if asked is None else asked))
