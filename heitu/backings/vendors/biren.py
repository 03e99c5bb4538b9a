"""Biren: torch_supa over BIRENSUPA."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="biren",
    maker="Biren",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # BIRENSUPA/torch-supa@68fb624, 2026-11-22. No variable that chooses devices was found.
    plugin="torch_supa",
    distribution="torch-supa",
    device="supa",
    collectives="bccl",
    shim="torch_supa.contrib.transfer_to_supa",
    autoloads=True,
    nodes=("/dev/biren/card_[0-9]*",),  # Project-HAMi/HAMi@4707fb0 docs/biren-support.md, 2026-11-22
    tools=("brsmi",),  # sgl-project/sglang PR#30607, 2026-11-22
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22.
    toolkit="BIRENSUPA",
    toolkit_paths=("/usr/local/birensupa/all/latest",),
    install="from https://github.com/BIRENSUPA/torch-supa",
    pairings=(Pairing("2.12.0", "1.0.0.21200"),),
    triton=(TritonBuild("triton", "+br2xx"), TritonBuild("br-triton")),
)
