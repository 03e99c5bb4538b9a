"""Kernels that programs write, tune or choose by themselves: jiterator, TunableOp, attention."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

from heitu.device.patches import replace

NO_JITERATOR = (
    "torch.cuda.jiterator compiles CUDA C++ for a GPU, and the emulated device has none: compute {name} with "
    "PyTorch's operators, or register it as a Python function with torch.library.custom_op."
)
# at::SDPBackend, as torch.nn.attention.SDPBackend counts them.
_FLASH, _EFFICIENT, _CUDNN = 1, 2, 3


def install(torch_c: Any, core: ModuleType) -> None:
    """Supplies what torch.cuda.jiterator and torch.cuda.tunable call."""
    core.install_hooks()

    def launch(
        code: str, name: str, by_reference: bool, outputs: int, tensors: Any, arguments: Any
    ) -> NoReturn:
        raise RuntimeError(NO_JITERATOR.format(name=name))

    torch_c._cuda_jiterator_compile_and_launch_kernel = launch
    torch_c._cudnn_set_conv_benchmark_empty_cache = lambda enabled: None
    _install_tunable(torch_c)


def _install_tunable(torch_c: Any) -> None:
    """TunableOp's settings are kept; there is one way to multiply matrices, so nothing is ever tuned."""
    state = SimpleNamespace(
        enabled=False,
        tuning=True,
        untuned=False,
        duration=30,
        iterations=100,
        buffer=-1,
        filename="",
        tolerances=(False, 1e-5, 1e-5),
    )

    def setter(field: str) -> Any:
        return lambda value: setattr(state, field, value)

    def getter(field: str) -> Any:
        return lambda: getattr(state, field)

    def set_filename(name: str, insert_device_ordinal: bool = False) -> None:
        path = Path(name)
        state.filename = str(path.with_name(f"{path.stem}0{path.suffix}")) if insert_device_ordinal else name

    for field, set_name, get_name in (
        ("enabled", "tunableop_enable", "tunableop_is_enabled"),
        ("tuning", "tunableop_tuning_enable", "tunableop_tuning_is_enabled"),
        ("untuned", "record_untuned_enable", "record_untuned_is_enabled"),
        ("duration", "tunableop_set_max_tuning_duration", "tunableop_get_max_tuning_duration"),
        ("iterations", "tunableop_set_max_tuning_iterations", "tunableop_get_max_tuning_iterations"),
        ("buffer", "tunableop_set_rotating_buffer_size", "tunableop_get_rotating_buffer_size"),
    ):
        setattr(torch_c, f"_cuda_{set_name}", setter(field))
        setattr(torch_c, f"_cuda_{get_name}", getter(field))
    torch_c._cuda_tunableop_set_filename = set_filename
    torch_c._cuda_tunableop_get_filename = getter("filename")
    torch_c._cuda_tunableop_set_numerical_check_tolerances = lambda *values: setattr(
        state, "tolerances", values
    )
    torch_c._cuda_tunableop_get_results = lambda: ()
    torch_c._cuda_tunableop_get_validators = lambda: ()
    torch_c._cuda_tunableop_read_file = lambda name=None: Path(name or state.filename).is_file()
    torch_c._cuda_tunableop_write_file = lambda name=None: False


def patch(torch: Any, core: ModuleType) -> None:
    """Answers torch.backends.cuda.can_use_flash_attention and its kin, which a CPU build always denies."""

    def serves(backend: int) -> Any:
        return lambda params, debug=False: core.attention_serves(backend, params, debug)

    for name, backend in (
        ("_can_use_flash_attention", _FLASH),
        ("_can_use_mem_efficient_attention", _EFFICIENT),
        ("_can_use_cudnn_attention", _CUDNN),
    ):
        if hasattr(torch._C, name):
            replace(torch._C, name, serves(backend))
