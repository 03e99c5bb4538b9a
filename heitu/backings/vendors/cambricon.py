"""Cambricon: torch_mlu over Neuware."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

BACKING = Backing(
    name="cambricon",
    maker="Cambricon",
    way=Way.FORWARDED,
    state=State.CONTRACT,
    # Cambricon/torch_mlu@d578002, 2024-09-18: __init__.py, migration.py, test_lazy_init.py.
    plugin="torch_mlu",
    distribution="torch-mlu",
    device="mlu",
    collectives="cncl",
    shim="torch_mlu.utils.gpu_migration",
    visible_devices=("MLU_VISIBLE_DEVICES",),
    nodes=("/dev/cambricon_dev[0-9]*",),  # Cambricon's device plugin for Kubernetes, read 2026-11-22
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml and @ed2508b _cambricon, 2026-08-21.
    tools=("cnmon",),
    toolkit="Neuware",
    toolkit_paths=("/usr/local/neuware",),
    toolkit_variables=("NEUWARE_HOME",),
    install="from Cambricon (its wheels are not on PyPI)",
    pairings=(
        Pairing("2.11.0", "1.33.1", "Neuware 4.7.2"),
        Pairing("2.7.1", "1.29.2", "Neuware 4.4.3"),
        Pairing("2.4.1", "1.25.0"),  # Cambricon/torch_mlu@9e95f97, 2025-02-17
    ),
    triton=(TritonBuild("triton", "+mlu"),),
)
