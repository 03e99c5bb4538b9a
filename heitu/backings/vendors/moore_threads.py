"""Moore Threads: torch_musa over MUSA."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="moore_threads",
    maker="Moore Threads",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # MooreThreads/torch_musa@8b583b3, 2026-01-19: setup, README, 04_quick_start.md.
    plugin="torch_musa",
    distribution="torch-musa",
    device="musa",
    collectives="mccl",  # not on the S80 and S3000
    autoloads=True,
    visible_devices=("MUSA_VISIBLE_DEVICES",),  # containers: MTHREADS_VISIBLE_DEVICES
    shim="torchada",  # torchada 0.1.103 on PyPI, 2026-11-22
    nodes=("/dev/mtgpu.[0-9]*",),  # public report on a machine with S5000, 2026-11-22
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22.
    tools=("mthreads-gmi",),
    toolkit="MUSA",
    toolkit_paths=("/usr/local/musa",),
    toolkit_variables=("MUSA_HOME",),
    install="from https://dl.mthreads.com or its GitHub releases",
    # Its torch is patched: 2.9.1+musa5.2.0.
    pairings=(
        Pairing("2.9.1", "2.9.1", "MUSA 5.2.0"),
        Pairing("2.9.0", "2.9.0", "MUSA 4.3.6"),
        Pairing("2.7.1", "2.7.1"),
    ),
    triton=(TritonBuild("triton", "+git"),),
)
