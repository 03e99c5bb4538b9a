"""What a dry run adds to torch in Python: forms of results that torch has no meta kernel for, and a note."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from heitu.settings import settings

# Operators without a meta kernel whose one result has the form of an argument: which.
_FORM_OF_ARGUMENT = {
    "_ctc_loss_backward": 1,
    "_ctc_loss_backward.Tensor": 1,
    "_dirichlet_grad": 0,
    "_logcumsumexp": 0,
    "_masked_softmax": 0,
    "_masked_softmax_backward": 0,
    "_sample_dirichlet": 0,
    "_standard_gamma_grad": 0,
    "batch_norm_elemt": 0,
    "binomial": 0,
    "fractional_max_pool3d_backward": 1,
    "multi_margin_loss_backward": 1,
    "multilabel_margin_loss_backward": 1,
}

_kept: list[Any] = []  # a library takes its kernels with it when it goes


def apply(torch: ModuleType, core: ModuleType) -> None:
    """Registers the meta kernels and sees to the note at the end of the process."""
    import atexit

    module: Any = torch
    library = module.library.Library("aten", "IMPL", "Meta")
    for name, argument in _FORM_OF_ARGUMENT.items():
        if not module._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, _form_of(module, argument))
    _kept.append(library)
    atexit.register(note, core)


def _form_of(torch: Any, argument: int) -> Any:
    def kernel(*arguments: Any, **_: Any) -> Any:
        return torch.empty_like(arguments[argument])

    return kernel


def note(core: Any) -> None:
    """Says on stderr that values are missing, and what was computed in spite of its size."""
    not_computed, in_full = core.dry_counts()
    if settings.quiet or not (not_computed or in_full):
        return
    said = f"{not_computed} calls on large tensors were not computed, whose values read as 0"
    if in_full:
        names = sorted(in_full, key=in_full.get, reverse=True)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        said += f"; computed all the same: {', '.join(n.removeprefix('aten::') for n in names[:5])}{more}"
    print(f"heitu: dry run: {said}", file=sys.stderr)
