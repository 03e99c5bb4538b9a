"""Launches of kernels that were launched before, without what Triton does in Python before each one.

`JITFunction.run` finds the kernel for a launch's arguments in about 6 microseconds. In its place stands what
remembers which kernel the same kinds of arguments took (runtime/run.c). Whatever is not plain goes Triton's
way: hooks, settings or globals that were changed, arguments of other types, a cache that was emptied. Only
where Heitu's driver is the active one, and only for the releases whose way was read.
"""

from __future__ import annotations

import inspect
from typing import Any

from triton import knobs
from triton.language import dtype
from triton.runtime import jit
from triton.runtime.driver import driver

from heitu.kernels.triton import compilation, versions

# All that Triton's own `run` looks at besides the launch: attributes, and variables of the environment.
SETTINGS = (
    (knobs, "runtime"),
    (knobs, "compilation"),
    (knobs.runtime, "debug"),
    (knobs.runtime, "add_stages_inspection_hook"),
    (knobs.runtime, "launch_enter_hook"),
    (knobs.runtime, "launch_exit_hook"),
    (knobs.compilation, "instrumentation_mode"),
)
VARIABLES = ("fpsan_homomorphic_casts",)


def install() -> None:
    """Has launches remembered, from now on; does nothing where that is not known to work."""
    import torch

    run = compilation.runtime().Run
    if versions.RELEASE not in versions.REMEMBERED or isinstance(jit.JITFunction.run, run):
        return
    descriptors = [type(knobs.compilation).__dict__[name] for name in VARIABLES]
    hooks = (knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook)
    active: Any = driver.active
    jit.JITFunction.run = run(
        original=jit.JITFunction.run,
        settings=(
            (driver, "_active", active),
            *((of, name, getattr(of, name)) for of, name in SETTINGS),
            *((hook, "calls", hook.calls) for hook in hooks),
        ),
        empty=tuple(hook.calls for hook in hooks),
        absent=tuple((knobs.compilation.__dict__, name) for name in VARIABLES),
        unset=tuple(descriptor.key.encode() for descriptor in descriptors),
        current_device=active.get_current_device,
        tensors=(torch.Tensor, torch.nn.Parameter),
        constants=(dtype,),
        define=parameters,
    )


def uninstall() -> None:
    """Puts Triton's own back."""
    if isinstance(jit.JITFunction.run, compilation.runtime().Run):
        jit.JITFunction.run = jit.JITFunction.run.original


def parameters(function: Any) -> tuple[tuple[str, bool, tuple[Any, ...]], ...] | None:
    """Each parameter's name, whether it is a constant, and (its default,) or (); None: nobody knows."""
    given = function.signature.parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in given):
        return None
    found = []
    for parameter in function.params:
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        found.append((parameter.name, bool(parameter.is_constexpr), default))
    return tuple(found)
