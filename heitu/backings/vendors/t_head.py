"""Alibaba T-Head PPU: a build of torch of its own, whose device is called cuda."""

from heitu.backings.backing import Backing, Pairing, State, TorchBuild, TritonBuild, Way

BACKING = Backing(
    name="t_head",
    maker="Alibaba T-Head",
    way=Way.NATIVE,
    state=State.RECOGNISED,
    # t-head/pytorch-for-sail, 2026-11-22: torch.version.sail; wheels: flagos-ai/FlagGems@0b1460c, 2026-11-22.
    build=TorchBuild(versions=("ppu",), fields=("sail",)),
    toolkit="PPU SDK",
    toolkit_paths=("/usr/local/PPU_SDK",),
    toolkit_variables=("PPU_SDK",),
    pairings=(Pairing("2.10.0", "2.10.0+v0.1.0.ppu2.1.1", "PPU SDK 2.1.1"),),
    triton=(TritonBuild("triton", "ppu"),),
    visible_devices=("CUDA_VISIBLE_DEVICES",),  # flagos-ai/FlagGems@ed2508b tools/run_tests.py, 2026-08-21
    nodes=("/dev/alixpu*",),  # public report on a PPU machine, 2026-11-22
    tools=("ppu-smi",),  # T-Head SAIL documents, 2026-11-22
)
