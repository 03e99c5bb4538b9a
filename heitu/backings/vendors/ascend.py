"""Huawei Ascend: torch_npu over CANN."""

from heitu.backings.backing import Backing, Pairing, State, TritonBuild, Way

# Ascend/pytorch@b48e648 COMPATIBILITY.en.md, read 2026-11-22; 2.13.0: what its wheel on PyPI requires
# (torch==2.13.0.*, 2026-11-22); which CANN belongs to it is not said there.
PAIRINGS = (
    Pairing("2.13.0", "2.13.0"),
    Pairing("2.12.0", "2.12.0", "CANN 9.1.0"),
    Pairing("2.11.0", "2.11.0", "CANN 9.1.0"),
    Pairing("2.10.0", "2.10.0.post4", "CANN 9.1.0"),
    Pairing("2.9.0", "2.9.0.post6", "CANN 9.1.0"),
    Pairing("2.9.0", "2.9.0.post2", "CANN 9.0.0"),
    Pairing("2.9.0", "2.9.0", "CANN 8.5.0"),
    Pairing("2.8.0", "2.8.0.post4", "CANN 9.0.0"),
    Pairing("2.8.0", "2.8.0.post2", "CANN 8.5.0"),
    Pairing("2.8.0", "2.8.0", "CANN 8.3.RC1"),
    Pairing("2.7.1", "2.7.1.post8", "CANN 9.1.0"),
    Pairing("2.7.1", "2.7.1.post4", "CANN 9.0.0"),
    Pairing("2.7.1", "2.7.1.post2", "CANN 8.5.0"),
    Pairing("2.7.1", "2.7.1", "CANN 8.3.RC1"),
)

BACKING = Backing(
    name="ascend",
    maker="Huawei",
    way=Way.FORWARDED,
    # The torch_npu 2.13.0 wheel over an emulated CANN (docs/ascend.md); not on a chip.
    state=State.VERIFIED,
    # Ascend/pytorch@9e73e70, 2026-08-21: torch_npu/__init__.py, README, transfer_to_npu.py.
    plugin="torch_npu",
    distribution="torch-npu",
    device="npu",
    collectives="hccl",
    shim="torch_npu.contrib.transfer_to_npu",
    autoloads=True,  # since 2.5.1, by an entry point of torch.backends
    # ray-project/ray PR#42030, 2026-11-22; containers have ASCEND_VISIBLE_DEVICES besides (HAMi@4707fb0).
    visible_devices=("ASCEND_RT_VISIBLE_DEVICES",),
    nodes=("/dev/davinci[0-9]*",),  # flagos-ai/Torch-FL@1adbc97, 2026-08-21: environment-variables.md
    tools=("npu-smi",),  # hiascend.com: npu-smi, 2026-11-22
    toolkit="CANN",
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22, and CANN's own default.
    toolkit_paths=("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest"),
    toolkit_variables=("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"),
    version_files=("*-linux/ascend_toolkit_install.info", "version.cfg"),
    libraries=("libascendcl.so", "libhccl.so"),  # what the 2.13.0 wheel is linked with, 2026-11-22
    emulator="heitu.emulators.cann",
    # Names that the 2.13.0 wheel knows; where a generation has several, one of them.
    emulated={
        "ascend-910b1": "Ascend910B1",
        "ascend-910b2": "Ascend910B2",
        "ascend-910b3": "Ascend910B3",
        "ascend-910b4": "Ascend910B4",
        "ascend-910c": "Ascend910_9391",
        "ascend-950pr": "Ascend950PR_9579",
        "ascend-950dt": "Ascend950DT_9591",
    },
    install="pip install --no-deps torch_npu=={torch} pyyaml",
    pairings=PAIRINGS,
    triton=(TritonBuild("triton-ascend"),),  # triton-lang/triton-ascend#306, PR#395, 2026-11-22
)
