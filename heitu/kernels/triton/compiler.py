"""The compiler's side of the backend, as Triton asks for it: TTIR, then C, then a shared library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget

from heitu.kernels.triton import compilation
from heitu.kernels.triton.effects import asserts, shared_bytes, waits_for_others, written
from heitu.kernels.triton.ir import Module
from heitu.kernels.triton.lowering.checked import instrument
from heitu.kernels.triton.lowering.module import lower
from heitu.kernels.triton.options import Options, options_from
from heitu.kernels.triton.reader import read
from heitu.kernels.triton.versions import METADATA, VERSION, add_pointer_passes, fuses_products, run_passes
from heitu.settings import settings


@cache
def _own_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def convert_custom_types(
    value: Any, kind: Any, fp_downcast_rounding: Any = None, _semantic: Any = None, **_: Any
) -> Any:
    """From and to fp8e4b15, which NVIDIA's backend converts with assembly; the way leads over float32."""
    import triton.language as tl

    builder = _semantic.builder

    def call(symbol: str, of: Any, scalar: Any) -> Any:
        result = of.type.with_element_ty(scalar) if hasattr(of.type, "with_element_ty") else scalar
        made = builder.create_extern_elementwise("", "", symbol, [of.handle], result.to_ir(builder), True)
        return tl.tensor(made, result)

    if value.type.scalar.is_fp8e4b15():
        return _semantic.cast(call("fp8e4b15_to_fp32", value, tl.float32), kind)
    return call("fp32_to_fp8e4b15", _semantic.cast(value, tl.float32), kind.scalar)


class CPUBackend(BaseBackend):  # type: ignore[misc]
    """Compiles for the processor that it runs on."""

    binary_ext = "so"

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        """Whether this is the backend for it."""
        return bool(target.backend == "cpu")

    def hash(self) -> str:
        """What tells this compiler from others: Triton keeps what one made for the next."""
        return f"{VERSION}-{compilation.identity()}-{_own_sources()}"

    def get_target_name(self, options: Options) -> str:
        """As NVIDIA's backend calls its own, for kernels that ask."""
        return f"{self.target.backend}:{self.target.arch}"

    def parse_options(self, options: dict[str, Any]) -> Options:
        """The options of a launch."""
        return options_from(
            options,
            backend_name=self.target.backend,
            warp_size=self.target.warp_size,
            arch=str(self.target.arch),
            enable_fp_fusion=fuses_products(options.get("enable_fp_fusion")),
            check=settings.check_kernels,
        )

    def pack_metadata(self, metadata: Any) -> tuple[int, int, int]:
        """What launch hooks are told besides the rest."""
        return (metadata.num_warps, metadata.num_ctas, metadata.shared)

    def get_codegen_implementation(self, options: Options) -> dict[str, Callable[..., Any]]:
        """What the front end leaves to backends."""
        return {
            "convert_custom_types": convert_custom_types,
            "min_dot_size": self.min_dot_size,
        }

    def min_dot_size(self, left: Any, right: Any) -> tuple[int, int, int]:
        """The smallest M, N and K of `tl.dot` for operands of these types: on a CPU any."""
        return (1, 1, 1)

    def get_module_map(self) -> dict[str, ModuleType]:
        """libdevice's functions are those of NVIDIA's."""
        from triton.language.extra.cuda import libdevice

        return {"triton.language.extra.libdevice": libdevice}

    def load_dialects(self, context: Any) -> None:
        """None besides Triton's own."""

    def add_stages(self, stages: dict[str, Any], options: Options, language: Any = None) -> None:
        """TTIR, its C, and the library.

        Raises:
            NotImplementedError: the kernel is written in Gluon, which names the layouts and units of a GPU.
        """
        if getattr(language, "name", "TRITON") == "GLUON":
            raise NotImplementedError(
                "Heitu's CPU backend compiles kernels of triton.language, and this one is written in Gluon, "
                "whose layouts and units are those of one maker's GPUs. Use the library's Triton kernel."
            )
        stages["ttir"] = lambda source, metadata: self.make_ttir(source, metadata, options)
        stages["c"] = lambda source, metadata: self.make_c(source, metadata, options)
        stages["so"] = lambda source, metadata: self.make_library(source, options)

    @staticmethod
    def make_ttir(module: Any, metadata: dict[str, Any], options: Options) -> Any:
        """The passes that every backend of Triton runs; descriptors become pointers."""
        manager = ir.pass_manager(module.context)
        manager.enable_debug()
        passes.common.add_inliner(manager)
        add_pointer_passes(manager)
        passes.common.add_canonicalizer(manager)
        passes.ttir.add_combine(manager)
        passes.ttir.add_reorder_broadcast(manager)
        passes.common.add_cse(manager)
        passes.ttir.add_triton_licm(manager)
        passes.common.add_symbol_dce(manager)
        passes.ttir.add_loop_unroll(manager)
        run_passes(manager, module, "make_ttir")
        return module

    def judge(self, module: Module, metadata: dict[str, Any], options: Options) -> None:
        """Has a say before a kernel becomes C. Here: none."""

    def make_c(self, module: Any, metadata: dict[str, Any], options: Options) -> str:
        """Raises LoweringError for what a CPU has no way to do, with its place in the program."""
        parsed = read(str(module))
        place = parsed.kernel.location
        metadata["defined"] = [place.file, place.line, place.column] if place else None
        self.judge(parsed, metadata, options)
        metadata["checked_sites"] = instrument(parsed) if options.check else []
        program = lower(parsed, options.num_warps * options.warp_size)
        metadata["name"] = parsed.kernel.name
        metadata["shared"] = shared_bytes(parsed, options.num_warps)
        metadata.update(METADATA)
        metadata["scratch_bytes"] = program.scratch_bytes
        metadata["asserts"] = asserts(parsed)
        metadata["waits_for_others"] = options.launch_cooperative_grid or waits_for_others(parsed)
        metadata["written"] = written(parsed.kernel)
        metadata["global_scratch_size"] = 0
        metadata["global_scratch_align"] = 1
        metadata["profile_scratch_size"] = 0
        metadata["profile_scratch_align"] = 1
        return program.text

    @staticmethod
    def make_library(text: str, options: Options) -> bytes:
        """The library, which is compiled once for equal C, whatever the options of the launch."""
        return compilation.compile_c(text, f"-ffp-contract={'fast' if options.enable_fp_fusion else 'off'}")
