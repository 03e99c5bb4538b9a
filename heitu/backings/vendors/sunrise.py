"""Sunrise: torch_ptpu over TANG."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="sunrise",
    maker="Sunrise",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22; @ed2508b tools/, 2026-08-21.
    plugin="torch_ptpu",
    distribution="torch-ptpu",
    device="ptpu",
    visible_devices=("TANG_VISIBLE_DEVICES",),
    tools=("pt_smi", "pt-smi"),
    toolkit="TANG",
    toolkit_paths=("/usr/local/tangrt",),
    # It lacks reduce_scatter_tensor, all_to_all_single and the coalesced ones: flagos-ai/Megatron-LM-FL#183.
    collectives="pccl",
    nodes=("/dev/tang[0-9]*",),  # public report on a machine with it, 2026-11-22
    install="from Sunrise (its wheels are not on PyPI)",
    pairings=(Pairing("2.11.0", "0.2.3"),),
    triton=(TritonBuild("triton", "3.6.0.1"),),
)
