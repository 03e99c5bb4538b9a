"""MetaX: a build of torch of its own, whose device is called cuda."""

from heitu.backings.backing import Backing, Pairing, State, TorchBuild, TritonBuild, Way

BACKING = Backing(
    name="metax",
    maker="MetaX",
    way=Way.NATIVE,
    state=State.RECOGNISED,
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22: torch==2.10.0+metax3.8.1.0.
    build=TorchBuild(versions=("metax",)),
    toolkit="MACA",
    toolkit_paths=("/opt/maca",),
    toolkit_variables=("MACA_PATH",),
    pairings=(
        Pairing("2.10.0", "2.10.0+metax3.8.1.0", "MACA 3.8.1"),
        Pairing("2.8.0", "2.8.0+metax3.7.2.0", "MACA 3.7.2"),
    ),
    triton=(TritonBuild("triton", "+metax"),),
    # flagos-ai/FlagGems@ed2508b tools/run_tests.py, 2026-08-21: CUDA_VISIBLE_DEVICES is heeded in part.
    visible_devices=("MACA_VISIBLE_DEVICES",),
    nodes=("/dev/mxcd",),  # flagos-ai/Torch-FL@1adbc97 environment-variables.md, 2026-08-21
    tools=("mx-smi",),
)
