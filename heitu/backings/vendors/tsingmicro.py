"""Tsingmicro: torch_txda over the TX8 SDK."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="tsingmicro",
    maker="Tsingmicro",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22; @ed2508b tools/, 2026-08-21.
    plugin="torch_txda",
    distribution="torch-txda",
    device="txda",
    visible_devices=("TXDA_VISIBLE_DEVICES",),
    tools=("tsm_smi",),
    toolkit="TX8",
    toolkit_paths=("/usr/local/kuiper",),
    toolkit_variables=("KUIPER_PATH",),
    # What nccl becomes in its redirection: FlagCX over TCCL (public analysis of its wheel, 2026-11-22).
    collectives="flagcx",
    shim="torch_txda.transfer_to_txda",  # flagos-ai/Megatron-LM-FL@175ae90 platform_txda.py, 2026-11-22
    install="from Tsingmicro (with its TX8 SDK)",
    pairings=(Pairing("2.7.0", "0.1.0+20260615"),),
    triton=(TritonBuild("triton", "+git"),),
)
