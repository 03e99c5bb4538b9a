"""Iluvatar CoreX: a build of torch of its own, whose device is called cuda."""

from heitu.backings.backing import Backing, Pairing, State, TorchBuild, TritonBuild, Way

BACKING = Backing(
    name="iluvatar",
    maker="Iluvatar CoreX",
    way=Way.NATIVE,
    state=State.RECOGNISED,
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22: torch==2.10.0+corex.4.5.0.20260804;
    # its torch.corex is True (@ed2508b runtime/common.py, 2026-08-21).
    build=TorchBuild(versions=("corex",)),
    toolkit="CoreX",
    toolkit_paths=("/usr/local/corex",),
    toolkit_variables=("COREX_ROOT",),
    pairings=(Pairing("2.10.0", "2.10.0+corex.4.5.0", "CoreX 4.5.0"),),
    triton=(TritonBuild("triton", "+corex"),),
    # flagos-ai/FlagGems@ed2508b tools/run_tests.py, 2026-08-21: it heeds CUDA_VISIBLE_DEVICES itself.
    visible_devices=("ILUVATAR_VISIBLE_DEVICES",),
    nodes=("/dev/iluvatar[0-9]*",),  # public report on a machine with it, 2026-11-22
    tools=("ixsmi",),
)
