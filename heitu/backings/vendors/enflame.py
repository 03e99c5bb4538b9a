"""Enflame: torch_gcu over TopsRider."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="enflame",
    maker="Enflame",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # EnflameTechnology/vllm-gcu@7b5aaca; flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22.
    plugin="torch_gcu",
    distribution="torch-gcu",
    device="gcu",
    visible_devices=("TOPS_VISIBLE_DEVICES",),
    # flagos-ai/FlagCX@0c72129, 2026-08-22; flagos-ai/Megatron-LM-FL PR#45, 2026-11-22.
    collectives="eccl",
    shim="torch_gcu.transfer_to_gcu",
    nodes=("/dev/gcu[0-9]*",),  # flagos-ai/Torch-FL: CI script for the S60, 2026-11-22
    tools=("efsmi",),  # flagos-ai/FlagGems@ed2508b tools/gpu_check_enflame.sh, 2026-08-21
    toolkit="TopsRider",
    install="from Enflame (TopsRider; its wheels are not on PyPI)",
    pairings=(
        Pairing("2.11.0", "2.11.0+3.8.20260713", "TopsRider 1.10.6"),
        Pairing("2.10.0", "2.10.0+3.7.20260408", "TopsRider 1.9.10"),
    ),
    triton=(TritonBuild("triton-gcu"),),  # beside mainline's, as triton_gcu
)
